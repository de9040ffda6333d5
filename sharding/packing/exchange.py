"""Two folders change places: whoever opens one of the names finds the one or the other, never neither."""

import ctypes
import errno
import os
from pathlib import Path

ASIDE = ".former"  #: beside the other one, while three renames exchange the two

_AT_FDCWD = -100  # linux/fcntl.h
_RENAME_EXCHANGE = 2  # linux/fs.h
_UNKNOWN = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # of a kernel or a file system that cannot do it


def exchange(one: Path, other: Path) -> bool:
    """Let two folders of one file system change places; whether it was done in a single step.

    Linux does it in one (renameat2), on most file systems. Where it cannot, three renames do; what is left when they
    are broken off, `recover` puts right. The folder that ``other`` lies in must be the caller's own.

    Raises:
        OSError: a folder is missing, a mount point, or may not be renamed.
    """
    try:
        _exchange_at_once(one, other)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
        aside = _aside(other)
        one.rename(aside)
        other.rename(one)
        aside.rename(other)
        return False
    return True


def recover(one: Path, other: Path) -> None:
    """Put right what `exchange` left when it was broken off: ``one`` is there again, the old one or the new.

    Where it is the new one, the old one may be left beside ``other``, under the name of `ASIDE`.
    """
    aside = _aside(other)
    if not os.path.lexists(one) and aside.is_dir() and not aside.is_symlink():
        aside.rename(one)


def _exchange_at_once(one: Path, other: Path) -> None:
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:  # a C library from before 2018
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(one))
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one), None, str(other))


def _aside(other: Path) -> Path:
    return other.with_name(ASIDE)

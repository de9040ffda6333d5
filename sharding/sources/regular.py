"""Sources are regular files: a named pipe keeps a reader waiting for a writer, and a device may never end.

What we open ourselves is opened so that it cannot wait, and asked what it is once it is open. What a library opens by
its path (FFmpeg) is asked right before.
"""

import errno
import io
import os
import stat
from pathlib import Path
from typing import BinaryIO, cast

from sharding.sources.packed import Section, opened_file, packed_of

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


class NotRegularError(OSError):
    """Neither a regular file nor a link to one; ``strerror`` says what it is.

    ``errno`` is ENXIO, which is what opening such things without waiting gives: it says something of this file alone.
    """


def not_regular(mode: int) -> str:
    """What something that is no regular file is, for a person: its ``st_mode`` tells."""
    return f"{_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a regular file"


def require_regular(path: Path) -> None:
    """Raises OSError where there is no regular file; links are followed, nothing is opened. Of a file in a tar, the tar
    has to be one."""
    path = opened_file(path)
    _require(path.stat().st_mode, path)


def open_regular(path: Path) -> BinaryIO:
    """A regular file, or a file in a tar that is one, open for reading. It never waits for anybody.

    Raises:
        OSError: it is not there, cannot be read, or is something else (`NotRegularError`).
    """
    packed = packed_of(path)
    if packed is not None:
        return cast(BinaryIO, io.BufferedReader(Section(open_regular(packed.archive), packed)))
    require_regular(path)  # before it is opened: with some devices opening alone does something
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _require(os.fstat(descriptor).st_mode, path)  # it may have become a pipe since
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _require(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise NotRegularError(errno.ENXIO, not_regular(mode), str(path))

"""What cannot be read: is it the file, which is rejected, or its file system, which stops the build?"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loaders.errors import InputError
from sharding.utterance import readable

# What may be wrong with one file or folder alone, and stay so: whoever takes it away, or its rights, means it. All else
# (EIO, ESTALE, ENOTCONN, ETIMEDOUT, EMFILE, …) is its file system's or this machine's, and may be over in a minute.
_OF_ONE_FILE = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO),
        *(errno.EACCES, errno.EPERM),
    }
)


class SourceError(InputError):
    """A source that could be read cannot be any more, or is not what it was: the build stops, and can be run again."""


def is_of_one_file(error: OSError) -> bool:
    """Whether an error says something of the file that it names; otherwise its whole file system may be gone."""
    return error.errno in _OF_ONE_FILE


@contextmanager
def failures_named(path: Path) -> Iterator[None]:
    """Turn an error of the file system, met while ``path`` is read, into a `SourceError`; errors of one file pass."""
    try:
        yield
    except OSError as error:
        if is_of_one_file(error):
            raise
        raise SourceError(
            f"{readable(error.filename or path)}: {error.strerror or error}: see to its file system and run the build "
            "again, it goes on from here",
            try_again=True,
        ) from error

"""A file for FFmpeg to read, which takes most errors of reading for the file's end, and does not tell."""

import errno
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar, cast

from sharding.sources.packed import Section, opened_file, packed_of

R = TypeVar("R")


class WatchedFile:
    """A file open for reading. Leaving it as a context raises the first error of reading, whatever became of it.

    To FFmpeg a failed read looks like the end: what comes of it is a shorter film, or a broken one, and not to be used.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError: it does not open."""
        self.name = str(path.absolute())  # FFmpeg tells some formats by the suffix
        self._error: OSError | None = None
        packed = packed_of(path)
        whole = cast(BinaryIO, opened_file(path).open("rb", buffering=0))
        self._file = whole if packed is None else Section(whole, packed)

    def __enter__(self) -> Self:
        """The file itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it.

        Raises:
            OSError: reading failed.
        """
        self._file.close()
        if self._error is not None:
            raise self._error

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end, and where reading fails."""
        try:
            return self._file.read(size) or b""
        except OSError as error:
            return self._failed(error, b"")

    def seek(self, offset: int, whence: int) -> int:
        """The new place; -1 where there is none."""
        try:
            return self._file.seek(offset, whence)
        except OSError as error:
            # A place before the beginning: what the file says of itself is wrong.
            return -1 if error.errno == errno.EINVAL else self._failed(error, -1)

    def tell(self) -> int:
        """The place."""
        return self._file.tell()

    def _failed(self, error: OSError, result: R) -> R:
        if self._error is None:
            self._error = OSError(error.errno, error.strerror, self.name)
        return result

"""A shard that is open for reading, for as long as anybody refers to it.

Files are read, not mapped: reading past the end of a map whose file was cut in the meantime is a signal that kills the
process, and what was checked in a map may be other bytes by the time they are used. What is read into memory of our
own is checked there, and stays.
"""

import os
import time
from collections.abc import Callable

_QUIET = 500_000_000  # nanoseconds after which a file is taken for written


class ShardFile:
    """An open file. Several threads may read from it; it is closed with the last reference to it."""

    __slots__ = ("_descriptor", "_written", "nbytes")

    def __init__(self, descriptor: int) -> None:
        """``descriptor``: of the operating system; from now on this object's to close."""
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self.nbytes = status.st_size  #: when it was opened
        self._written = status.st_mtime_ns

    def fileno(self) -> int:
        """The descriptor, valid while this object is."""
        return self._descriptor

    def being_written(self) -> bool:
        """Whether it was written to since it was opened, and a moment ago: by `cp` or a restore, in place."""
        written = os.fstat(self._descriptor).st_mtime_ns
        return written != self._written and abs(time.time_ns() - written) < _QUIET

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self._descriptor)


def read_into(file: ShardFile, memory: memoryview, offset: int) -> int:
    """Fill ``memory`` from ``offset`` bytes into the file.

    Returns:
        How many bytes there were, fewer where the file ends before.

    Raises:
        OSError: they cannot be read.
    """
    done = 0
    while done < len(memory):
        read = os.preadv(file.fileno(), [memory[done:]], offset + done)
        if read == 0:
            break
        done += read
    return done

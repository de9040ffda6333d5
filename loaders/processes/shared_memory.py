"""Memory that another process can be given, by the descriptor of a file that has no name."""

import ctypes
import errno
import itertools
import mmap
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CLOSE_ON_EXEC = 1  # MFD_CLOEXEC of linux/memfd.h
_numbers = itertools.count()


class SharedMemory(mmap.mmap):
    """Zeros at first; it ends with the last reference to it in any process, and leaves nothing behind.

    Nothing of it lies in /dev/shm, which a container may have little of. It has two descriptors open: its own, and one
    of `mmap`.
    """

    descriptor: int = -1  #: of the file, this object's own
    number: int  #: no other memory of this process has it, also when this one is gone
    address: int  #: of its first byte, here

    def __new__(cls, length: int) -> "SharedMemory":
        """``length``: in bytes, above 0. Raises OSError where there can be none."""
        descriptor = _unnamed_file()
        try:
            os.ftruncate(descriptor, length)
            memory = super().__new__(cls, descriptor, length)
        except BaseException:
            os.close(descriptor)
            raise
        memory.descriptor = descriptor
        memory.number = next(_numbers)
        memory.address = np.frombuffer(memory, np.uint8).ctypes.data
        return memory

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if self.descriptor >= 0:
            close(self.descriptor)


def where(array: NDArray[Any]) -> tuple[SharedMemory, int] | None:
    """The shared memory that an array lies in, and at which byte it begins there; None where it lies in none."""
    owner: Any = array
    while owner is not None and not isinstance(owner, SharedMemory):
        owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
    return None if owner is None else (owner, array.ctypes.data - owner.address)


def _unnamed_file() -> int:
    """A descriptor, closed where another program is executed."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("filmstrip", _CLOSE_ON_EXEC)
    # Pythons that are built for old systems lack it, on a system that has it.
    try:
        create = ctypes.CDLL(None, use_errno=True).memfd_create
    except AttributeError:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    descriptor = int(create(b"filmstrip", _CLOSE_ON_EXEC))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor

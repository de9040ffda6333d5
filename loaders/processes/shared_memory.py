"""Memory that another process can be given, by the descriptor of a file that has no name."""

import itertools
import mmap
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

_numbers = itertools.count()


class SharedMemory(mmap.mmap):
    """Zeros at first; it ends with the last reference to it in any process, and leaves nothing behind.

    Nothing of it lies in /dev/shm, which a container may have little of.
    """

    descriptor: int  #: of the file, this object's own
    number: int  #: no other memory of this process has it, also when this one is gone
    address: int  #: of its first byte, here

    def __new__(cls, length: int) -> "SharedMemory":
        """``length``: in bytes, above 0."""
        descriptor = os.memfd_create("filmstrip", os.MFD_CLOEXEC)
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

    def __del__(self) -> None:
        os.close(self.descriptor)


def where(array: NDArray[Any]) -> tuple[SharedMemory, int] | None:
    """The shared memory that an array lies in, and at which byte it begins there; None where it lies in none."""
    owner: Any = array
    while owner is not None and not isinstance(owner, SharedMemory):
        owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
    return None if owner is None else (owner, array.ctypes.data - owner.address)

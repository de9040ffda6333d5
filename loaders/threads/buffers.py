"""Memory that is used again when nothing refers to it any more.

Fresh pages have to be cleared by the kernel at their first touch: for a batch of frames that is 19,000 pages, and for
the bytes that it is decoded from it took longer than their checksums. What was held at once and is needed no more goes
back to the system after a while.
"""

import math
import mmap
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)

_LINE = 64  # bytes
_HUGE = 4 << 20  # bytes
_WHILE = 16  # loans: a buffer that lay idle through as many is not needed


def private_memory(length: int) -> mmap.mmap:
    """Memory of this process, by itself: what is freed to the allocator need not go back to the system."""
    return mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class _Loan(weakref.ref[NDArray[Any]]):
    """What is lent, and the memory that it lies in.

    What it calls when the loan ends is no function of Python's, for an interrupt (Ctrl-C) that comes while such a one
    runs in a reference's stead is printed and lost, and the program goes on.
    """

    __slots__ = ("buffer",)
    buffer: NDArray[np.uint8]


class Buffers(Generic[T]):
    """Arrays of rows of one shape, lent until nothing refers to what was lent, nor to anything that was made of it."""

    def __init__(
        self,
        row: tuple[int, ...],
        dtype: type[T],
        offset: int = 0,
        memory: Callable[[int], mmap.mmap] = private_memory,
    ) -> None:
        """
        Args:
            row: shape of a row.
            dtype: of the elements.
            offset: bytes by which the first row begins after a multiple of 64.
            memory: makes some, of so many bytes or more.
        """
        self._memory = memory
        self._row, self._dtype, self._offset = row, np.dtype(dtype), offset
        self._row_bytes = math.prod(row) * self._dtype.itemsize
        self._lent: dict[int, _Loan] = {}  # by identity: a reference that nobody holds calls nothing
        self._free: deque[_Loan] = deque()  # whose end has come, the latest at the right
        self._loans = 0  # since the idle ones were counted from
        self._idle = 0  # the fewest that were free at once in these

    def lend(self, rows: int) -> NDArray[T]:
        """An array (rows, *row); what it holds is undefined."""
        needed = rows * self._row_bytes
        self._trim()
        try:
            buffer = self._taken_back(self._free.pop())
        except IndexError:
            buffer = np.empty(0, np.uint8)
        if len(buffer) < needed:
            buffer = self._allocate(needed + needed // 8)  # the next may be a little larger
        # A view keeps alive the array that it was made of, and torch keeps the view: an array over the buffer's memory
        # that only the borrower knows ends with the last of them. (A view of `buffer` would be taken for one of its
        # owner's, and end early.)
        lent = np.frombuffer(buffer.data, self._dtype, math.prod((rows, *self._row)))
        loan = _Loan(lent, self._free.append)
        loan.buffer = buffer
        self._lent[id(loan)] = loan
        return lent.reshape(rows, *self._row)

    def let_go(self) -> None:
        """Keep nothing to lend again; what is lent lives on with its borrowers, and ends with them."""
        self._lent.clear()
        self._free.clear()

    def _taken_back(self, loan: _Loan) -> NDArray[np.uint8]:
        """The memory of a loan that has ended."""
        self._lent.pop(id(loan), None)  # another thread may have let it go
        return loan.buffer

    def _trim(self) -> None:
        """Let go of those that were free all the time."""
        self._idle = min(self._idle, len(self._free))
        self._loans += 1
        if self._loans >= _WHILE:
            with suppress(IndexError):  # another thread borrows meanwhile
                for _ in range(self._idle - 1):  # but one, for a step that takes longer than others
                    self._taken_back(self._free.popleft())
            self._loans, self._idle = 0, len(self._free)

    def _allocate(self, length: int) -> NDArray[np.uint8]:
        made = self._memory(length + 2 * _LINE)
        if length >= _HUGE:
            made.madvise(mmap.MADV_HUGEPAGE)  # as numpy has it for its arrays
        memory = np.frombuffer(made, np.uint8)
        first = -memory.ctypes.data % _LINE + self._offset
        return memory[first : first + length]

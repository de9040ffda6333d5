"""Who reads members: the thread that asks for them; or a process, see `loaders.processes.pool`."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from loaders.processes.members import read_and_check

#: Of members, one entry each: which descriptor, offset, size, checksum, start; int64, checksums uint64.
Columns = Sequence[NDArray[np.int64] | NDArray[np.uint64]]


class ReadAndCheck(Protocol):
    """What reads members of shards that are open, see `loaders.processes.members.read_and_check`."""

    def __call__(self, descriptors: Sequence[int], members: Columns, memory: NDArray[np.uint8]) -> list[int]:
        """Which of them could not be read, or are not what they were."""


def by_this_thread(descriptors: Sequence[int], members: Columns, memory: NDArray[np.uint8]) -> list[int]:
    """Read members here; while bytes move, other threads run."""
    return read_and_check(descriptors, [column.tolist() for column in members], memory.data)

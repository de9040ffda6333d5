"""The order of clips that lie in shards, of which only some are at hand at a time.

A cycle goes through every clip once. The shards are permuted and taken a window at a time; within a window the clips
are permuted over all its shards. With one window over all shards this is a true global shuffle; with a few remote
shards a window, only those must be on the local disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from loaders import randomness
from loaders.order import permute


@dataclass(frozen=True, slots=True)
class Window:
    """Shards that are at hand together, in one cycle."""

    shards: NDArray[np.int64]  #: numbers, in the order in which their clips are counted
    first: int  #: place in the cycle of the window's first clip
    clips: int


class WindowedOrder:
    """Place in a cycle → catalog row, for some shards of a catalog that is sorted by shard."""

    def __init__(
        self,
        shards: Sequence[int],
        first_row: NDArray[np.int64],
        clips: NDArray[np.int64],
        window: int | None,
        key: int,
    ) -> None:
        """
        Args:
            shards: numbers of the shards to go through.
            first_row: (S,) the catalog row of each shard's first clip, over all shards of the catalog.
            clips: (S,) how many clips each one has.
            window: shards at hand at a time; None: all.
            key: of the permutations.
        """
        self._shards = np.asarray(shards, np.int64)
        self._first_row, self._clips = first_row, clips
        self._window = len(self._shards) if window is None else min(window, len(self._shards))
        self._key = key
        self.clips = int(clips[self._shards].sum())
        # Two cycles at most are in use at once: reading runs ahead of an epoch's end.
        self._windows = lru_cache(maxsize=3)(self._make_windows)

    def windows(self, cycle: int) -> list[Window]:
        """The windows of a cycle, in order."""
        return self._windows(cycle)

    def at(self, cycle: int, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The clips at places of a cycle, and the number of the window of each.

        Args:
            cycle: 0, 1, …
            places: (n,) in [0, clips).
        """
        windows = self.windows(cycle)
        firsts = np.array([window.first for window in windows])
        number = np.searchsorted(firsts, places, side="right") - 1
        rows = np.empty(len(places), np.int64)
        for which in np.unique(number):
            here = number == which
            rows[here] = self._rows(cycle, int(which), places[here] - windows[which].first)
        return rows, number.astype(np.int64)

    def rows(self, cycle: int, number: int) -> NDArray[np.int64]:
        """All rows of a window, in catalog order within each shard."""
        window = self.windows(cycle)[number]
        return np.concatenate([np.arange(self._clips[s]) + self._first_row[s] for s in window.shards])

    def _rows(self, cycle: int, number: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        window = self.windows(cycle)[number]
        shuffled = permute(places, window.clips, randomness.key(self._key, cycle, number))
        ends = np.cumsum(self._clips[window.shards])
        slot = np.searchsorted(ends, shuffled, side="right")
        inside = shuffled - (ends - self._clips[window.shards])[slot]
        rows: NDArray[np.int64] = self._first_row[window.shards[slot]] + inside
        return rows

    def _make_windows(self, cycle: int) -> list[Window]:
        count = len(self._shards)
        if self._window == count:
            # The order of the shards is of no account to a permutation over all their clips.
            return [Window(self._shards, 0, self.clips)]
        order = permute(np.arange(count), count, randomness.key(self._key, cycle, "shards"))
        windows, first = [], 0
        for start in range(0, count, self._window):
            shards = self._shards[order[start : start + self._window]]
            clips = int(self._clips[shards].sum())
            windows.append(Window(shards, first, clips))
            first += clips
        return windows


def interleave(lengths: Sequence[int], places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lay sequences of these lengths into one, each spread evenly and kept in its own order.

    Bresenham's line, one sequence against the rest at a time: of the first p places, a sequence of n out of N has
    taken floor(p·n/N). So where a sequence stands at any place is known without walking there.

    Args:
        lengths: of the sequences, their sum below 3·10⁹; places of the whole are 0 … sum − 1.
        places: (n,) in the whole.

    Returns:
        which: (n,) the sequence at each place; index: (n,) the place within it.
    """
    which = np.full(len(places), len(lengths) - 1, np.int64)
    index = places.copy()
    undecided = np.arange(len(places))
    rest = sum(lengths)
    for number, length in enumerate(lengths[:-1]):
        here = index[undecided]
        before, after = here * length // rest, (here + 1) * length // rest
        taken = after > before
        which[undecided[taken]] = number
        index[undecided[taken]] = before[taken]
        index[undecided[~taken]] = here[~taken] - before[~taken]
        undecided = undecided[~taken]
        rest -= length
    return which, index

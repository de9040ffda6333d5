"""The order of clips that lie in shards, of which only some are at hand at a time.

A cycle goes through every clip once. The shards are permuted and taken a window at a time; within a window the clips
are permuted over all its shards. With one window over all shards that is a true shuffle of everything; with windows of
a few remote shards, only those must be on the local disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from loaders.sampling import randomness
from loaders.sampling.order import permute


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Shards that are at hand together, for a part of a cycle."""

    cycle: int  #: 0 where the window is the same in every cycle
    number: int  #: within the cycle
    first: int  #: place in the cycle of the window's first clip
    shards: NDArray[np.int64]  #: (k,) numbers, in the order in which their clips are counted
    first_row: NDArray[np.int64]  #: (k,) catalog row of each shard's first clip
    ends: NDArray[np.int64]  #: (k,) clips up to and with each shard

    @property
    def clips(self) -> int:
        """Clips in all its shards."""
        return int(self.ends[-1])

    def row(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Catalog rows of the window's clips, counted through its shards: (n,) in [0, clips) → (n,)."""
        slot = np.searchsorted(self.ends, index, side="right")
        before = np.where(slot > 0, self.ends[slot - 1], 0)
        rows: NDArray[np.int64] = self.first_row[slot] + index - before
        return rows


class WindowedOrder:
    """Place in a cycle → catalog row, over some shards of a catalog that is sorted by shard."""

    def __init__(
        self,
        shards: Sequence[int] | NDArray[np.int64],
        first_row: NDArray[np.int64],
        clips: NDArray[np.int64],
        *,
        window: int | None,
        key: int,
        shuffle: bool = True,
    ) -> None:
        """
        Args:
            shards: numbers of the shards to go through.
            first_row: (S,) the catalog row of each shard's first clip, over all S shards of the catalog.
            clips: (S,) how many clips each one has.
            window: shards at hand at a time; None: all of them.
            key: of the permutations.
            shuffle: False goes through shards and clips as they are listed, in every cycle.
        """
        self._shards = np.asarray(shards, np.int64)
        self._first_row, self._clips = first_row, clips
        self._window = len(self._shards) if window is None else min(window, len(self._shards))
        self._key, self._shuffle = key, shuffle
        self.clips = int(clips[self._shards].sum())
        # Two cycles are in use at a time at most: reading runs ahead of an epoch's end.
        self._windows = lru_cache(maxsize=3)(self._make_windows)

    def windows(self, cycle: int) -> list[Window]:
        """The windows of a cycle, in order."""
        fixed = self._window == len(self._shards) or not self._shuffle
        return self._windows(0 if fixed else cycle)

    def after(self, cycle: int, number: int) -> Window:
        """The window that follows one."""
        windows = self.windows(cycle)
        return windows[number + 1] if number + 1 < len(windows) else self.windows(cycle + 1)[0]

    def at(self, cycle: int, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The clips at places of a cycle.

        Args:
            cycle: 0, 1, …
            places: (n,) in [0, clips).

        Returns:
            rows: (n,) of the catalog; window: (n,) number of the window in the cycle that each place is in.
        """
        windows, number = self.windows(cycle), self.window_at(cycle, places)
        rows = np.empty(len(places), np.int64)
        for which in np.unique(number).tolist():
            here = number == which
            index = places[here] - windows[which].first
            if self._shuffle:
                index = permute(index, windows[which].clips, randomness.key(self._key, cycle, which))
            rows[here] = windows[which].row(index)
        return rows, number

    def window_at(self, cycle: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of the window in the cycle that each place is in: (n,) in [0, clips) → (n,)."""
        firsts = np.array([window.first for window in self.windows(cycle)])
        number: NDArray[np.int64] = np.searchsorted(firsts, places, side="right") - 1
        return number

    def _make_windows(self, cycle: int) -> list[Window]:
        count = len(self._shards)
        order = np.arange(count)
        # Where all shards are in one window, their order is of no account to a permutation over all their clips.
        if self._shuffle and self._window < count:
            order = permute(order, count, randomness.key(self._key, cycle, "shards"))
        windows: list[Window] = []
        first = 0
        for start in range(0, count, self._window):
            shards = self._shards[order[start : start + self._window]]
            window = Window(
                cycle=cycle,
                number=len(windows),
                first=first,
                shards=shards,
                first_row=self._first_row[shards],
                ends=np.cumsum(self._clips[shards]),
            )
            windows.append(window)
            first += window.clips
        return windows

"""Sounds dealt out among clips: every clip gets one of another video, and every sound goes to exactly one clip.

Were a negative's sound drawn by itself for each picture, the sounds of a long video would come more often with their
own pictures than with others', and a sound alone would tell whether the pair matches. So the sounds of an epoch's
negatives come from one bijection of all clips. Whether a position matches is a coin of its own, so the chance that a
sound is heard in a match is the chance that it is heard in a negative: exactly one half.

The bijection is computed, not stored. Of a group of n clips, those that may not be paired (of one video, say) are a
*run*. The group is listed run by run, in an order that is shuffled anew each time, and every run is turned by a random
number of places. With a stride M of at least the longest run, the places c, c + M, c + 2M, … hold clips of different
runs, whatever c is; turning each of these classes by a random number of steps, none of them back to where it was, pairs
every clip with one of another run. There is such a stride where no run has more than half of the group: M ≤ n / 2.
Where one has, no bijection avoids it, and sounds are drawn evenly from those allowed.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.sampling import randomness

_KEPT = 3  # shuffled lists: an epoch's, the next one's, and one for substitutes


def index_type(count: int) -> type[np.integer[Any]]:
    """32 bits where they suffice: a corpus of 10⁷ clips has several such columns."""
    return np.int32 if count < 1 << 31 else np.int64


@dataclass(frozen=True, slots=True)
class _Shuffled:
    """The list in the order of one dealing, of runs: (R,) each."""

    start: NDArray[np.int64]  #: where each run begins in it
    turn: NDArray[np.int64]  #: by how many places each run is turned
    stride: NDArray[np.int64]  #: of each run's group
    sequence: NDArray[np.int64]  #: the runs as they stand in it
    starts: NDArray[np.int64]  #: where they begin, ascending


class Dealing:
    """Deals out the sounds of some clips within groups, avoiding runs."""

    def __init__(self, group: NDArray[np.integer[Any]], run: NDArray[np.integer[Any]]) -> None:
        """
        Args:
            group: (n,) equal numbers may be paired, unless they are of one run.
            run: (n,) which of a group may not be paired with each other.
        """
        n = len(run)
        narrow = index_type(n)
        order = np.lexsort((run, group))
        of_group, of_run = group[order], run[order]
        heads = np.flatnonzero(np.r_[True, (of_group[1:] != of_group[:-1]) | (of_run[1:] != of_run[:-1])][:n])
        self._begin = heads.astype(np.int64)
        self._length = np.diff(np.r_[heads, n]).astype(np.int64)
        first = np.flatnonzero(np.r_[True, of_group[heads[1:]] != of_group[heads[:-1]]][: len(heads)])
        runs = np.diff(np.r_[first, len(heads)])
        self._group = np.repeat(np.arange(len(first)), runs)  # of each run
        self._group_begin = np.repeat(self._begin[first], runs)
        sizes = np.add.reduceat(self._length, first) if n else np.zeros(0, np.int64)
        longest = np.maximum.reduceat(self._length, first) if n else np.zeros(0, np.int64)
        self._size, self._longest = np.repeat(sizes, runs), np.repeat(longest, runs)
        self._balanced = 2 * self._longest <= self._size
        self._all_balanced = bool(self._balanced.all())
        self._order = order.astype(narrow)
        self._place = np.empty(n, narrow)
        self._place[order] = np.arange(n, dtype=narrow)
        self._run = np.empty(n, narrow)
        self._run[order] = np.repeat(np.arange(len(heads), dtype=narrow), self._length)
        self._shuffled: OrderedDict[int, _Shuffled] = OrderedDict()

    def offered(self) -> NDArray[np.bool_]:
        """Whether a clip has any sound that it may be paired with: (n,)."""
        served: NDArray[np.bool_] = (self._size > self._length)[self._run]
        return served

    def guess(self) -> tuple[float, float]:
        """How well a match can be guessed from the sound's run alone, and the share of pairs that this holds for.

        Returns:
            accuracy: expected, over matches and negatives of the clips that have a candidate; 0.5 where sounds are
                dealt out evenly.
            share: of the clips that are in groups in which a run has more than half.
        """
        rest = self._size - self._length
        served = rest > 0
        matches = np.where(served, self._length, 0).astype(np.float64)
        # Each clip of another run draws this run's sounds with a chance of length / what is left to it.
        share = np.divide(self._length.astype(np.float64), rest, out=np.zeros(len(rest)), where=served)
        of_group = np.bincount(self._group, share, minlength=int(self._group[-1]) + 1 if len(self._group) else 0)
        drawn = self._length.astype(np.float64) * (of_group[self._group] - share)
        negatives = np.where(self._balanced, matches, drawn)
        total = matches.sum() + negatives.sum()
        if not total:
            return 0.5, 0.0
        uneven = matches[~self._balanced].sum() / max(matches.sum(), 1)
        return float(np.maximum(matches, negatives).sum() / total), float(uneven)

    def draw(self, clips: NDArray[np.int64], key: int, counter: NDArray[np.int64]) -> NDArray[np.int64]:
        """The clip whose sound each of these clips gets; every one must have a candidate.

        Args:
            clips: (k,) of the n.
            key: of the dealing: over all clips, equal keys give every sound to exactly one of them.
            counter: (k,) for the draws of clips in groups that cannot be dealt out evenly.
        """
        if self._all_balanced:
            return self._deal(clips, key)
        even = self._balanced[self._run[clips]]
        dealt = np.empty(len(clips), np.int64)
        dealt[even] = self._deal(clips[even], key)
        dealt[~even] = self._draw_each(clips[~even], key, counter[~even])
        return dealt

    def _deal(self, clips: NDArray[np.int64], key: int) -> NDArray[np.int64]:
        shuffled = self._shuffle(key)
        run = self._run[clips]
        length, begin = self._length[run], self._group_begin[run]
        place = self._place[clips] - self._begin[run]
        place += shuffled.turn[run]
        place -= np.where(place >= length, length, 0)
        place += shuffled.start[run] - begin  # within the group
        stride, size = shuffled.stride[run], self._size[run]
        step, which = place // stride, place % stride
        count = (size - which + stride - 1) // stride
        step += 1 + randomness.below(count - 1, key, begin + which)
        step -= np.where(step >= count, count, 0)
        place = begin + which + step * stride
        at = np.searchsorted(shuffled.starts, place, side="right") - 1
        other = shuffled.sequence[at]
        place -= shuffled.starts[at] + shuffled.turn[other]
        place += np.where(place < 0, self._length[other], 0)
        dealt: NDArray[np.int64] = self._order[self._begin[other] + place].astype(np.int64)
        return dealt

    def _draw_each(self, clips: NDArray[np.int64], key: int, counter: NDArray[np.int64]) -> NDArray[np.int64]:
        """A candidate for each by itself, all equally likely: a number below how many are left, past those excluded."""
        run = self._run[clips]
        place = randomness.below(self._size[run] - self._length[run], key, counter)
        place += np.where(place >= self._begin[run] - self._group_begin[run], self._length[run], 0)
        drawn: NDArray[np.int64] = self._order[self._group_begin[run] + place].astype(np.int64)
        return drawn

    def _shuffle(self, key: int) -> _Shuffled:
        shuffled = self._shuffled.get(key)
        if shuffled is None:
            numbers = np.arange(len(self._length))
            sequence = np.lexsort((randomness.bits(randomness.key(key, "runs"), numbers), self._group))
            lengths = self._length[sequence]
            starts = np.cumsum(lengths) - lengths
            start = np.empty(len(starts), np.int64)
            start[sequence] = starts
            most = np.maximum(np.minimum(self._size // 2, 2 * self._longest), self._longest)
            shuffled = self._shuffled[key] = _Shuffled(
                start=start,
                turn=randomness.below(self._length, randomness.key(key, "turn"), numbers),
                stride=self._longest
                + randomness.below(most - self._longest + 1, randomness.key(key, "stride"), self._group),
                sequence=sequence,
                starts=starts,
            )
            if len(self._shuffled) > _KEPT:
                self._shuffled.popitem(last=False)
        else:
            self._shuffled.move_to_end(key)
        return shuffled

"""The order of an epoch over one or several datasets, in lanes.

A *lane* is a share of every dataset's shards, dealt out once for all, and its own share of every global batch: with as
many lanes as nodes, a shard is only ever read on one node. The order depends on the number of lanes, not on that of
ranks.

An epoch passes over each dataset as often as its weight says: 1 is every clip once, 0.5 every other clip now and the
rest in the next epoch, 2 every clip twice. Within a lane the datasets' clips are spread evenly among each other, by
Bresenham's rule (`interleave`), so that every stretch of the epoch has them in the proportions of the whole.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loaders.errors import InputError
from loaders.sampling import randomness
from loaders.sampling.order import steps_per_epoch
from loaders.sampling.windows import Window, WindowedOrder


@dataclass(frozen=True, slots=True)
class DatasetSize:
    """What the order has to know of a dataset."""

    clips: NDArray[np.int64]  #: (S,) in each shard; the rows of its catalog lie shard after shard
    weight: float = 1.0  #: passes over it in an epoch


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Places of one window: the unit in which audio is drawn and shards are kept at hand."""

    dataset: int
    lane: int
    window: Window

    @property
    def key(self) -> tuple[int, int, int, int]:
        """Equal for equal windows."""
        return self.dataset, self.lane, self.window.cycle, self.window.number


@dataclass(frozen=True, slots=True)
class Placed:
    """What stands at some positions of an epoch."""

    dataset: NDArray[np.int64]  #: (n,)
    row: NDArray[np.int64]  #: (n,) of the dataset's own catalog
    stretch: NDArray[np.int64]  #: (n,) which of ``stretches`` each is in
    stretches: tuple[Stretch, ...]


class MixedOrder:
    """Position in an epoch → dataset and row: a pure function of (seed, epoch, position)."""

    def __init__(
        self,
        datasets: Sequence[DatasetSize],
        *,
        seed: int,
        shuffle: bool,
        global_batch: int,
        lanes: int = 1,
        window: int | None = None,
    ) -> None:
        """
        Args:
            datasets: what to mix.
            seed: of the run.
            shuffle: False lays the datasets end to end, in catalog order, in every epoch.
            global_batch: examples a step, over all ranks.
            lanes: among which the shards and every global batch are dealt out.
            window: shards of a dataset and lane that are at hand together; None: all.

        Raises:
            InputError: lanes that the global batch or the shards cannot be dealt out to, a weight that is none, or
                fewer clips than fill a global batch.
        """
        if not shuffle and (lanes > 1 or any(dataset.weight != 1 for dataset in datasets)):
            raise InputError("lanes and weights order training only: without training, use 1 lane and weights of 1")
        if lanes < 1 or global_batch % lanes:
            raise InputError(f"lanes is {lanes} and the global batch {global_batch}: make it a multiple of the lanes")
        self._shuffle, self._lanes, self._global_batch = shuffle, lanes, global_batch
        self._orders: list[list[WindowedOrder]] = []  # by dataset and lane
        self._lengths: list[list[int]] = []  # clips of an epoch
        for number, dataset in enumerate(datasets):
            if not (np.isfinite(dataset.weight) and dataset.weight > 0):
                raise InputError(f"dataset {number + 1} has weight {dataset.weight}: use a number above 0")
            if len(dataset.clips) < lanes:
                raise InputError(
                    f"dataset {number + 1} has {len(dataset.clips)} shards for {lanes} lanes: use fewer lanes, or "
                    "build it with a smaller --shard-mb"
                )
            first_row = np.cumsum(dataset.clips) - dataset.clips
            orders = [
                WindowedOrder(
                    shards,
                    first_row,
                    dataset.clips,
                    window=window,
                    key=randomness.key(seed, "order", number, lane),
                    shuffle=shuffle,
                )
                for lane, shards in enumerate(deal_out(dataset.clips, lanes))
            ]
            self._orders.append(orders)
            self._lengths.append([max(1, round(dataset.weight * order.clips)) for order in orders])
        shortest = min(sum(lengths) for lengths in zip(*self._lengths, strict=True))
        self.steps = steps_per_epoch(shortest * lanes, global_batch, drop_remainder=shuffle)
        self.clips = self.steps * global_batch if shuffle else shortest
        if self.steps == 0:
            raise InputError(
                f"{shortest * lanes} clips are fewer than one global batch of {global_batch}: use a smaller batch_size"
            )

    def at(self, epoch: int, positions: NDArray[np.int64]) -> Placed:
        """What stands at positions of an epoch. ``positions``: (n,) in [0, clips)."""
        n = len(positions)
        dataset, row, stretch = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
        stretches: list[Stretch] = []
        for number, lane, turn, here, place in self._turns(epoch, positions):
            order = self._orders[number][lane]
            dataset[here] = number
            row[here], window = order.at(turn, place)
            for of_cycle in np.unique(window).tolist():
                stretch[here[window == of_cycle]] = len(stretches)
                stretches.append(Stretch(number, lane, order.windows(turn)[of_cycle]))
        return Placed(dataset, row, stretch, tuple(stretches))

    def stretches(self, epoch: int, positions: NDArray[np.int64]) -> tuple[Stretch, ...]:
        """The stretches that `at` would name, at a fraction of its cost."""
        return tuple(
            Stretch(number, lane, self._orders[number][lane].windows(turn)[of_cycle])
            for number, lane, turn, _, place in self._turns(epoch, positions)
            for of_cycle in np.unique(self._orders[number][lane].window_at(turn, place)).tolist()
        )

    def _turns(
        self, epoch: int, positions: NDArray[np.int64]
    ) -> Iterator[tuple[int, int, int, NDArray[np.int64], NDArray[np.int64]]]:
        """Positions sorted by what orders them: dataset, lane, cycle, which of the positions, their places in it."""
        share = self._global_batch // self._lanes
        step, within = np.divmod(positions, self._global_batch)
        lane_of = within // share
        for lane in np.unique(lane_of).tolist():
            in_lane = np.flatnonzero(lane_of == lane)
            places = step[in_lane] * share + within[in_lane] % share
            lengths = [of_lanes[lane] for of_lanes in self._lengths]
            which, index = (interleave if self._shuffle else _lay_end_to_end)(lengths, places)
            for number in np.unique(which).tolist():
                here = in_lane[which == number]
                first = epoch * lengths[number]
                cycle, place = np.divmod(first + index[which == number], self._orders[number][lane].clips)
                for turn in np.unique(cycle).tolist():
                    yield number, lane, turn, here[cycle == turn], place[cycle == turn]

    def after(self, stretch: Stretch) -> Stretch:
        """The stretch of the same dataset and lane that follows one."""
        order = self._orders[stretch.dataset][stretch.lane]
        return Stretch(stretch.dataset, stretch.lane, order.after(stretch.window.cycle, stretch.window.number))


def deal_out(clips: NDArray[np.int64], lanes: int) -> list[NDArray[np.int64]]:
    """Shards dealt out so that lanes have about as many clips: the largest first, each to the lane with the fewest
    (Graham 1969, LPT).

    Args:
        clips: (S,) in each shard.

    Returns:
        The numbers of each lane's shards, ascending.
    """
    if lanes == 1:
        return [np.arange(len(clips))]
    shards: list[list[int]] = [[] for _ in range(lanes)]
    fewest = [(0, lane) for lane in range(lanes)]
    for shard in np.argsort(-clips, kind="stable").tolist():
        held, lane = heapq.heappop(fewest)
        shards[lane].append(shard)
        heapq.heappush(fewest, (held + int(clips[shard]), lane))
    return [np.sort(np.array(of_lane, np.int64)) for of_lane in shards]


def interleave(lengths: Sequence[int], places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lay sequences of these lengths into one, each spread evenly and kept in its own order.

    One sequence against the rest at a time: of the first p places of N, a sequence of length n has taken
    floor(p·n / N) (Bresenham 1965). So what stands at a place is known without walking there.

    Args:
        lengths: of the sequences, their sum below 3·10⁹ where there are several.
        places: (n,) in [0, sum).

    Returns:
        which: (n,) the sequence at each place; index: (n,) the place within it.
    """
    which = np.full(len(places), len(lengths) - 1, np.int64)
    index = np.array(places, np.int64)
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


def _lay_end_to_end(lengths: Sequence[int], places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ends = np.cumsum(lengths)
    which = np.searchsorted(ends, places, side="right")
    return which, places - (ends - np.array(lengths))[which]

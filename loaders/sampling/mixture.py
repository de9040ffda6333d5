"""The order of an epoch over one or several datasets, in node groups.

A *node group* is a share of every dataset's shards, dealt out once for all, and its own share of every global batch:
with as many node groups as nodes, a shard is only ever read on one node. The order depends on the number of node
groups, not on that of ranks.

An epoch passes over each dataset as often as its weight says: 1 is every clip once, 0.5 every other clip now and the
rest in the next epoch, 2 every clip twice. Within a node group the datasets' clips are spread evenly among each other,
by Bresenham's rule (`interleave`), so that every run of positions has them in the proportions of the whole.
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

_LONGEST = 3_000_000_000  # clips of an epoch and node group: `interleave` multiplies two such numbers


@dataclass(frozen=True, slots=True)
class DatasetSize:
    """What the order has to know of a dataset."""

    clips: NDArray[np.int64]  #: (S,) in each shard; the rows of its catalog lie shard after shard
    weight: float = 1.0  #: passes over it in an epoch


@dataclass(frozen=True, slots=True, eq=False)
class WindowSlice:
    """Places of one window: the unit in which audio is drawn and shards are kept at hand."""

    dataset: int
    node_group: int
    window: Window

    @property
    def key(self) -> tuple[int, int, int, int]:
        """Equal for equal windows."""
        return self.dataset, self.node_group, self.window.cycle, self.window.number


@dataclass(frozen=True, slots=True)
class Placed:
    """What stands at some positions of an epoch."""

    dataset: NDArray[np.int64]  #: (n,)
    row: NDArray[np.int64]  #: (n,) of the dataset's own catalog
    window_slice: NDArray[np.int64]  #: (n,) which of ``window_slices`` each is in
    window_slices: tuple[WindowSlice, ...]


class MixedOrder:
    """Position in an epoch → dataset and row: a pure function of (seed, epoch, position)."""

    def __init__(
        self,
        datasets: Sequence[DatasetSize],
        *,
        seed: int,
        shuffle: bool,
        global_batch: int,
        node_groups: int = 1,
        window: int | None = None,
    ) -> None:
        """
        Args:
            datasets: what to mix.
            seed: of the run.
            shuffle: False lays the datasets end to end, in catalog order, in every epoch.
            global_batch: examples a step, over all ranks.
            node_groups: among which the shards and every global batch are dealt out.
            window: shards of a dataset and node group that are at hand together; None: all.

        Raises:
            InputError: node groups that the global batch or the shards cannot be dealt out to, a weight that is none,
                or fewer clips than fill a global batch.
        """
        if not shuffle and (node_groups > 1 or any(dataset.weight != 1 for dataset in datasets)):
            raise InputError(
                "node groups and weights order training only: without training, use 1 node group and weights of 1"
            )
        if node_groups < 1 or global_batch % node_groups:
            raise InputError(
                f"node_groups is {node_groups}, the global batch {global_batch}: make it a multiple of the node groups"
            )
        self._shuffle, self._node_groups, self._global_batch = shuffle, node_groups, global_batch
        self._orders: list[list[WindowedOrder]] = []  # by dataset and node group
        self._lengths: list[list[int]] = []  # clips of an epoch
        for number, dataset in enumerate(datasets):
            if not (np.isfinite(dataset.weight) and dataset.weight > 0):
                raise InputError(f"dataset {number + 1} has weight {dataset.weight}: use a number above 0")
            shards_with_clips = int(np.count_nonzero(dataset.clips))
            if shards_with_clips < node_groups:
                raise InputError(
                    f"dataset {number + 1} has {shards_with_clips} shards for {node_groups} node groups: use fewer, "
                    "or build it with a smaller --shard-mb"
                )
            first_row = np.cumsum(dataset.clips) - dataset.clips
            orders = [
                WindowedOrder(
                    shards,
                    first_row,
                    dataset.clips,
                    window=window,
                    key=randomness.key(seed, "order", number, node_group),
                    shuffle=shuffle,
                )
                for node_group, shards in enumerate(deal_out(dataset.clips, node_groups))
            ]
            self._orders.append(orders)
            self._lengths.append([max(1, round(dataset.weight * order.clips)) for order in orders])
        longest = max(sum(lengths) for lengths in zip(*self._lengths, strict=True))
        if longest > _LONGEST and any(dataset.weight > 1 for dataset in datasets):
            raise InputError(f"weights make an epoch of {longest} clips, and more than {_LONGEST}: use smaller ones")
        shortest = min(sum(lengths) for lengths in zip(*self._lengths, strict=True))
        self.steps = steps_per_epoch(shortest * node_groups, global_batch, drop_remainder=shuffle)
        self.clips = self.steps * global_batch if shuffle else shortest
        if self.steps == 0:
            raise InputError(
                f"{shortest * node_groups} clips are fewer than one global batch of {global_batch}: use a smaller "
                "batch_size"
            )

    def at(self, epoch: int, positions: NDArray[np.int64]) -> Placed:
        """What stands at positions of an epoch. ``positions``: (n,) in [0, clips)."""
        n = len(positions)
        dataset, row, window_slice = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
        window_slices: list[WindowSlice] = []
        for number, node_group, turn, here, place in self._turns(epoch, positions):
            order = self._orders[number][node_group]
            dataset[here] = number
            row[here], window = order.at(turn, place)
            for of_cycle in np.unique(window).tolist():
                window_slice[here[window == of_cycle]] = len(window_slices)
                window_slices.append(WindowSlice(number, node_group, order.windows(turn)[of_cycle]))
        return Placed(dataset, row, window_slice, tuple(window_slices))

    def window_slices(self, epoch: int, positions: NDArray[np.int64]) -> tuple[WindowSlice, ...]:
        """The window slices that `at` would name, at a fraction of its cost."""
        return tuple(
            WindowSlice(number, node_group, self._orders[number][node_group].windows(turn)[of_cycle])
            for number, node_group, turn, _, place in self._turns(epoch, positions)
            for of_cycle in np.unique(self._orders[number][node_group].window_at(turn, place)).tolist()
        )

    def _turns(
        self, epoch: int, positions: NDArray[np.int64]
    ) -> Iterator[tuple[int, int, int, NDArray[np.int64], NDArray[np.int64]]]:
        """Positions sorted by what orders them: dataset, node group, cycle, which positions, their places in it."""
        share = self._global_batch // self._node_groups
        step, within = np.divmod(positions, self._global_batch)
        node_group_of = within // share
        for node_group in np.unique(node_group_of).tolist():
            in_node_group = np.flatnonzero(node_group_of == node_group)
            places = step[in_node_group] * share + within[in_node_group] % share
            lengths = [of_node_groups[node_group] for of_node_groups in self._lengths]
            which, index = (interleave if self._shuffle else _lay_end_to_end)(lengths, places)
            for number in np.unique(which).tolist():
                here = in_node_group[which == number]
                first = epoch * lengths[number]
                cycle, place = np.divmod(first + index[which == number], self._orders[number][node_group].clips)
                for turn in np.unique(cycle).tolist():
                    yield number, node_group, turn, here[cycle == turn], place[cycle == turn]

    def after(self, window_slice: WindowSlice) -> WindowSlice:
        """The window slice of the same dataset and node group that follows one."""
        order = self._orders[window_slice.dataset][window_slice.node_group]
        return WindowSlice(
            window_slice.dataset,
            window_slice.node_group,
            order.after(window_slice.window.cycle, window_slice.window.number),
        )


def deal_out(clips: NDArray[np.int64], node_groups: int) -> list[NDArray[np.int64]]:
    """Shards dealt out so that node groups have about as many clips: the largest first, each to the node group with the
    fewest (Graham 1969, LPT).

    Args:
        clips: (S,) in each shard.

    Returns:
        The numbers of each node group's shards, ascending.
    """
    if node_groups == 1:
        return [np.arange(len(clips))]
    shards: list[list[int]] = [[] for _ in range(node_groups)]
    fewest = [(0, node_group) for node_group in range(node_groups)]
    for shard in np.argsort(-clips, kind="stable").tolist():
        held, node_group = heapq.heappop(fewest)
        shards[node_group].append(shard)
        heapq.heappush(fewest, (held + int(clips[shard]), node_group))
    return [np.sort(np.array(of_node_group, np.int64)) for of_node_group in shards]


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

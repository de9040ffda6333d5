"""An epoch passes over every dataset as often as its weight says, evenly, and node groups keep their shards apart."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loaders.errors import InputError
from loaders.sampling.mixture import DatasetSize, MixedOrder, WindowSlice, deal_out, interleave

shard_sizes = st.lists(st.integers(1, 30), min_size=1, max_size=12)


def size(*clips: int, weight: float = 1.0) -> DatasetSize:
    return DatasetSize(np.array(clips, np.int64), weight)


def whole_epoch(order: MixedOrder, epoch: int) -> list[tuple[int, int]]:
    placed = order.at(epoch, np.arange(order.clips))
    return list(zip(placed.dataset.tolist(), placed.row.tolist(), strict=True))


# -- interleave


@given(st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_interleaving_keeps_every_sequence_whole_and_in_order(lengths: list[int]) -> None:
    which, index = interleave(lengths, np.arange(sum(lengths)))
    for number, length in enumerate(lengths):
        assert index[which == number].tolist() == list(range(length))


@given(st.lists(st.integers(1, 400), min_size=2, max_size=5))
def test_interleaving_keeps_the_proportions_in_every_beginning(lengths: list[int]) -> None:
    total = sum(lengths)
    which, _ = interleave(lengths, np.arange(total))
    for number, length in enumerate(lengths):
        so_far = np.cumsum(which == number)
        even = np.arange(1, total + 1) * length / total
        # Each split of one against the rest is off by less than one.
        assert np.abs(so_far - even).max() < len(lengths)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.data())
def test_a_place_of_an_interleaving_does_not_depend_on_what_else_is_asked(
    lengths: list[int], data: st.DataObject
) -> None:
    whole = interleave(lengths, np.arange(sum(lengths)))
    some = np.array(data.draw(st.lists(st.integers(0, sum(lengths) - 1), max_size=9)), np.int64)
    for all_places, these in zip(whole, interleave(lengths, some), strict=True):
        assert these.tolist() == all_places[some].tolist()


# -- node groups


@given(shard_sizes, st.integers(1, 4))
def test_shards_are_dealt_out_whole_once_and_evenly(sizes: list[int], node_groups: int) -> None:
    clips = np.array(sizes)
    dealt = deal_out(clips, node_groups)
    assert sorted(np.concatenate(dealt).tolist()) == list(range(len(sizes)))
    held = [int(clips[node_group].sum()) for node_group in dealt]
    assert max(held) - min(held) <= max(sizes)


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("node_groups", [2, 4])
def test_a_node_group_reads_its_own_shards_alone_in_every_epoch(node_groups: int, window: int | None) -> None:
    clips = np.random.default_rng(node_groups).integers(5, 20, 16)
    order = MixedOrder(
        [DatasetSize(clips)], seed=3, shuffle=True, global_batch=8, node_groups=node_groups, window=window
    )
    shard = np.repeat(np.arange(16), clips)
    of_node_group: list[set[int]] = [set() for _ in range(node_groups)]
    for epoch in range(4):
        placed = order.at(epoch, np.arange(order.clips))
        node_group = np.arange(order.clips) % 8 // (8 // node_groups)
        for number in range(node_groups):
            of_node_group[number] |= set(shard[placed.row[node_group == number]].tolist())
        assert all(
            window_slice.node_group == node_group[placed.window_slice == n][0]
            for n, window_slice in enumerate(placed.window_slices)
        )
    assert sum(map(len, of_node_group)) == len(set.union(*of_node_group)) == 16


# -- epochs


@given(st.lists(shard_sizes, min_size=1, max_size=3), st.integers(1, 8), st.integers(0, 9))
def test_an_epoch_holds_every_clip_at_most_once_and_drops_less_than_a_batch(
    datasets: list[list[int]], batch: int, epoch: int
) -> None:
    total = sum(map(sum, datasets))
    if total < batch:
        return
    order = MixedOrder([size(*clips) for clips in datasets], seed=1, shuffle=True, global_batch=batch)
    clips = whole_epoch(order, epoch)
    assert len(set(clips)) == len(clips) == order.clips == total // batch * batch
    assert order.steps == total // batch


@given(st.lists(shard_sizes, min_size=1, max_size=3), st.integers(1, 8), st.integers(0, 9))
def test_evaluation_lays_the_catalogs_end_to_end(datasets: list[list[int]], batch: int, epoch: int) -> None:
    order = MixedOrder([size(*clips) for clips in datasets], seed=1, shuffle=False, global_batch=batch)
    expected = [(number, row) for number, clips in enumerate(datasets) for row in range(sum(clips))]
    assert whole_epoch(order, epoch) == expected
    assert order.steps == -(-len(expected) // batch)


def test_what_is_dropped_at_an_epochs_end_comes_in_other_epochs() -> None:
    order = MixedOrder([size(19)], seed=2, shuffle=True, global_batch=10)
    dropped = {row for epoch in range(40) for row in set(range(19)) - {row for _, row in whole_epoch(order, epoch)}}
    assert dropped == set(range(19))


@pytest.mark.parametrize("weight", [0.25, 0.5, 1.0, 2.0, 3.5])
def test_weights_are_passes_an_epoch_and_nothing_is_favoured(weight: float) -> None:
    order = MixedOrder([size(40, 24), size(30, 10, weight=weight)], seed=2, shuffle=True, global_batch=1)
    seen: Counter[tuple[int, int]] = Counter()
    for epoch in range(8):
        clips = whole_epoch(order, epoch)
        seen.update(clips)
        per_epoch = Counter(number for number, _ in clips)
        assert (per_epoch[0], per_epoch[1]) == (64, round(weight * 40))
    # Over 8 epochs the passes are whole: every clip has come equally often.
    assert {seen[0, row] for row in range(64)} == {8}
    assert {seen[1, row] for row in range(40)} == {8 * weight}


def test_epochs_and_seeds_order_otherwise() -> None:
    def rows(seed: int, epoch: int) -> NDArray[np.int64]:
        order = MixedOrder([size(100, 100)], seed=seed, shuffle=True, global_batch=1)
        return order.at(epoch, np.arange(200)).row

    assert (rows(1, 0) == rows(1, 1)).mean() < 0.05
    assert (rows(1, 0) == rows(2, 0)).mean() < 0.05
    assert rows(1, 0).tolist() == rows(1, 0).tolist()


def test_after_a_stretch_comes_the_one_that_is_read_next() -> None:
    order = MixedOrder([size(*[5] * 8), size(*[7] * 6)], seed=2, shuffle=True, global_batch=4, node_groups=2, window=2)
    before: dict[tuple[int, int], WindowSlice] = {}
    changes = 0
    for epoch in range(3):
        for position in range(order.clips):
            [window_slice] = order.at(epoch, np.array([position])).window_slices
            node_group = window_slice.dataset, window_slice.node_group
            if node_group in before and window_slice.key != before[node_group].key:
                assert order.after(before[node_group]).key == window_slice.key
                changes += 1
            before[node_group] = window_slice
    assert changes > 16


# -- what cannot be


@pytest.mark.parametrize(
    ("datasets", "changes", "named"),
    [
        ([size(5), size(5, weight=0.0)], {}, "dataset 2 has weight 0"),
        ([size(5, weight=float("nan"))], {}, "weight nan"),
        ([size(5, 5)], {"node_groups": 3, "global_batch": 4}, "multiple of the node groups"),
        ([size(5)], {"node_groups": 2, "global_batch": 4}, "1 shards for 2 node groups"),
        ([size(3)], {"global_batch": 4}, "3 clips are fewer"),
        ([size(5, 5)], {"node_groups": 2, "global_batch": 2, "shuffle": False}, "training only"),
        ([size(5, weight=2.0)], {"shuffle": False}, "training only"),
    ],
)
def test_what_cannot_be_ordered_is_refused(datasets: list[DatasetSize], changes: dict[str, object], named: str) -> None:
    settings: dict[str, object] = {"seed": 0, "shuffle": True, "global_batch": 1} | changes
    with pytest.raises(InputError, match=named):
        MixedOrder(datasets, **settings)  # type: ignore[arg-type]

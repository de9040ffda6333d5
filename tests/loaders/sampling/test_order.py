"""The order is a bijection at any size, looks like a shuffle, and is dealt out alike to any number of ranks."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loaders.sampling import randomness
from loaders.sampling.order import permute, rank_positions, steps_per_epoch

keys = st.integers(0, (1 << 64) - 1)
# Log-uniform: as many small sizes as large ones, on both sides of every power of two.
sizes = st.integers(0, 17).flatmap(lambda power: st.integers(1 << power, (2 << power) - 1))


@given(sizes, keys)
@example(1, 0)
@example((1 << 16) - 1, 0)
@example(1 << 16, 0)
@example((1 << 16) + 1, 0)
def test_every_number_comes_exactly_once(size: int, key: int) -> None:
    assert np.bincount(permute(np.arange(size), size, key), minlength=size).tolist() == [1] * size


@pytest.mark.parametrize("size", [*range(1, 70), 10_000_000])
def test_every_number_comes_exactly_once_at_these_sizes(size: int) -> None:
    seen = np.zeros(size, bool)
    for first in range(0, size, 100_000):
        seen[permute(np.arange(first, min(first + 100_000, size)), size, size)] = True
    assert seen.all()


@given(st.integers(10**7, 1 << 62), keys, st.integers(0, 1 << 62))
@example(10**12, 0, 0)
@example(1 << 62, 0, 0)
@settings(max_examples=15)
def test_at_sizes_beyond_counting_probes_stay_apart_and_in_range(size: int, key: int, first: int) -> None:
    near = (first + np.arange(20_000)) % size
    far = randomness.below(np.array([size]), first, np.arange(20_000))
    probes = np.unique(np.concatenate([near, far, size - 1 - near]))
    images = permute(probes, size, key)
    assert images.min() >= 0
    assert images.max() < size
    assert len(np.unique(images)) == len(probes)


@given(sizes, keys, st.data())
def test_an_index_goes_to_the_same_place_whatever_else_is_asked(size: int, key: int, data: st.DataObject) -> None:
    whole = permute(np.arange(size), size, key)
    some = np.array(data.draw(st.lists(st.integers(0, size - 1), max_size=12)), np.int64)
    assert permute(some, size, key).tolist() == whole[some].tolist()


@pytest.mark.parametrize("shape", [(), (0,), (6,), (2, 3), (1, 0, 2)])
def test_the_shape_stays(shape: tuple[int, ...]) -> None:
    for size in (1, 100):
        assert permute(np.zeros(shape, np.int64), size, 5).shape == shape


@pytest.mark.parametrize(("index", "size"), [(-1, 10), (10, 10), (0, 0), (0, -1), (0, (1 << 62) + 1)])
def test_what_is_out_of_range_is_refused(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="must be in"):
        permute(np.array([index]), size, 0)


@pytest.mark.parametrize(("size", "trials"), [(2, 200), (3, 300), (4, 720)])
def test_every_permutation_of_a_few_is_equally_likely(size: int, trials: int) -> None:
    counts = dict.fromkeys(permutations(range(size)), 0)
    for trial in range(trials):
        counts[tuple(permute(np.arange(size), size, randomness.key(trial)).tolist())] += 1
    expected = trials / len(counts)
    statistic = sum((count - expected) ** 2 / expected for count in counts.values())
    assert statistic < len(counts) + 4 * np.sqrt(2 * len(counts))


@pytest.mark.parametrize("size", [6, 16])
def test_every_number_is_equally_likely_at_every_place_and_after_every_other(size: int) -> None:
    trials = 400
    placed, followed = np.zeros((size, size)), np.zeros((size, size))
    for trial in range(trials):
        order = permute(np.arange(size), size, randomness.key("places", trial))
        placed[np.arange(size), order] += 1
        followed[order[:-1], order[1:]] += 1
    for table, possible in ((placed, size * size), (followed[~np.eye(size, dtype=bool)], size * (size - 1))):
        expected = table.sum() / possible
        statistic = ((table - expected) ** 2 / expected).sum()
        assert statistic < possible + 4 * np.sqrt(2 * possible)


def test_neighbours_in_the_order_are_as_far_apart_as_in_a_random_shuffle() -> None:
    size = 1_000_000
    order = permute(np.arange(100_000), size, 3)
    assert np.abs(np.diff(order)).mean() / size == pytest.approx(1 / 3, rel=0.01)


ranks = st.integers(1, 64)
batch_sizes = st.integers(1, 9)
clip_counts = st.integers(1, 3000)


@given(clip_counts, batch_sizes, ranks)
def test_the_slices_of_the_ranks_laid_end_to_end_are_the_epoch(clips: int, batch_size: int, world: int) -> None:
    global_batch = batch_size * world
    for drop in (True, False):
        steps = steps_per_epoch(clips, global_batch, drop_remainder=drop)
        slices = [
            [rank_positions(step, clips, global_batch, rank, world) for rank in range(world)] for step in range(steps)
        ]
        together = [int(position) for step in slices for positions in step for position in positions]
        assert together == list(range(clips // global_batch * global_batch if drop else clips))
        lengths = [[len(positions) for positions in step] for step in slices]
        assert all(length == batch_size for step in lengths[: clips // global_batch] for length in step)
        assert all(max(step) - min(step) <= 1 and max(step) <= batch_size for step in lengths)


@given(clip_counts, st.integers(1, 8))
def test_any_number_of_ranks_makes_the_same_global_batches(clips: int, batch_size: int) -> None:
    global_batch = 64 * batch_size
    for step in range(steps_per_epoch(clips, global_batch, drop_remainder=False)):
        alone = rank_positions(step, clips, global_batch, 0, 1)
        for world in (2, 3, 16, 64):
            shared = [rank_positions(step, clips, global_batch, rank, world) for rank in range(world)]
            assert np.concatenate(shared).tolist() == alone.tolist()

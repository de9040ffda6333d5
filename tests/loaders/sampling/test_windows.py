"""Every cycle holds every clip once, a window at a time, and any place of it can be asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loaders.sampling.windows import WindowedOrder

shard_sizes = st.lists(st.integers(1, 12), min_size=1, max_size=9).map(np.array)
windows = st.one_of(st.none(), st.integers(1, 12))
cycles = st.integers(0, 50)


def order_of(
    clips: NDArray[np.int64], window: int | None, *, key: int = 7, shuffle: bool = True, every: int = 1
) -> WindowedOrder:
    """Over every so many shards of a catalog with shards of these sizes."""
    shards = np.arange(len(clips))[::every]
    return WindowedOrder(shards, np.cumsum(clips) - clips, clips, window=window, key=key, shuffle=shuffle)


def shard_of_row(clips: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(clips)), clips)


@given(shard_sizes, windows, cycles, st.booleans(), st.integers(1, 3))
def test_a_cycle_holds_every_clip_of_its_shards_once(
    clips: NDArray[np.int64], window: int | None, cycle: int, shuffle: bool, every: int
) -> None:
    order = order_of(clips, window, shuffle=shuffle, every=every)
    rows, _ = order.at(cycle, np.arange(order.clips))
    assert sorted(rows.tolist()) == np.flatnonzero(shard_of_row(clips) % every == 0).tolist()


@given(shard_sizes, windows, cycles, st.data())
def test_a_place_holds_the_same_clip_whatever_else_is_asked(
    clips: NDArray[np.int64], window: int | None, cycle: int, data: st.DataObject
) -> None:
    order = order_of(clips, window)
    whole, numbers = order.at(cycle, np.arange(order.clips))
    some = np.array(data.draw(st.lists(st.integers(0, order.clips - 1), max_size=9)), np.int64)
    rows, number = order_of(clips, window).at(cycle, some)
    assert rows.tolist() == whole[some].tolist()
    assert number.tolist() == numbers[some].tolist()


@given(shard_sizes, st.integers(1, 12), cycles)
def test_a_window_is_finished_before_the_next_one_begins(clips: NDArray[np.int64], window: int, cycle: int) -> None:
    order = order_of(clips, window)
    rows, number = order.at(cycle, np.arange(order.clips))
    assert (np.diff(number) >= 0).all()
    of_cycle = order.windows(cycle)
    assert [len(one.shards) for one in of_cycle[:-1]] == [min(window, len(clips))] * (len(of_cycle) - 1)
    for one in of_cycle:
        inside = rows[number == one.number]
        assert set(shard_of_row(clips)[inside]) == set(one.shards.tolist())
        assert sorted(one.row(np.arange(one.clips)).tolist()) == sorted(inside.tolist())


@given(shard_sizes, st.integers(1, 12), cycles)
def test_after_a_window_comes_the_next_of_its_cycle_or_the_first_of_the_next(
    clips: NDArray[np.int64], window: int, cycle: int
) -> None:
    order = order_of(clips, window)
    walked = [order.windows(cycle)[0]]
    while len(walked) <= len(order.windows(cycle)):
        walked.append(order.after(walked[-1].cycle if len(walked) > 1 else cycle, walked[-1].number))
    expected = [*order.windows(cycle), order.windows(cycle + 1)[0]]
    assert [one.shards.tolist() for one in walked] == [one.shards.tolist() for one in expected]


@given(shard_sizes, cycles)
def test_unshuffled_is_the_catalogs_order(clips: NDArray[np.int64], cycle: int) -> None:
    order = order_of(clips, 2, shuffle=False)
    assert order.at(cycle, np.arange(order.clips))[0].tolist() == list(range(clips.sum()))


@pytest.mark.parametrize("window", [None, 3])
def test_cycles_and_keys_order_otherwise(window: int | None) -> None:
    clips = np.full(20, 10)
    places = np.arange(200)
    one = order_of(clips, window).at(4, places)[0]
    for other in (order_of(clips, window).at(5, places)[0], order_of(clips, window, key=8).at(4, places)[0]):
        assert (one == other).mean() < 0.05


def test_windows_are_other_shards_in_every_cycle() -> None:
    order = order_of(np.full(40, 5), 4)
    together = {frozenset(window.shards.tolist()) for cycle in range(5) for window in order.windows(cycle)}
    assert len(together) > 45

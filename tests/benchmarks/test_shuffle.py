"""Every method gives each clip once; the figures are what they claim; what is known to be well or badly shuffled is."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.py1e import described
from benchmarks.shuffle import (
    DaliReader,
    Settings,
    measure,
    ours,
    plot,
    same_video,
    same_video_by_chance,
    true_distance,
    webdataset,
)

SHARDS = np.array([40, 60, 50, 70, 30])


def test_every_method_gives_every_clip_once_and_another_order_each_epoch(tmp_path: Path) -> None:
    dali = DaliReader(tmp_path, SHARDS, 20)
    for method in (
        lambda epoch: ours(SHARDS, None, epoch),
        lambda epoch: ours(SHARDS, 2, epoch),
        lambda epoch: webdataset(SHARDS, 20, epoch),
        dali.order,
        lambda epoch: described(SHARDS, 100, epoch),
    ):
        first, second = method(0), method(1)
        assert np.sort(first).tolist() == np.sort(second).tolist() == list(range(250))
        assert (first != second).any()


def test_py1e_spreads_a_shards_clips_over_a_block_and_no_further() -> None:
    shards = np.full(40, 100)
    order = described(shards, 400, epoch=3)
    places = np.argsort(order).reshape(40, 100)
    spans = places.max(axis=1) - places.min(axis=1)
    assert (spans < 1.25 * 400 + 100).all()  # what overtakes a shard's clips moves them, by less than a shard
    assert np.median(spans) > 200
    assert (np.ptp(np.argsort(described(shards, 100, 3)).reshape(40, 100), axis=1) < 150).all()


@given(st.integers(2, 300), st.integers(0, 10))
def test_the_distance_of_a_true_shuffle(clips: int, seed: int) -> None:
    pairs = np.abs(np.arange(clips)[:, None] - np.arange(clips))
    assert true_distance(clips) == pytest.approx(pairs.sum() / (clips * (clips - 1)))


def test_clips_that_meet_their_video_are_counted() -> None:
    video = np.array([0, 0, 1, 2, 3, 3, 3, 4, 5])
    assert same_video(np.arange(9), video, 4) == 5 / 8  # 0 0 1 2 | 3 3 3 4; the last clip fills no batch
    assert same_video(np.arange(9), np.arange(9), 4) == 0
    assert same_video(np.arange(9), np.zeros(9, int), 3) == 1


def test_the_share_by_chance_is_that_of_true_shuffles() -> None:
    video = np.arange(1000) // 20
    draw = np.random.default_rng(0)
    seen = [same_video(draw.permutation(1000), video, 10) for _ in range(400)]
    assert np.mean(seen) == pytest.approx(same_video_by_chance(1000, 20, 10), abs=4 * np.std(seen) / 20)


def test_a_small_run_ranks_the_methods(tmp_path: Path) -> None:
    record = measure(Settings(clips=6000, clips_per_shard=200, windows=(4,), buffer=100, rounds=1, small_block=800))
    share = {side: rounds[0]["same_video_percent"] for side, rounds in record.rounds.items()}
    assert share["ours, global"] < share["ours, 4 shards"] < share["WebDataset, buffer 100"]
    assert record.ratios["ours, global: distance / true shuffle"] == pytest.approx(1, abs=0.05)
    plot(record, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")

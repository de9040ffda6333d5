"""The plan: every utterance in one shard of its split, the same plan every time."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from loaders.errors import InputError
from sharding.packing.plan import ShardJob, plan_shards
from sharding.settings import BuildSettings
from sharding.utterance import Utterance

OUTPUT = Path("out")


def utterances(counts: dict[str, int], videos: int = 5) -> list[Utterance]:
    return [
        Utterance(
            corpus="c", split=split, speaker=f"{split}{n % videos}", video=f"{split}{n % videos}", utterance=f"u{n}",
            video_path=Path(f"{split}{n}.mp4"),
        )
        for split, count in counts.items()
        for n in range(count)
    ]  # fmt: skip


def plan(given: list[Utterance], seconds: float = 4.0, **options: int) -> list[ShardJob]:
    return plan_shards(given, [seconds] * len(given), BuildSettings(**options), OUTPUT)  # type: ignore[arg-type]


COUNTS = st.dictionaries(st.sampled_from(["train", "validation", "test"]), st.integers(1, 90), min_size=1)


@given(COUNTS, st.floats(0, 100), st.integers(1, 20))
def test_every_utterance_is_in_one_shard_of_its_split(counts: dict[str, int], seconds: float, shard_mb: int) -> None:
    given_ones = utterances(counts)
    jobs = plan(given_ones, seconds, shard_mb=shard_mb)
    planned = [(job.split, utterance.key) for job in jobs for utterance in job.utterances]
    assert Counter(planned) == Counter((u.split, u.key) for u in given_ones)
    assert all(job.utterances for job in jobs)
    for split in counts:
        numbers = [job.number for job in jobs if job.split == split]
        assert numbers == list(range(len(numbers)))
        sizes = [len(job.utterances) for job in jobs if job.split == split]
        assert max(sizes) - min(sizes) <= 1


@given(COUNTS, st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_in_which_utterances_are_found(counts: dict[str, int], random) -> None:  # type: ignore[no-untyped-def]
    given_ones = utterances(counts)
    shuffled = random.sample(given_ones, len(given_ones))
    assert plan(given_ones) == plan(shuffled)


def test_shards_are_about_as_large_as_asked_for() -> None:
    clip_bytes = 16 * 224**2 * 0.2 + 64_000
    jobs = plan(utterances({"train": 1000}), seconds=8.0, shard_mb=50)
    assert len(jobs) == math.ceil(1000 * 4 * clip_bytes / 50e6)


def test_a_videos_utterances_are_spread_over_the_shards() -> None:
    jobs = plan(utterances({"train": 320}, videos=20))
    assert len(jobs) == 16
    for job in jobs:
        assert max(Counter(u.video for u in job.utterances).values()) <= 2


def test_a_videos_utterances_are_spread_where_speakers_share_names_of_videos() -> None:
    """The utterances of a video are dealt out by turns, whoever else has a video of that name."""
    alike = [
        replace(u, speaker=f"s{n % 7}", video=f"v{n % 2}", utterance=f"{n // 14}")
        for n, u in enumerate(utterances({"train": 560}))
    ]
    jobs = plan(alike)
    counts = Counter((u.speaker, u.video, job.number) for job in jobs for u in job.utterances)
    assert len(jobs) > 1
    assert max(counts.values()) == -(-40 // len(jobs))


def test_the_plan_stays_what_it_was() -> None:
    """Or what has been built would be built again, in another order."""
    jobs = plan(utterances({"train": 90, "test": 40}), shard_mb=1)
    keys = "|".join(utterance.key for job in jobs for utterance in job.utterances)
    assert (len(jobs), xxhash.xxh3_64_hexdigest(keys.encode())) == (59, "45393dd384885529")


def test_what_decides_the_bytes_decides_the_digest() -> None:
    given_ones = utterances({"train": 3})
    digest = plan(given_ones)[0].digest
    assert plan(given_ones)[0].digest == digest
    assert plan(given_ones, quality=80)[0].digest != digest
    assert plan(given_ones[:2])[0].digest != digest
    assert plan_shards(given_ones, [4.0] * 3, BuildSettings(), Path("elsewhere"))[0].digest == digest


def test_two_utterances_of_one_name_are_refused() -> None:
    one, two = utterances({"train": 1}) + utterances({"train": 1})
    with pytest.raises(InputError, match="same utterance"):
        plan([one, two])

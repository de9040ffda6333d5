"""Receipts become catalogs, the table of the rejected and dataset.json; and shards are told whole from broken."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from loaders.dataset.manifest import REJECTED, read_manifest
from sharding.packing.clips import EncodedClip, EncodedUtterance, RejectedError
from sharding.packing.finish import NothingBuiltError, finish_dataset
from sharding.packing.plan import ShardJob, plan_shards
from sharding.packing.shard import build_shard, is_built
from sharding.packing.writer import WORK_FOLDER
from sharding.settings import BuildSettings
from sharding.utterance import Rejection, Utterance

SETTINGS = BuildSettings(size=16)


def utterance(number: int, split: str) -> Utterance:
    return Utterance(
        corpus="c", split=split, speaker=f"{split}{number % 4}", video=f"{split}{number % 8}", utterance=f"u{number}",
        video_path=Path(f"{number}.mp4"),
    )  # fmt: skip


UTTERANCES = [utterance(number, "train") for number in range(40)] + [utterance(number, "test") for number in range(5)]


def draw(utterance: Utterance, *_: object) -> EncodedUtterance:
    """Two clips, but for every seventh utterance; every third has no gaze, every fifth lost a clip."""
    number = int(utterance.utterance[1:])
    if number % 7 == 6:
        raise RejectedError("silent", "not a sound")
    gaze = None if number % 3 == 2 else np.full(103, number, np.float32)
    encoded = [
        EncodedClip(
            key=f"{utterance.key}+{n:03d}",
            members={"filmstrip": b"f%d" % number, "audio": b"a%d" % n, "clip": b"c"},
            start=2.0 * n,
            padded=0.0,
            gaze=gaze,
            gaze_problem="gaze_missing" if gaze is None else None,
        )
        for n in range(2)
    ]
    return EncodedUtterance(clips=tuple(encoded), left_out={"no_face": 1} if number % 5 == 0 else {})


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ShardJob]:
    monkeypatch.setattr("sharding.packing.shard.encode_utterance", draw)
    (tmp_path / WORK_FOLDER).mkdir()
    return plan_shards(UTTERANCES, [4.0] * len(UTTERANCES), SETTINGS, tmp_path)


def test_a_dataset_of_all_its_shards(tmp_path: Path, jobs: list[ShardJob]) -> None:
    for job in jobs:
        result = build_shard(job)
        assert result.utterances == len(job.utterances)
        assert sum(result.seconds.values()) > 0
    linked = Rejection(split="", speaker="", video="", utterance="", path="x", reason="outside_source", detail="a link")
    manifest, lacks = finish_dataset(tmp_path, "c", jobs, SETTINGS, [linked])
    assert read_manifest(tmp_path) == manifest
    assert len(manifest.splits["train"].shards) == 2

    built = {
        split: [u for u in UTTERANCES if u.split == split and int(u.utterance[1:]) % 7 != 6]
        for split in ("train", "test")
    }
    for split, chosen in built.items():
        entry = manifest.splits[split]
        assert (entry.clips, entry.speakers) == (2 * len(chosen), len({u.speaker for u in chosen}))
        assert entry.videos == len({u.video for u in chosen})
        rows = pq.read_table(tmp_path / split / "clips.parquet").to_pylist()
        assert sorted(row["key"] for row in rows) == sorted(f"{u.key}+{n:03d}" for u in chosen for n in range(2))
        for row in rows:
            with (tmp_path / split / entry.shards[row["shard"]].name).open("rb") as file:
                file.seek(row["filmstrip_offset"])
                assert file.read(row["filmstrip_size"]) == f"f{row['utterance'][1:]}".encode()

    every = [u for chosen in built.values() for u in chosen]
    assert manifest.rejected == {"outside_source": 1, "silent": len(UTTERANCES) - len(every)}
    assert pq.read_table(tmp_path / REJECTED)["reason"].to_pylist().count("silent") == manifest.rejected["silent"]
    numbers = [int(u.utterance[1:]) for u in every]
    assert lacks.clips == {"no_face": sum(n % 5 == 0 for n in numbers)}
    assert lacks.members["gaze"] == {"gaze_missing": 2 * sum(n % 3 == 2 for n in numbers)}
    values = [n for u in built["train"] if (n := int(u.utterance[1:])) % 3 != 2]
    assert manifest.gaze_mean == pytest.approx([np.mean(values)] * 103)
    assert manifest.gaze_std == pytest.approx([np.std(values)] * 103)


def test_videos_are_counted_by_whose_names_they_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And dataset.json says of it what its readers need: nothing where no two speakers share a name."""
    monkeypatch.setattr("sharding.packing.shard.encode_utterance", draw)
    alike = [replace(u, video=f"v{number % 2}") for number, u in enumerate(UTTERANCES)]
    for number, (utterances, video_names, expected) in enumerate(
        [
            (alike, "speaker", ("speaker", 4, 4)),
            (alike, "corpus", ("corpus", 2, 2)),
            (UTTERANCES, "speaker", ("corpus", 8, 5)),
            (UTTERANCES, "corpus", ("corpus", 8, 5)),
            ([replace(u, video=u.split + u.speaker) for u in UTTERANCES], "speaker", ("corpus", 4, 4)),
            ([replace(u, video=u.speaker.removeprefix(u.split)) for u in UTTERANCES], "speaker", ("speaker", 4, 4)),
        ]
    ):
        output = tmp_path / str(number)
        (output / WORK_FOLDER).mkdir(parents=True)
        jobs = plan_shards(utterances, [4.0] * len(utterances), SETTINGS, output)
        for job in jobs:
            build_shard(job)
        manifest, _ = finish_dataset(output, "c", jobs, SETTINGS, video_names=video_names)  # type: ignore[arg-type]
        counts = {name: split.videos for name, split in manifest.splits.items()}
        assert (manifest.video_names, counts["train"], counts["test"]) == expected


def test_a_split_without_a_clip_is_told_with_the_reasons(
    tmp_path: Path, jobs: list[ShardJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reject(utterance: Utterance, *_: object) -> EncodedUtterance:
        if utterance.split == "test":
            raise RejectedError("too_short", "by a second")
        return draw(utterance)

    monkeypatch.setattr("sharding.packing.shard.encode_utterance", reject)
    for job in jobs:
        build_shard(job)
    leaks = [Rejection.of(replace(u, split="validation"), "leak", "") for u in UTTERANCES[:2]]
    leaks += [Rejection.of(UTTERANCES[0], "leak", ""), Rejection.of(replace(UTTERANCES[0], split=""), "unlisted", "")]
    _, lacks = finish_dataset(tmp_path, "c", jobs, SETTINGS, leaks)
    assert lacks.splits == {"test": {"too_short": 5}, "validation": {"leak": 2}}


def test_nothing_but_rejections(tmp_path: Path, jobs: list[ShardJob], monkeypatch: pytest.MonkeyPatch) -> None:
    def reject(*_: Any) -> EncodedUtterance:
        raise RejectedError("too_short", "by a second")

    monkeypatch.setattr("sharding.packing.shard.encode_utterance", reject)
    for job in jobs:
        assert build_shard(job).clips == 0
    assert list(tmp_path.rglob("*.tar")) == []
    with pytest.raises(NothingBuiltError, match=r"45 too_short.*by a second"):
        finish_dataset(tmp_path, "c", jobs, SETTINGS)


def test_a_shard_is_built_when_it_is_whole_and_of_the_same_plan(tmp_path: Path, jobs: list[ShardJob]) -> None:
    job = jobs[-1]
    assert not is_built(job)
    build_shard(job)
    assert is_built(job)
    (other,) = (o for o in plan_shards(UTTERANCES, [4.0] * 45, BuildSettings(size=32), tmp_path)
                if (o.split, o.number) == (job.split, job.number))  # fmt: skip
    assert not is_built(other)
    shard = tmp_path / job.split / f"{job.stem}.tar"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert not is_built(job)

"""Speakers held out: by name and seed alone, the two sides apart, and pairs within each."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loaders import ClipLoader, Dataset
from loaders.errors import InputError
from loaders.sampling.speakers import SpeakerShare
from tests.datasets import CONTENTS, Contents, make_dataset


def share(fraction: float = 0.4, seed: int = 1, *, held_out: bool = True) -> SpeakerShare:
    return SpeakerShare(fraction=fraction, seed=seed, held_out=held_out)


def test_a_speakers_side_depends_on_the_seed_and_the_name_alone() -> None:
    names = [f"id{number:05d}" for number in range(20_000)]
    held = share().holds_out(names)
    assert held.tolist() == [bool(share().holds_out([name])[0]) for name in names]
    assert abs(held.mean() - 0.4) < 4 * np.sqrt(0.24 / len(names))
    # Another seed holds out others, independently; a larger share holds out these and more.
    other = share(seed=2).holds_out(names)
    assert abs((held & other).mean() - 0.16) < 4 * np.sqrt(0.16 * 0.84 / len(names))
    assert not (held & ~share(0.6).holds_out(names)).any()


def test_the_sides_are_apart_and_whole(dataset: Path) -> None:
    whole = Dataset.open(dataset).catalog("train", ["audio"], ["emotion"])
    sides = [share(held_out=held_out).part(whole) for held_out in (True, False)]
    keys = [side.table(["key"])["key"].to_pylist() for side in sides]
    assert sorted(keys[0] + keys[1]) == sorted(whole.table(["key"])["key"].to_pylist())
    assert not set(sides[0].table(["speaker"])["speaker"].to_pylist()) & set(
        sides[1].table(["speaker"])["speaker"].to_pylist()
    )
    for side in sides:
        assert side.rows is not None
        for column in ("shard", "speaker", "video", "utterance", "start"):
            assert np.array_equal(getattr(side, column), getattr(whole, column)[side.rows])
        assert np.array_equal(side.targets["emotion"], whole.targets["emotion"][side.rows])
        assert np.array_equal(side.members["audio"].offset, whole.members["audio"].offset[side.rows])
        assert side.shard_clips.sum() == len(side)


def test_a_video_with_a_speaker_who_is_held_out_is_not_on_the_other_side(tmp_path: Path) -> None:
    contents = Contents(speakers={"train": 6}, shards={"train": 3}, each_speakers_own=True)
    make_dataset(tmp_path / "data", contents)  # whose speakers' videos have the same names
    whole = Dataset.open(tmp_path / "data").catalog("train")
    shared = np.array([int(name[1:]) for name in whole.table(["video"])["video"].to_pylist()], np.int32)
    whole = replace(whole, video=np.where(whole.speaker % 2 == 0, shared, 100 + whole.speaker).astype(np.int32))
    held, rest = (share(held_out=held_out).part(whole) for held_out in (True, False))
    assert not set(held.video.tolist()) & set(rest.video.tolist())
    assert not set(held.speaker.tolist()) & set(rest.speaker.tolist())


def test_a_loader_of_one_side_draws_clips_and_sounds_of_its_speakers_alone(dataset: Path) -> None:
    seen: list[set[str]] = []
    for held_out in (True, False):
        side = share(held_out=held_out)
        with ClipLoader(dataset, batch_size=4, speakers=side, video=False, training=not held_out) as loader:
            (catalog,) = loader.catalogs
            keys = catalog.table(["key", "speaker"])
            clips: set[int] = set()
            for _ in range(3):
                for batch in loader:
                    clips |= set(batch.clip.tolist()) | set(batch.audio_clip.tolist())
                    assert batch.match.sum() * 2 == len(batch) or not loader.step
            seen.append({keys["speaker"][clip].as_py() for clip in clips})
            state = loader.state_dict()
            assert state["fingerprint"]["speakers"] == {"fraction": 0.4, "seed": 1, "held_out": held_out}
            if held_out:
                assert clips == set(range(len(catalog)))  # each one, and no other
    assert seen[0]
    assert seen[1]
    assert not seen[0] & seen[1]
    # Another share's state is refused, that of the whole split from before there were shares is not.
    other = ClipLoader(dataset, batch_size=4, speakers=share(0.7), training=True)
    with other, pytest.raises(InputError, match="speakers was"):
        other.load_state_dict(state)
    with ClipLoader(dataset, batch_size=4) as loader:
        before = loader.state_dict()
        del before["fingerprint"]["speakers"]
        loader.load_state_dict(before)


def test_a_bad_clip_of_a_share_is_called_by_its_own_name(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "data")
    damaged = Dataset.open(tmp_path / "data")
    side = share()
    part = side.part(damaged.catalog("train", ["audio"]))
    row = len(part) // 2
    shard = tmp_path / "data" / "train" / damaged.manifest.splits["train"].shards[part.shard[row]].name
    with shard.open("r+b") as file:
        file.seek(int(part.members["audio"].offset[row]) + 100)
        file.write(b"damaged")
    with ClipLoader(
        damaged, batch_size=4, speakers=side, video=False, training=False, negatives=None, max_bad_fraction=0.5
    ) as loader:
        for _ in loader:
            pass
        assert loader.stats().bad_clips == 1
        assert list(loader._reader.bad.values()) == [part.table(["key"])["key"][row].as_py()]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_is_between_nothing_and_everything(fraction: float) -> None:
    with pytest.raises(InputError, match="share of speakers held out"):
        share(fraction)


def test_a_share_without_clips_is_refused(dataset: Path) -> None:
    whole = Dataset.open(dataset).catalog("train")
    with pytest.raises(InputError, match=f"holds out 0 of {CONTENTS.speakers['train']} speakers"):
        share(1e-9).part(whole)
    with pytest.raises(InputError, match="holds out 5 of 5 speakers"):
        share(1 - 1e-9, held_out=False).part(whole)

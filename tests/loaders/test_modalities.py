"""Sound alone is what comes with the frames; clips that lack what is asked for are refused, with the mend."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from loaders import Batch, ClipLoader, InputError
from loaders.dataset.manifest import read_manifest
from sharding.settings import BuildSettings
from tests.batches import digest
from tests.damage import copy_of, flip_byte
from tests.datasets import Contents, make_dataset
from tests.rebuilt import Files, rebuilt

LACKING = {"filmstrip": {4, 9, 10}, "audio": {9, 20}}  # rows of the training split


@pytest.fixture(scope="module")
def flac(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("datasets") / "flac"
    contents = Contents(speakers={"train": 3, "test": 2}, shards={"train": 2, "test": 1})
    make_dataset(folder, contents, BuildSettings(size=32, audio_format="flac"))
    return folder


@pytest.fixture(scope="module", params=["filmstrip", "audio", "both"])
def lacking(
    request: pytest.FixtureRequest, dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """What some clips of the training split lack, and the dataset; in the other split none does."""

    def change(split: str, row: int, files: Files) -> Files:
        gone = {name for name, rows in LACKING.items() if request.param in (name, "both") and row in rows}
        return files if split == "test" else {name: data for name, data in files.items() if name not in gone}

    members = [replace(one, required=one.name not in LACKING) for one in read_manifest(dataset).members]
    return request.param, rebuilt(dataset, tmp_path_factory.mktemp("datasets") / "lacking", members, change)


def loader_of(dataset: Path, split: str = "train", **changes: Any) -> ClipLoader:
    targets = ["emotion"] if changes.get("negatives", "paired") is None else []
    return ClipLoader(dataset, split, **{"batch_size": 8, "seed": 3, "threads": 1, "targets": targets, **changes})


def silenced(batches: Iterator[Batch]) -> list[str]:
    """Digests of batches, without their frames."""
    return [digest(replace(batch, video=torch.empty((len(batch), 0), dtype=torch.uint8))) for batch in batches]


@pytest.mark.parametrize(
    "settings", [{}, {"frames": 5}, {"split": "test", "batch_size": 5, "rank": 2, "world_size": 3}]
)
@pytest.mark.parametrize("format_", ["wav", "flac"])
def test_sound_alone_is_the_sound_that_comes_with_frames(
    dataset: Path, flac: Path, format_: str, settings: dict[str, Any]
) -> None:
    folder = dataset if format_ == "wav" else flac
    cpu_decoder = "dali" if format_ == "flac" else "auto"
    with (
        loader_of(folder, cpu_decoder=cpu_decoder, **settings) as both,
        loader_of(folder, video=False, **settings) as alone,
    ):
        expected = silenced(iter(both))
        assert expected == [digest(batch) for batch in alone]
        if "rank" not in settings:
            assert alone.stats().bytes < both.stats().bytes
        assert alone.stats().decoder_reason == "filmstrips are left out"
        assert both.state_dict()["fingerprint"] == alone.state_dict()["fingerprint"]


def test_a_filmstrip_that_is_damaged_is_nothing_to_who_does_not_read_it(dataset: Path, tmp_path: Path) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    for row in range(10):
        flip_byte(copy, "test", row, "filmstrip")
    with loader_of(copy, "test", video=False, max_bad_fraction=0) as loader:
        assert sum(len(batch) for batch in loader) == 38


@pytest.mark.parametrize("damage", ["a flipped byte", "no sound"])
@pytest.mark.parametrize("format_", ["wav", "flac"])
def test_bad_sound_gives_way_to_the_same_as_beside_frames(
    dataset: Path, flac: Path, tmp_path: Path, format_: str, damage: str
) -> None:
    folder = dataset if format_ == "wav" else flac
    if damage == "no sound":

        def change(split: str, row: int, files: Files) -> Files:
            wrong = bytes(len(files["audio"]))
            return files | {"audio": wrong} if (split, row) == ("test", 3) else files

        folder = rebuilt(folder, tmp_path / "wrong", read_manifest(folder).members, change)
    else:
        folder = copy_of(folder, tmp_path / "copy")
        flip_byte(folder, "test", 3, "audio")
    settings: dict[str, Any] = {"max_bad_fraction": 0.2, "negatives": None}
    with loader_of(folder, "test", **settings) as both, loader_of(folder, "test", video=False, **settings) as alone:
        assert silenced(iter(both)) == [digest(batch) for batch in alone]
        assert both.stats().bad_clips == alone.stats().bad_clips == 1


def test_a_state_goes_on_without_frames_and_with_them(dataset: Path) -> None:
    with loader_of(dataset) as both, loader_of(dataset, video=False) as alone:
        next(iter(alone))
        both.load_state_dict(alone.state_dict())
        assert silenced(iter(both)) == [digest(batch) for batch in alone]
        alone.load_state_dict(both.state_dict())
        assert (alone.epoch, alone.step) == (1, 0)


@pytest.mark.parametrize(
    "settings", [{"pixels": "yuv420"}, {"cpu_decoder": "turbo"}, {"hw_decoder_load": 0.5}, {"placement": "cpu"}]
)
def test_how_frames_are_decoded_is_no_question_without_them(dataset: Path, settings: dict[str, Any]) -> None:
    [name] = settings
    with pytest.raises(InputError, match=f"{name} is .* video False"):
        loader_of(dataset, video=False, **settings)


def test_sound_with_targets_is_its_own(dataset: Path) -> None:
    """With negatives, half of the targets would be of clips that nobody hears."""
    with pytest.raises(InputError, match="negatives=None"):
        loader_of(dataset, video=False, targets=["emotion"])
    with loader_of(dataset, video=False, targets=["emotion"], negatives=None) as loader:
        batch = next(iter(loader))
        assert torch.equal(batch.clip, batch.audio_clip)


def test_nothing_to_see_and_nothing_to_hear_is_refused(dataset: Path) -> None:
    with pytest.raises(InputError, match="video and audio are both False"):
        loader_of(dataset, video=False, audio=False)


# -- clips that lack something


def test_clips_that_lack_what_is_asked_for_are_refused_with_the_mend(lacking: tuple[str, Path]) -> None:
    """What is asked for counts, and the split."""
    kind, folder = lacking
    missing = {name: len(rows) for name, rows in LACKING.items() if kind in (name, "both")}
    mends = {"filmstrip": "give video=False, or build", "audio": "give audio=False, or build"}
    for option, name in (("audio", "filmstrip"), ("video", "audio")):
        if name in missing:
            with pytest.raises(InputError, match=f"{missing[name]} have no {name}: {mends[name]}"):
                loader_of(folder, **{option: False})
        else:
            with loader_of(folder, max_bad_fraction=0, **{option: False}) as loader:
                assert sum(len(batch) for batch in loader) == 56
    said = " and ".join(f"{count} have no {name}" for name, count in missing.items())
    with pytest.raises(InputError) as refused:
        loader_of(folder)
    assert f"{folder}: of 62 clips of the split 'train' {said}: " in str(refused.value)
    assert ("give" in str(refused.value)) == (kind != "both")
    assert "without --allow-missing" in str(refused.value)
    assert "\n" not in str(refused.value)
    with loader_of(folder, "test") as loader:
        assert len(next(iter(loader))) == 8


def test_a_member_that_the_dataset_does_not_have_is_lacking_in_every_clip(dataset: Path, tmp_path: Path) -> None:
    members = [one for one in read_manifest(dataset).members if one.name != "audio"]
    folder = rebuilt(dataset, tmp_path / "mute", members, lambda split, row, files: files)
    with pytest.raises(InputError, match="of 62 clips of the split 'train' 62 have no audio: give audio=False"):
        loader_of(folder)
    with loader_of(folder, audio=False) as loader:
        assert next(iter(loader)).audio.shape == (8, 0)

"""What a run opens: each of its datasets once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
import torch
from accelerate import Accelerator

import train
from loaders import Dataset, InputError
from models.frontend.front_end import FrontEnd, FrontEndConfig
from models.systems.streams import Needs
from models.training import stages
from models.training.config import DataConfig, EvaluateConfig, LoaderConfig, TrainingDataConfig
from models.training.data import datasets_of, scoring_loader
from tests.parses import counted_parses

SMALL = ("--preset", "tiny", "--width", 4, "--frame-size", 16)


class OpenedError(Exception):
    """All is opened that a training needs."""


@pytest.fixture
def url(dataset: Path) -> Iterator[str]:
    """The small dataset in a store, this process' memory."""
    store = fsspec.filesystem("memory")
    store.put(f"{dataset}/", "/small/", recursive=True)
    yield "memory://small"
    store.rm("/small", recursive=True)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training ends when all is there for its first step."""

    def fit(*_: object) -> None:
        raise OpenedError

    monkeypatch.setattr(stages, "fit", fit)


def parses_of(*arguments: object) -> int:
    """Of dataset.json, until the first step of a training."""
    config, _ = train.parse([*map(str, arguments)])
    assert not isinstance(config, EvaluateConfig)
    with counted_parses() as parses, pytest.raises(OpenedError):
        stages.train(config, Accelerator(cpu=True))
    return len(parses)


@pytest.mark.usefixtures("begun")
def test_a_training_parses_each_description_once(dataset: Path, url: str, namesakes: Path, tmp_path: Path) -> None:
    pretrain = ("--stage", "pretrain", *SMALL)
    assert parses_of(*pretrain, "--data", dataset, "--output", tmp_path / "1") == 1
    assert parses_of(*pretrain, "--data", url, "--cache", tmp_path / "cache", "--output", tmp_path / "2") == 1
    assert parses_of(*pretrain, "--data", dataset, namesakes, "--output", tmp_path / "3") == 2
    finetune = ("--stage", "finetune", *SMALL, "--evaluation-split", "test")
    assert parses_of(*finetune, "--data", dataset, "--output", tmp_path / "4") == 1


@pytest.mark.usefixtures("begun")
def test_scores_of_what_is_trained_on_are_told_from_others(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage in ("pretrain", "finetune"):
        for split in ("train", "test"):
            given = ("--stage", stage, *SMALL, "--evaluation-split", split, "--data", dataset)
            parses_of(*given, "--output", tmp_path / stage / split)
            said = "--evaluation-split train: it is scored on what it is trained on, not on unseen clips"
            assert (f"warning: {said}" in capsys.readouterr().err) == (split == "train")


def test_of_a_dataset_in_a_store_the_catalogs_of_a_run_are_fetched_with_it(url: str, tmp_path: Path) -> None:
    data, config = (url,), LoaderConfig(cache=tmp_path)

    def fetched(opened: list[Dataset]) -> set[str]:
        return {path.parent.name for path in opened[0].folder.rglob("*.parquet")}

    assert fetched(datasets_of(DataConfig(data=data), config, "test")) == {"test"}
    assert fetched(datasets_of(TrainingDataConfig(data=data), config, None)) == {"test", "train"}


def test_without_a_split_to_score_on_the_splits_are_named(dataset: Path) -> None:
    opened = Dataset.open(dataset)
    data, config = DataConfig(data=(str(dataset),)), LoaderConfig()
    with scoring_loader([opened], data, config, Accelerator(cpu=True), None, paired=True) as loader:
        assert loader.catalogs[0] is opened.catalog("test", list(loader.catalogs[0].members))
    manifest = replace(opened.manifest, splits={"train": opened.manifest.splits["train"]})
    opened = Dataset(opened.name, opened.folder, manifest)
    mend = "give --evaluation-split, or build it with a split test"
    with pytest.raises(InputError, match=f"^{dataset}: no split to score on, it has train: {mend}$"):
        scoring_loader([opened], data, config, Accelerator(cpu=True), None, paired=True)


def test_only_the_frames_that_the_network_takes_are_decoded_and_they_are_those_it_took_before(dataset: Path) -> None:
    opened = [Dataset.open(dataset)]
    data, config, accelerator = DataConfig(data=(str(dataset),)), LoaderConfig(), Accelerator(cpu=True)
    front_end = FrontEnd(FrontEndConfig(frame_size=32, crop=0.9, frames=3, n_mels=16)).eval()
    with (
        scoring_loader(opened, data, config, accelerator, "test", paired=True, frames=3) as few,
        scoring_loader(opened, data, config, accelerator, "test", paired=True) as whole,
    ):
        for one, other in zip(few, whole, strict=True):
            assert one.video.shape[1] == 3
            assert torch.equal(one.audio, other.audio)
            # The first and the last row of pixels, which show what is decoded beside a frame, are cropped here.
            assert torch.allclose(front_end(video=one.video).video, front_end(video=other.video).video)


def test_a_network_that_takes_more_frames_than_there_are_is_refused(dataset: Path) -> None:
    opened, accelerator = [Dataset.open(dataset)], Accelerator(cpu=True)
    for window, frames, what in ((None, 17, "clips have 16: give a dataset"), (5, 6, "--window is 5: use --window 6")):
        data = DataConfig(data=(str(dataset),), window=window)
        with pytest.raises(InputError, match=f"takes {frames} frames, and {what}"):
            scoring_loader(opened, data, LoaderConfig(), accelerator, "test", paired=True, frames=frames)


@pytest.mark.parametrize(("streams", "paired"), [(("gaze", "audio"), True), (("gaze",), False)])
def test_a_network_that_cannot_be_fed_is_refused(dataset: Path, streams: tuple[str, ...], paired: bool) -> None:
    data, loader = DataConfig(data=(str(dataset),), batch_size=4), LoaderConfig()
    datasets = datasets_of(data, loader, None)
    with pytest.raises(InputError, match=f"takes frames, only {', '.join(streams)}: give one that does"):
        scoring_loader(datasets, data, loader, Accelerator(cpu=True), None, paired=paired, needs=Needs(streams, (), ()))

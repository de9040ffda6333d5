"""Gaze by one tracker is not gaze by another: a run remembers whose it has learned, and datasets are not mixed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import train
from loaders.dataset.dataset import Dataset
from loaders.dataset.manifest import read_manifest, write_manifest
from loaders.errors import InputError
from models.systems.streams import PLAIN
from models.training.gaze_tracker import GAZE_TRACKER, require_tracker, tracker_of

SMALL = ("--preset", "tiny", "--width", "2", "--frame-size", "16", "--batch-size", "8", "--max-steps", "1")


@pytest.fixture(scope="module")
def tracked(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small dataset, but that MediaPipe has tracked it."""
    folder = tmp_path_factory.mktemp("datasets") / "tracked"
    shutil.copytree(dataset, folder)
    manifest = read_manifest(folder)
    write_manifest(folder, replace(manifest, settings={**manifest.settings, "gaze": "mediapipe"}))
    return folder


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """train.py called from here; returns the line with which it refuses, or nothing."""

    def call(*arguments: object) -> str:
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        try:
            train.main()
        except SystemExit:
            (line,) = (line for line in capfd.readouterr().err.splitlines() if line.startswith("error: "))
            return line
        return ""

    return call


def test_a_run_says_whose_gaze_it_has_learned_and_refuses_anothers(
    dataset: Path, tracked: Path, tmp_path: Path, program: Callable[..., str], full: bool
) -> None:
    ways = ((tracked, dataset, "mediapipe"), (dataset, tracked, "openface"))
    for data, other, name in ways if full else ways[:1]:
        run, tuned = tmp_path / name, tmp_path / f"{name}-tuned"
        assert program("--stage", "pretrain", "--data", data, "--output", run, *SMALL) == ""
        assert json.loads((run / "run.json").read_text())[GAZE_TRACKER] == name
        tune = ("--stage", "finetune", "--init", run, "--output", tuned, "--batch-size", "8", "--max-steps", "1")
        line = program(*tune, "--data", other)
        assert f"{run} was trained with that of {name}: build the dataset with --gaze {name}" in line
        assert not tuned.exists()
        assert "was trained with that of" in program("--stage", "evaluate", "--checkpoint", run, "--data", other)
        if full:  # what looks at no gaze takes any
            assert program(*tune, "--data", other, "--no-gaze") == ""
            assert GAZE_TRACKER not in json.loads((tuned / "run.json").read_text())


def test_two_trackers_in_one_training_are_refused(dataset: Path, tracked: Path) -> None:
    catalogs = [Dataset.open(folder).catalog("train", ("gaze",)) for folder in (dataset, tracked)]
    with pytest.raises(InputError, match=r"openface and mediapipe: build all with the same --gaze, or .* --no-gaze"):
        tracker_of(catalogs, PLAIN, "both")
    assert tracker_of(catalogs, replace(PLAIN, of_gaze=()), "both") is None
    assert [tracker_of([catalog], PLAIN, "one") for catalog in catalogs] == ["openface", "mediapipe"]


@pytest.mark.parametrize("run", [{"gaze": True}, {"gaze": True, GAZE_TRACKER: "openface"}])
def test_a_run_of_before_there_was_a_choice_has_openfaces(run: dict[str, Any]) -> None:
    require_tracker(run, "openface", "run", "data")
    require_tracker(run, None, "run", "data")
    with pytest.raises(InputError, match="run was trained with that of openface"):
        require_tracker(run, "mediapipe", "run", "data")


@pytest.mark.parametrize("run", [{"gaze": False}, {"gaze": True, GAZE_TRACKER: None}])
def test_a_run_that_has_seen_no_gaze_takes_any(run: dict[str, Any]) -> None:
    require_tracker(run, "mediapipe", "run", "data")

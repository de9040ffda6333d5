"""From a member in a dataset to a network that takes it: trained on pairs, on labels, scored, and read back."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import train
from loaders import ClipLoader
from models.frontend.front_end import given_by
from models.predict import predict_targets
from models.training.runs import load_correspondence, load_targets
from tests.members import FUNCTIONALS, GAZE, functionals, gaze
from tests.rebuilt import with_arrays

SMALL = ("--preset", "tiny", "--width", "2", "--frame-size", "16", "--batch-size", "8", "--max-steps", "2")


@pytest.fixture(scope="module")
def arrayed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small dataset with functionals and gaze frame by frame."""
    arrays = {FUNCTIONALS: functionals, GAZE: gaze}
    return with_arrays(dataset, tmp_path_factory.mktemp("datasets") / "arrayed", arrays)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """train.py called from here; returns what it prints, or the line with which it refuses."""

    def call(*arguments: object) -> str:
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        try:
            train.main()
        except SystemExit:
            (line,) = (line for line in capfd.readouterr().err.splitlines() if line.startswith("error: "))
            return line
        return capfd.readouterr().out

    return call


def test_a_system_over_members_in_three_commands(arrayed: Path, tmp_path: Path, program: Callable[..., str]) -> None:
    pretrained, tuned = tmp_path / "pretrained", tmp_path / "tuned"
    data = ("--data", arrayed)
    pairs = ("--system", "abdou-model-level", "--gaze-tower", "gaze-transformer", "--gaze-dropout", "0.3")
    out = program("--stage", "pretrain", *data, "--output", pretrained, *SMALL, *pairs)
    assert "pre-training accuracy" in out
    described = json.loads((pretrained / "run.json").read_text())
    assert (described["model"], described["gaze"]) == ("l3", True)
    kinds = [described["sizes"][place]["kind"] for place in ("video", "audio", "gaze")]
    assert kinds == ["VggFaceConfig", "EgemapsTowerConfig", "GazeTransformerConfig"]
    _, network = load_correspondence(pretrained)
    assert network.needs.members == ("egemaps", "gaze_frames")
    assert not network.needs.audio

    more = ("--batch-size", "8", "--max-steps", "2", "--output", tuned)
    program("--stage", "finetune", *data, "--init", pretrained, *more)
    table = program("--stage", "evaluate", *data, "--checkpoint", tuned)
    for row in ("emotion from audio", "emotion from visual", "emotion from joint"):
        assert row in table
    assert any(name.startswith("network.gaze.encoder.") for name in load_file(tuned / "model.safetensors"))

    # One modality needs nothing of the other: a loader that reads nothing of it feeds it.
    front_end, heard = load_targets(tuned)
    options: dict[str, Any] = {"batch_size": 8, "negatives": None, "training": False}
    everything = ClipLoader(arrayed, "test", **options, audio=False, members=heard.needs.members)
    functionals_alone = ClipLoader(arrayed, "test", **options, video=False, members=("egemaps",))
    with everything as both, functionals_alone as sound:
        one, other = next(iter(both)), next(iter(sound))
    alone = {"members": {"egemaps": other.members["egemaps"]}, "masks": {"egemaps": other.masks["egemaps"]}}
    said = predict_targets(front_end, heard, **alone)["emotion"]
    assert said.visual is said.joint is None
    torch.testing.assert_close(said.audio, predict_targets(front_end, heard, **given_by(one))["emotion"].audio)


@pytest.mark.parametrize("system", ["abdou-early", "emobed"])
def test_the_other_systems_of_prior_work_are_fine_tuned_from_scratch(
    arrayed: Path, tmp_path: Path, program: Callable[..., str], system: str
) -> None:
    arguments = ("--stage", "finetune", "--data", arrayed, "--output", tmp_path / "run", *SMALL)
    assert "emotion from joint" in program(*arguments, "--system", system)
    _, network = load_targets(tmp_path / "run")
    assert ("gaze" in network.needs.streams) == (system == "abdou-early")


def test_the_default_network_is_the_system_gaze_l3(dataset: Path, tmp_path: Path, program: Callable[..., str]) -> None:
    weights = []
    for name, options in (("plain", ()), ("named", ("--system", "gaze-l3"))):
        program("--stage", "pretrain", "--data", dataset, "--output", tmp_path / name, *SMALL, *options)
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_what_does_not_go_together_is_refused(dataset: Path, tmp_path: Path, program: Callable[..., str]) -> None:
    arguments = ("--stage", "pretrain", "--data", dataset, "--output", tmp_path / "run", *SMALL)
    for options, why in (
        (
            ("--audio-tower", "egemaps-mlp"),
            "its clips have no egemaps, which a tower takes: build it again with --member",
        ),
        (("--system", "ave", "--model", "l3"), "--model has no effect with --system ave, which says it"),
        (("--system", "ave", "--no-gaze"), "--gaze has no effect with --system ave, which says it"),
        (("--system", "l3", "--gaze-dropout", "0.5"), "--gaze-dropout has no effect with --system l3, which does not"),
        (("--no-gaze", "--gaze-tower", "gaze-mlp"), "--gaze-tower has no effect with --no-gaze"),
        (("--system", "abdou-early", "--gaze-tower", "gaze-mlp"), "whose video tower encodes gaze"),
        (("--system", "abdou-early", "--video-tower", "conv3d"), "cannot encode gaze with its frames"),
    ):
        assert why in program(*arguments, *options)
    assert not (tmp_path / "run" / "run.json").exists()

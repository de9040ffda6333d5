"""From films to scores: functionals that a build computes, in a system of prior work, at train.py's three stages."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import train
from loaders.dataset.manifest import read_manifest
from models.training.runs import load_targets
from sharding.corpora.omg import OmgSources, read_omg
from sharding.demo.corpus import DemoSettings, make_demo
from sharding.packing.building import build
from sharding.settings import BuildSettings

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("opensmile") is None, reason="the extra egemaps is not installed"
)
SETTINGS = BuildSettings(size=16, member=("egemaps",))
SMALL = ("--preset", "tiny", "--width", "2", "--frame-size", "16")


@pytest.fixture(scope="module")
def omg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the demo corpus' OMG part, a few drawn utterances."""
    folder = tmp_path_factory.mktemp("demo")
    few = DemoSettings(speakers=1, omg_train=4, omg_validation=4, omg_utterances_per_video=2, size=32)
    make_demo(folder / "corpus", few, workers=1)
    tables = folder / "corpus/omg"
    sources = OmgSources(
        source=tables / "videos",
        openface=folder / "corpus/openface/omg",
        train_csv=tables / "omg_TrainVideos.csv",
        validation_csv=tables / "omg_ValidationVideos.csv",
    )
    build(read_omg(sources), folder / "omg", SETTINGS, 1)
    return folder / "omg"


def test_abdous_system_is_pretrained_finetuned_and_evaluated_on_what_a_build_computes(
    omg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def program(*arguments: object) -> str:
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        train.main()
        told = capfd.readouterr()
        assert "moments of egemaps" not in told.err + told.out  # they are stated
        return told.out

    pretrained, tuned = tmp_path / "pretrained", tmp_path / "tuned"
    steps = ("--batch-size", "2", "--max-steps", "2")
    system = ("--system", "abdou-model-level", *SMALL)
    program("--stage", "pretrain", "--data", omg, "--output", pretrained, *system, *steps)
    program("--stage", "finetune", "--data", omg, "--output", tuned, "--init", pretrained, *steps)
    table = program("--stage", "evaluate", "--data", omg, "--checkpoint", tuned)
    for modality in ("audio", "visual", "joint"):
        assert f"emotion from {modality}" in table
    _, network = load_targets(tuned)
    assert network.needs.members == ("egemaps",)
    assert not network.needs.audio
    # Functionals are in deviations of the whole training split, however little of it two steps saw.
    moments = read_manifest(omg).moments["egemaps"]
    assert moments.count == read_manifest(omg).splits["train"].clips
    for run in (pretrained, tuned):
        weights = load_file(run / "model.safetensors")
        np.testing.assert_allclose(weights["network.audio.standardise.mean"], moments.mean, rtol=1e-6)
        np.testing.assert_allclose(weights["network.audio.standardise.variance"], np.square(moments.std), rtol=1e-6)

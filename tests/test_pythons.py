"""Which Pythons are supported, and that the programs run under this one, with the packages that it has.

`make test-python PYTHON=...` runs these tests in an environment of its own, with the newest packages instead of those
of constraints.txt.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from loaders import Batch, ClipLoader
from loaders.dataset.catalog import CATALOG
from loaders.decode import dali
from models.training.checkpoint import checkpoints
from tests.batches import digests

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "ACCELERATE_USE_CPU": "true"}
VOICES = ("--speakers", 16, "--videos-per-speaker", 1, "--voxceleb-seconds", 2.1, 2.1, "--lost-faces", 0)
LABELLED = ("--omg-train", 8, "--omg-validation", 4, "--omg-utterances-per-video", 2, "--omg-seconds", 2.1, 2.1)
STEPS = ("--batch-size", 4, "--max-steps", 2, "--log-every", 1)
SMALL = ("--preset", "tiny", "--width", 4, "--frame-size", 32)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


@pytest.fixture(scope="module")
def pythons(project: dict[str, Any]) -> list[str]:
    """Those that the classifiers name, oldest first."""
    return re.findall(r"Python :: (\d+\.\d+)", "\n".join(project["classifiers"]))


@pytest.fixture(scope="module")
def pinned() -> dict[str, str]:
    """The versions of constraints.txt, by normalised name."""
    pins = (ROOT / "constraints.txt").read_text().split()
    return {canonicalize_name(name): number for name, number in (pin.split("==") for pin in pins)}


def test_the_supported_pythons_are_the_same_wherever_they_are_said(project: dict[str, Any], pythons: list[str]) -> None:
    assert project["requires-python"] == f">={pythons[0]}"
    assert f"Python {', '.join(pythons[:-1])} or {pythons[-1]}" in (ROOT / "README.md").read_text()


def test_the_constraints_are_of_versions_that_are_asked_for(project: dict[str, Any], pinned: dict[str, str]) -> None:
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(line for extra in extras if extra != "bench" for line in extras[extra])]
    for line in asked:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), line


def test_the_constraints_can_be_met_on_every_supported_python(pythons: list[str], pinned: dict[str, str]) -> None:
    here = {name for name, number in pinned.items() if _installed(name) == number}
    refused = []
    for name in here:
        takes = SpecifierSet(distribution(name).metadata.json.get("requires_python", ""))
        refused += [
            f"{name} {pinned[name]} on Python {python}"
            for python in pythons
            if f"{python}.9" not in takes and _is_needed(name, python)
        ]
    assert not refused
    if not here:
        pytest.skip("none of the constraints' versions is installed")


def _is_needed(name: str, python: str) -> bool:
    """Whether a package is asked for on this Python: some are on newer ones alone, in another's place."""
    environment = {"python_full_version": f"{python}.9", "python_version": python, "extra": ""}
    asked = [
        dependency.get("marker")
        for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
        for group in (package.get("dependencies", ()), *package.get("optional-dependencies", {}).values())
        for dependency in group
        if dependency["name"] == name
    ]
    return not asked or any(marker is None or Marker(marker).evaluate(environment) for marker in asked)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def run(program: str, *arguments: object) -> str:
    command = [sys.executable, program, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def batches(dataset: Path, split: str, decoder: str) -> list[Batch]:
    with ClipLoader(dataset, split, batch_size=4, training=False, cpu_decoder=decoder) as loader:
        return list(loader)


def weights(run_folder: Path) -> dict[str, torch.Tensor]:
    newest = checkpoints(run_folder / "checkpoints")[-1]
    loaded: dict[str, torch.Tensor] = load_file(newest / "model.safetensors")
    return loaded


def losses(run_folder: Path) -> list[float]:
    curves = EventAccumulator(str(run_folder / "tensorboard")).Reload()
    return [line.value for line in curves.Scalars("train/loss")]


def test_from_a_drawn_corpus_to_scores(tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("eight programs after another: --full, or `make test-python`")
    corpus, vox, omg = tmp_path / "corpus", tmp_path / "vox", tmp_path / "omg"
    before, after = tmp_path / "pretrained", tmp_path / "tuned"
    run("sharding/build.py", "demo", "--output", corpus, *VOICES, *LABELLED, "--size", 64)

    faces = ("--source", corpus / "voxceleb", "--openface", corpus / "openface/voxceleb")
    run("sharding/build.py", "voxceleb", *faces, "--output", vox, "--size", 48, "--test-fraction", 0.4)
    tables = [f"--{split}-csv={corpus}/omg/omg_{split.title()}Videos.csv" for split in ("train", "validation")]
    faces = ("--source", corpus / "omg/videos", "--openface", corpus / "openface/omg")
    run("sharding/build.py", "omg", *faces, *tables, "--crop", "centre", "--output", omg, "--size", 48)
    for dataset, splits in ((vox, {"train", "test"}), (omg, {"train": 8, "validation": 4})):
        run("sharding/verify.py", dataset)
        clips = {split: pq.read_metadata(dataset / split / CATALOG).num_rows for split in splits}
        assert clips == splits if dataset == omg else sum(clips.values()) == 16
        for split, number in clips.items():
            by_turbo = batches(dataset, split, "turbo")
            assert sum(map(len, by_turbo)) >= number
            if dali.is_installed():  # an extra
                assert digests(batches(dataset, split, "dali")) == digests(by_turbo)

    run("train.py", "--stage", "pretrain", "--data", vox, "--output", before, *SMALL, *STEPS)
    run("train.py", "--stage", "finetune", "--data", omg, "--init", before, "--output", after, *STEPS)
    for folder in (before, after):
        assert len(losses(folder)) == 2
        assert all(tensor.isfinite().all() for tensor in weights(folder).values())
    shared = weights(before).keys() & weights(after).keys()
    assert any(not torch.equal(weights(before)[name], weights(after)[name]) for name in shared)

    assert "emotion from joint" in run("train.py", "--stage", "evaluate", "--checkpoint", after, "--data", omg)
    results = json.loads((after / "results.json").read_text())
    assert results["pretraining"]["pairs"] > 0
    assert results["targets"]["emotion"]["utterances"] == 4

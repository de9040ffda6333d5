"""The code of docs/extending.md, put where the page says in a copy of the packages, and used as users use it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from loaders.dataset.manifest import CATALOG, EMOTIONS, read_manifest
from sharding.settings import BuildSettings
from tests.datasets import Contents, make_dataset
from tests.films import write_film

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "extending.md"
_BLOCK = re.compile(r"^`([\w/]+\.py)`, (new|changed):\n\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def put(house: Path) -> dict[str, list[str]]:
    """Write the page's files into a house, and apply its changes; returns the paths, new and changed."""
    done: dict[str, list[str]] = {"new": [], "changed": []}
    for name, kind, language, text in _BLOCK.findall(PAGE.read_text()):
        path = house / name
        if kind == "new":
            assert (language, path.exists()) == ("python", False), name
            path.write_text(text)
        else:
            assert language == "diff", name
            path.write_text(changed(path.read_text(), text))
        done[kind].append(name)
    return done


def changed(text: str, difference: str) -> str:
    """A text with a difference applied, whose hunks are found by their lines: each stands there once."""
    for hunk in re.split(r"^@@\n", difference, flags=re.MULTILINE):
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] != "+")
        assert text.count(before) == 1, before
        text = text.replace(before, "".join(line[1:] for line in lines if line[0] != "-"))
    return text


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages with the page's additions, and a dataset where its programs look for one."""
    house = tmp_path_factory.mktemp("house")
    for package in ("loaders", "sharding", "models"):
        shutil.copytree(ROOT / package, house / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", house)
    put(house)
    contents = Contents(speakers={"train": 4, "test": 3}, shards={"train": 2, "test": 1}, clips=2)
    make_dataset(house / "data" / "vox", contents, BuildSettings(size=32, fps=4))
    return house


@pytest.fixture
def run(house: Path) -> Callable[..., str]:
    """Run a program of the house; returns what it prints."""

    def call(*command: object, **environment: str) -> str:
        known = {**os.environ, "PYTHONPATH": str(house), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=house,
            env=known | environment,
            text=True,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call


def test_the_table_counts_what_the_page_shows(tmp_path: Path) -> None:
    """A corpus: one new file. A tower: one, and a change of two lines. An objective: one."""
    shutil.copytree(ROOT / "models", tmp_path / "models", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "sharding" / "corpora").mkdir(parents=True)
    (tmp_path / "sharding" / "members").mkdir()
    before = (tmp_path / "models/systems/presets.py").read_text().splitlines()
    done = put(tmp_path)
    corpus, tower, objective, *programs = done["new"]
    assert (corpus, tower, objective) == (
        "sharding/corpora/ravdess.py",
        "models/towers/framewise.py",
        "models/training/tasks/focal.py",
    )
    assert programs == ["shelf.py", "sharding/members/loudness.py"]
    assert done["changed"] == ["models/systems/presets.py"]
    assert len((tmp_path / "models/systems/presets.py").read_text().splitlines()) == len(before) + 2


def test_a_corpus_is_built_from_one_file(house: Path, run: Callable[..., str], tmp_path: Path) -> None:
    for actor, emotion in (("01", "03"), ("02", "05"), ("03", "02"), ("04", "08")):
        write_film(tmp_path / f"ravdess/Actor_{actor}/01-01-{emotion}-01-01-01-{actor}.mp4", 1.2)
    write_film(tmp_path / "ravdess/Actor_01/02-01-03-01-01-01-01.mp4", 1.2, sound=None)
    out = run(
        "sharding/build.py",
        *("ravdess", "--source", tmp_path / "ravdess", "--output", tmp_path / "out", "--test-fraction", "0"),
        *("--clip-seconds", "1", "--fps", "2", "--size", "32", "--workers", "1"),
    )
    assert "1 films without sound or of another name were passed by" in out
    manifest = read_manifest(tmp_path / "out")
    assert (manifest.splits["train"].clips, manifest.splits["train"].speakers) == (4, 4)
    catalog = pq.read_table(tmp_path / "out/train" / CATALOG)
    felt = {row["speaker"]: row["emotion"] for row in catalog.select(["speaker", "emotion"]).to_pylist()}
    assert felt == {
        "01": EMOTIONS.index("happy"),
        "02": EMOTIONS.index("anger"),
        "03": -1,
        "04": EMOTIONS.index("surprise"),
    }


def test_a_tower_is_trained_and_read_back(house: Path, run: Callable[..., str]) -> None:
    program = (
        "import train; train.main()\n"
        "from models.training.runs import load_correspondence\n"
        "network = load_correspondence('runs/framewise')[1]\n"
        "print('read back', type(network.video).__name__, network.video.embedding_dim, type(network.audio).__name__)"
    )
    small = ("--width", "4", "--frame-size", "16", "--frames", "2", "--batch-size", "4", "--max-steps", "2")
    out = run(
        *("-c", program, "--stage", "pretrain", "--preset", "framewise", "--data", "data/vox"),
        *("--output", "runs/framewise", *small),
    )
    assert "read back FramewiseTower 8 AudioTower" in out
    described = json.loads((house / "runs/framewise/run.json").read_text())
    assert described["sizes"]["video"] == {"width": 4, "kind": "FramewiseConfig"}
    assert described["sizes"]["audio"]["width"] == 4
    assert "kind" not in described["sizes"]["audio"]


def test_an_objective_is_a_stage(house: Path, run: Callable[..., str]) -> None:
    program = (
        "import sys, train; train.main()\n"
        "sys.argv[1:] = ['--stage', 'evaluate', '--checkpoint', 'runs/focal', '--data', 'data/vox']; train.main()"
    )
    small = ("--width", "4", "--frame-size", "16", "--batch-size", "4", "--max-steps", "2")
    arguments = ("--stage", "focal", "--gamma", "1", "--preset", "tiny", "--data", "data/vox", "--output", "runs/focal")
    out = run("-c", program, *arguments, *small)
    described = json.loads((house / "runs/focal/run.json").read_text())
    assert (described["stage"], described["settings"]["gamma"]) == ("focal", 1.0)
    assert out.count("pre-training accuracy") == 2  # of the training, and of the evaluation
    assert (house / "runs/focal/checkpoints/00000002").is_dir()


def test_a_store_is_what_fsspec_knows(house: Path, run: Callable[..., str]) -> None:
    clips = read_manifest(house / "data/vox").splits["train"].clips
    assert f"{clips // 2 * 2} clips" in run("shelf.py", SHELF=str(house / "data"))


def test_a_member_is_built_from_one_file_and_loaded(house: Path, run: Callable[..., str], tmp_path: Path) -> None:
    for speaker in ("a", "b"):
        write_film(tmp_path / f"mp4/{speaker}/v/1.mp4", 2.2)
    out = run(
        "sharding/build.py",
        *("voxceleb", "--source", tmp_path / "mp4", "--output", tmp_path / "out", "--test-fraction", "0"),
        *("--size", "32", "--workers", "1", "--member", "loudness"),
    )
    assert "clips without loudness" not in out
    assert "whole" in run("sharding/verify.py", tmp_path / "out", "--decode")
    program = (
        "from loaders import ClipLoader\n"
        "options = dict(batch_size=2, training=False, negatives=None, members=('loudness',))\n"
        f"with ClipLoader({str(tmp_path / 'out')!r}, 'train', **options) as loader: (batch,) = loader\n"
        "print(tuple(batch.members['loudness'].shape), batch.masks['loudness'].tolist())\n"
        "print(((10 ** (batch.members['loudness'] / 10)).mean(1) - 1).abs().max() < 0.2)"  # as loud as the utterance
    )
    assert run("-c", program).splitlines() == ["(2, 20) [True, True]", "tensor(True)"]

"""The whole way on real talking faces: build, pre-train with either network, fine-tune, evaluate.

The labels of the OMG-like tree are made up: it shows that it runs, no more.
"""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "real"
TRAIN = ("train.py", "--mixed-precision", "no")
SMALL = ("--preset", "tiny", "--width", "4", "--frame-size", "32", "--batch-size", "4")
SPLIT = ("--test-fraction", "0.4", "--size", "64")  # of nine videos, a fifth by hash may be none
COLUMNS = ("link", "start", "end", "video", "utterance", "arousal", "valence", "EmotionMaxVote")

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="needs the real clips in ../shared/real")


def run(*arguments: object) -> str:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def voxceleb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real") / "vox"
    source = REAL / "voxceleb2"
    run("sharding/build.py", "voxceleb", "--source", source, "--output", folder, "--split-by", "video", *SPLIT)
    return folder


@pytest.fixture(scope="module")
def omg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    films = [*sorted((REAL / "grid").glob("*.mpg")), REAL / "wide" / "fps22.mp4"]
    tables = {"train": films[2:], "validation": films[:2]}
    for split, chosen in tables.items():
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for number, film in enumerate(chosen):
                (folder / film.stem).mkdir()
                shutil.copy(film, folder / film.stem / f"utterance_1{film.suffix}")
                writer.writerow(("", 0, 3, film.stem, f"utterance_1{film.suffix}", 0.5, 0.1, 3 + number % 2))
    dataset = folder / "omg"
    tables_given = ("--train-csv", folder / "train.csv", "--validation-csv", folder / "validation.csv")
    run("sharding/build.py", "omg", "--source", folder, *tables_given, "--output", dataset, "--size", "64")
    return dataset


@pytest.mark.parametrize("model", ["l3", "ave"])
def test_from_real_films_to_scores(model: str, voxceleb: Path, omg: Path, tmp_path: Path) -> None:
    before, after = tmp_path / "pretrained", tmp_path / "tuned"
    pretraining = ("--stage", "pretrain", "--data", voxceleb, "--output", before, "--model", model)
    run(*TRAIN, *pretraining, *SMALL, "--max-steps", "20")
    finetuning = ("--stage", "finetune", "--data", omg, "--output", after, "--init", before)
    run(*TRAIN, *finetuning, *SMALL, "--max-steps", "3")
    assert "emotion from joint" in run(*TRAIN, "--stage", "evaluate", "--checkpoint", after, "--data", omg)
    results = json.loads((after / "results.json").read_text())
    assert results["pretraining"]["pairs"] > 0
    assert results["emotion"]["utterances"] == 2

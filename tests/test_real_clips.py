"""The whole way on real talking faces: build, pre-train with either network, fine-tune, evaluate.

The labels of the OMG-like tree are made up: it shows that it runs, no more.
"""

import csv
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import train
from benchmarks.thesis.grid import Grid
from benchmarks.thesis.recipes import DEMO
from benchmarks.thesis.systems import System, systems_of
from loaders import ClipLoader
from models.frontend.front_end import FrontEnd, FrontEndConfig
from models.systems.registry import systems
from models.training.evaluation import MODALITIES
from tests import forked
from tests.planes import needs_libturbojpeg

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "real"
BATCH = ("--batch-size", "4")
SMALL = ("--preset", "tiny", "--width", "4", "--frame-size", "32", *BATCH)
SPLIT = ("--test-fraction", "0.4", "--size", "64")  # of nine videos, a fifth by hash may be none
HAS_OPENSMILE = find_spec("opensmile") is not None
MEMBERS = ("--member", "gaze_frames", *(("--member", "egemaps") if HAS_OPENSMILE else ()))
GRID = Grid(folder=Path("f"), voxceleb="v", omg="o", recipe=DEMO, seeds=1)
COLUMNS = ("link", "start", "end", "video", "utterance", "arousal", "valence", "EmotionMaxVote")

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="needs the real clips in ../shared/real")


def run(*command: object) -> str:
    """A program, in a process that is forked."""
    process = forked.script(command)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def voxceleb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real") / "vox"
    source = REAL / "voxceleb2"
    run(
        "sharding/build.py", "voxceleb", "--source", source, "--output", folder, "--split-by", "video", *SPLIT, *MEMBERS
    )
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
    run("sharding/build.py", "omg", "--source", folder, *tables_given, "--output", dataset, "--size", "64", *MEMBERS)
    return dataset


@needs_libturbojpeg
@pytest.mark.parametrize("training", [False, True])
def test_frames_of_planes_are_those_of_rgb(training: bool, voxceleb: Path) -> None:
    front_end = FrontEnd(FrontEndConfig(frame_size=48)).train(training)
    frames = []
    for pixels in ("rgb", "yuv420"):
        with ClipLoader(voxceleb, batch_size=8, pixels=pixels) as loader:
            batch = next(iter(loader))
        video = front_end(video=batch.video, seed=batch.seed).video
        assert video is not None
        frames.append(video)
    levels = (frames[0] - frames[1]).abs() * 255 * front_end.config.video_std[0]
    assert 0 < levels.mean() < 0.5
    # The others are of colours that RGB does not have, or lie where frames meet (`models.frontend.planes`).
    assert (levels < 2).float().mean() > 0.98


@pytest.mark.parametrize("model", ["l3", "ave"])
def test_from_real_films_to_scores(model: str, voxceleb: Path, omg: Path, tmp_path: Path) -> None:
    before, after = tmp_path / "pretrained", tmp_path / "tuned"
    pretraining = ("--stage", "pretrain", "--data", voxceleb, "--output", before, "--model", model)
    run("train.py", *pretraining, *SMALL, "--max-steps", "20")
    finetuning = ("--stage", "finetune", "--data", omg, "--output", after, "--init", before)
    run("train.py", *finetuning, *BATCH, "--max-steps", "3")  # sizes are those of the run that it begins with
    assert "emotion from joint" in run("train.py", "--stage", "evaluate", "--checkpoint", after, "--data", omg)
    results = json.loads((after / "results.json").read_text())
    assert results["pretraining"]["pairs"] > 0
    assert results["targets"]["emotion"]["utterances"] == 2


@pytest.mark.parametrize("row", systems_of(GRID), ids=lambda row: row.key)
def test_every_system_from_real_films_to_scores(
    row: System, voxceleb: Path, omg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    """Pre-trained, fine-tuned, from scratch; the members that it takes are made of the films themselves."""
    if not full:
        pytest.skip("--full trains all systems")
    if "egemaps-mlp" in row.all_towers.values() and not HAS_OPENSMILE:
        pytest.skip("needs opensmile (the extra egemaps)")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")

    def program(stage: str, *arguments: object) -> None:
        more = ("--max-steps", "3", "--no-picture", "--tracker") if stage != "evaluate" else ()
        monkeypatch.setattr(sys, "argv", ["train.py", "--stage", stage, *map(str, (*arguments, *BATCH, *more))])
        train.main()

    before, after, scratch = (tmp_path / name for name in ("pretrained", "tuned", "scratch"))
    made = (*row.options(), *SMALL[:-2])
    objective = () if row.objective is None else ("--objective", row.objective)
    program("pretrain", "--data", voxceleb, "--output", before, *made, *objective)
    no_gaze = () if row.looks_at_gaze else ("--no-gaze",)
    program("finetune", "--data", omg, "--output", after, "--init", before, *no_gaze)
    program("finetune", "--data", omg, "--output", scratch, *made)
    for number, tuned in enumerate((after, scratch)):
        program("evaluate", "--checkpoint", tuned, "--data", omg, "--json", tmp_path / f"{number}.json")
        emotion = json.loads((tmp_path / f"{number}.json").read_text())["targets"]["emotion"]
        assert emotion["utterances"] == 2
        for modality in MODALITIES:
            assert 0 <= emotion[modality]["micro_f1"] <= 1
    results = json.loads((before / "results.json").read_text())
    assert ("pretraining" in results) == row.tells_pairs
    assert 0 <= results["retrieval"]["audio_to_video"]["ndcg"] <= 1


def test_every_system_of_train_py_is_among_them() -> None:
    assert {row.system for row in systems_of(GRID)} == set(systems())

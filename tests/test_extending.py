"""The code of docs/extending.md, put where the page says in a copy of the packages, and used as users use it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from loaders.dataset.labels import Label
from loaders.dataset.manifest import CATALOG, Manifest, read_manifest
from sharding.media.waveform import encode_waveform
from sharding.settings import BuildSettings
from tests import forked
from tests.datasets import Contents, make_dataset
from tests.films import tone, write_film

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
        process = forked.elsewhere(house, command, {**forked.ENVIRONMENT, "PYTHONPATH": str(house), **environment})
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
        return out

    return call


def test_the_table_counts_what_the_page_shows(tmp_path: Path) -> None:
    """A corpus, a tower, an objective, a system, a member, and the tower that takes it: one new file each."""
    shutil.copytree(ROOT / "models", tmp_path / "models", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "sharding" / "corpora").mkdir(parents=True)
    (tmp_path / "sharding" / "members").mkdir()
    done = put(tmp_path)
    assert [name for name in done["new"] if "/" in name] == [
        "sharding/corpora/ravdess.py",
        "models/towers/framewise.py",
        "models/objectives/focal.py",
        "models/systems/configurations/framewise_ave.py",
        "sharding/members/loudness.py",
        "models/towers/loudness.py",
    ]
    assert len((tmp_path / "models/systems/configurations/framewise_ave.py").read_text().splitlines()) < 30
    programs = [name for name in done["new"] if "/" not in name]
    assert programs == ["crema_d.py", "ravdess_table.py", "meld.py", "shelf.py"]
    assert done["changed"] == []


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
    felt = {row["speaker"]: (row["emotion"], row["gender"]) for row in catalog.to_pylist()}
    assert felt == {
        "01": ("happy", "male"),
        "02": ("anger", "female"),
        "03": ("calm", "male"),
        "04": ("surprise", "female"),
    }


@pytest.fixture
def built(run: Callable[..., str], tmp_path: Path) -> Callable[..., tuple[Manifest, list[dict[str, Any]]]]:
    """Make a corpus' table by its program of the page, and build it; returns the dataset's description and clips."""

    def call(program: str, root: Path, table: str, *options: str) -> tuple[Manifest, list[dict[str, Any]]]:
        run(program, root)
        small = ("--clip-seconds", "1", "--fps", "2", "--size", "32", "--workers", "1", "--output", tmp_path / "out")
        run("sharding/build.py", "table", "--table", root / table, *options, *small)
        manifest = read_manifest(tmp_path / "out")
        return manifest, [
            {"split": split, **row}
            for split in manifest.splits
            for row in pq.read_table(tmp_path / "out" / split / CATALOG).to_pylist()
        ]

    return call


def test_crema_d_is_a_table(built: Callable[..., Any], tmp_path: Path) -> None:
    root = tmp_path / "CREMA-D"
    for name in ("1001_DFA_ANG_XX", "1001_IEO_HAP_HI", "1002_DFA_NEU_XX"):
        write_film(root / f"VideoFlash/{name}.flv", 1.2, sound=None)
        (root / "AudioWAV").mkdir(exist_ok=True)
        sound = encode_waveform((tone(1.2) * 32767).astype(np.int16), sample_rate=16000, audio_format="wav")
        (root / f"AudioWAV/{name}.wav").write_bytes(sound)
    manifest, clips = built("crema_d.py", root, "crema_d.csv", "--labels", "emotion", "--test-fraction", "0")
    assert manifest.labels == (Label(name="emotion", classes=("anger", "happy", "neutral")),)
    assert manifest.apart == "speaker"
    assert [
        (clip["speaker"], clip["utterance"], clip["emotion"]) for clip in sorted(clips, key=lambda c: c["key"])
    ] == [
        ("1001", "1001_DFA_ANG_XX", "anger"),
        ("1001", "1001_IEO_HAP_HI", "happy"),
        ("1002", "1002_DFA_NEU_XX", "neutral"),
    ]


def test_ravdess_is_a_table(built: Callable[..., Any], tmp_path: Path) -> None:
    root = tmp_path / "RAVDESS"
    for name in ("01-01-06-01-02-01-12", "01-01-03-02-01-01-01", "02-01-06-01-02-01-12"):
        sound = None if name.startswith("02") else "tone"
        actor = name[-2:]
        write_film(root / f"Video_Speech_Actor_{actor}/Actor_{actor}/{name}.mp4", 1.2, sound=sound)
    labels = ("emotion", "gender", "intensity")
    manifest, clips = built("ravdess_table.py", root, "ravdess.csv", "--labels", *labels, "--test-fraction", "0")
    assert [label.name for label in manifest.labels] == [*labels]
    assert {clip["speaker"]: tuple(clip[name] for name in labels) for clip in clips} == {
        "12": ("fear", "female", "normal"),
        "1": ("happy", "male", "strong"),
    }


def test_meld_is_a_table(built: Callable[..., Any], tmp_path: Path) -> None:
    """Its speakers are in all splits, and its dialogues have several."""
    root = tmp_path / "MELD.Raw"
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
    folders = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
    for split, folder in folders.items():
        lines = [
            f'{number},"Well, {speaker}\u0092s here",{speaker},{emotion},{sentiment},0,{number},8,21,"0:16:16,059",0'
            for number, (speaker, emotion, sentiment) in enumerate(
                [("Chandler", "neutral", "neutral"), ("The Interviewer", "joy", "positive")]
            )
        ]
        for number in range(2):
            write_film(root / folder / f"dia0_utt{number}.mp4", 1.2)
        (root / f"{split}_sent_emo.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    options = ("--labels", "emotion", "sentiment", "--split-by", "video", "--video-names", "corpus")
    manifest, clips = built("meld.py", root, "meld.csv", *options)
    assert {name: (split.clips, split.speakers, split.videos) for name, split in manifest.splits.items()} == {
        "dev": (2, 2, 1),
        "test": (2, 2, 1),
        "train": (2, 2, 1),
    }
    assert (manifest.apart, {clip["video"] for clip in clips if clip["split"] == "dev"}) == ("video", {"dev_dia0"})
    assert {clip["speaker"]: (clip["emotion"], clip["sentiment"]) for clip in clips} == {
        "Chandler": ("neutral", "neutral"),
        "The Interviewer": ("joy", "positive"),
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
        *("-c", program, "--stage", "pretrain", "--preset", "tiny", "--video-tower", "framewise", "--data", "data/vox"),
        *("--output", "runs/framewise", *small),
    )
    assert "read back FramewiseTower 8 AudioTower" in out
    described = json.loads((house / "runs/framewise/run.json").read_text())
    assert described["sizes"]["video"] == {"width": 4, "kind": "FramewiseConfig"}
    assert described["sizes"]["audio"]["width"] == 4
    assert "kind" not in described["sizes"]["audio"]


def test_a_system_is_a_table(house: Path, run: Callable[..., str]) -> None:
    """Pre-trained, and fine-tuned from there."""
    program = (
        "import sys, train; train.main()\n"
        "sys.argv[1:] = ['--stage', 'finetune', '--init', 'runs/framewise-ave', '--data', 'data/vox', '--batch-size',"
        " '4', '--max-steps', '2', '--output', 'runs/framewise-emotion']; train.main()\n"
        "from models.training.runs import load_correspondence, load_targets\n"
        "pairs, labels = load_correspondence('runs/framewise-ave')[1], load_targets('runs/framewise-emotion')[1]\n"
        "print('read back', *(type(net).__name__ + '/' + type(net.video).__name__ for net in (pairs, labels)))"
    )
    small = ("--preset", "tiny", "--width", "4", "--frame-size", "16", "--batch-size", "4", "--max-steps", "2")
    out = run(
        *("-c", program, "--stage", "pretrain", "--system", "framewise-ave", "--data", "data/vox"),
        *("--output", "runs/framewise-ave", *small),
    )
    assert "read back AVENet/FramewiseTower TargetNet/FramewiseTower" in out


def test_an_objective_is_one_of_pretraining(house: Path, run: Callable[..., str]) -> None:
    program = (
        "import sys, train; train.main()\n"
        "sys.argv[1:] = ['--stage', 'evaluate', '--checkpoint', 'runs/focal', '--data', 'data/vox']; train.main()"
    )
    small = ("--width", "4", "--frame-size", "16", "--batch-size", "4", "--max-steps", "2", "--preset", "tiny")
    focal = ("--stage", "pretrain", "--objective", "focal", "--gamma", "1", "--data", "data/vox")
    out = run("-c", program, *focal, "--output", "runs/focal", *small)
    described = json.loads((house / "runs/focal/run.json").read_text())
    assert (described["stage"], described["objective"]) == ("pretrain", {"name": "focal", "gamma": 1.0})
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
    program = (
        "import train; train.main()\n"
        "from models.training.runs import load_correspondence\n"
        "network = load_correspondence('runs/loud')[1]\n"
        "print('read back', type(network.audio).__name__, network.needs)"
    )
    small = ("--preset", "tiny", "--width", "4", "--frame-size", "16", "--batch-size", "2", "--max-steps", "2")
    out = run(
        *("-c", program, "--stage", "pretrain", "--audio-tower", "loudness-mlp", "--data", tmp_path / "out"),
        *("--output", "runs/loud", "--evaluation-split", "train", *small),
    )
    assert "read back LoudnessTower Needs(streams=('video', 'loudness', 'gaze'), of_audio=('loudness',)" in out

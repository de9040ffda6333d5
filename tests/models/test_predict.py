"""Answers for videos: what is said of a clip from its file is what is said of it from a dataset."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import train
from loaders import ClipLoader
from loaders.errors import InputError
from models import load
from models.predict import main
from models.prediction.clips import VideoClips, notes_of
from models.prediction.making import GazeSource, making_of
from models.prediction.predictor import Predictor, utterance_of
from models.prediction.results import Answer, Answers, VideoPrediction, mean_of
from models.training.evaluation import MODALITIES, by_utterance, target_predictions
from sharding.crops.crop_plan import NoFaceError
from sharding.gaze.statistics import GazeTable, read_table
from sharding.packing.finish import finish_dataset
from sharding.packing.plan import ShardJob
from sharding.packing.shard import build_shard
from sharding.settings import BuildSettings
from sharding.utterance import Utterance
from tests.datasets import LABELS
from tests.films import write_film, write_table
from tests.made_run import SETTINGS, built, make_run
from tests.sharding.gaze.drawn import looking
from tests.sharding.gaze.tracked import needs_networks


def make_dataset(folder: Path, utterances: list[Utterance], settings: BuildSettings) -> None:
    (folder / ".build").mkdir(parents=True)
    job = ShardJob(
        output=folder,
        split="test",
        number=0,
        utterances=tuple(utterances),
        settings=settings,
        labels=LABELS,
        digest="d",
    )
    build_shard(job)
    finish_dataset(folder, "own", [job], settings, labels=LABELS)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips and a half with a table of gaze beside, and one clip without."""
    folder = tmp_path_factory.mktemp("films")
    write_film(folder / "long.mp4", 5.0)
    write_table(folder / "long.csv", 125)
    write_film(folder / "short.mp4", 2.2)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


def assert_close(found: Answers, expected: Answers) -> None:
    for (_, one), (_, other) in zip(found.items(), expected.items(), strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            values = one.number if one.probabilities is None else list(one.probabilities.values())
            assert values == pytest.approx(
                other.number if other.probabilities is None else list(other.probabilities.values()), abs=1e-6
            )


WAYS: dict[str, tuple[dict[str, Any], int | None]] = {
    "as by default": ({}, None),
    "in another": (
        {"subsampling": "4:4:4", "audio_format": "flac", "restart_markers": False, "gaze_window": "clip"},
        None,
    ),
    "in windows": ({}, 8),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_clip_from_its_file_is_the_clip_from_a_dataset(films: Path, tmp_path: Path, way: str) -> None:
    """Bit for bit, the JPEG's losses included; and so are the answers, of clips and of utterances."""
    options, window = WAYS[way]
    settings = dataclasses.replace(SETTINGS, **options)
    predictor = load(make_run(tmp_path / "run", settings, window))
    tables = {"long": films / "long.csv", "short": None}
    utterances = [utterance_of(films / f"{name}.mp4", gaze=gaze) for name, gaze in tables.items()]
    assert require_same(predictor, utterances, settings, window, tmp_path) == {"long": True, "short": False}


@needs_networks
def test_a_clip_whose_gaze_mediapipe_tracks_is_the_clip_from_a_dataset(tmp_path: Path) -> None:
    """Somebody who looks about; and nobody, of whom there is no gaze."""
    gaze = np.random.default_rng(0).normal(0, 0.2, (18, 2))
    pictures = looking(gaze, fps=8, size=128)
    write_film(tmp_path / "face.mp4", 2.2, fps=8, picture=lambda seconds: pictures[round(seconds * 8)])
    write_film(tmp_path / "none.mp4", 2.2, fps=8)
    settings = dataclasses.replace(SETTINGS, gaze="mediapipe")
    predictor = load(make_run(tmp_path / "run", settings), gaze="mediapipe")
    utterances = [utterance_of(tmp_path / f"{name}.mp4") for name in ("face", "none")]
    assert require_same(predictor, utterances, settings, None, tmp_path) == {"face": True, "none": False}


def require_same(
    predictor: Predictor, utterances: list[Utterance], settings: BuildSettings, window: int | None, tmp_path: Path
) -> dict[str, bool]:
    """That each clip and what is said of it are, from its file, those from a dataset; returns which have gaze."""
    tracked = {}
    make_dataset(tmp_path / "dataset", [dataclasses.replace(u, split="test") for u in utterances], settings)
    front_end, network = predictor.front_end, predictor.network
    frames = front_end.config.frames if window is None else window
    with ClipLoader(
        tmp_path / "dataset",
        "test",
        batch_size=8,
        frames=frames,
        sample="even" if window is None else "window",
        negatives=None,
        targets=tuple(label.name for label in LABELS),
    ) as loader:
        rows = loader.catalogs[0].table(["utterance", "start"]).to_pylist()
        (batch,) = list(loader)
        said = target_predictions(front_end, network, [batch], torch.device("cpu"))
    for utterance in utterances:
        of_file = [place for place, row in enumerate(rows) if row["utterance"] == utterance.utterance]
        clips = VideoClips(utterance, predictor.making, predictor.needs)
        # A loader takes the window in the middle of a clip.
        first = [round(rows[place]["start"] * 8) + (0 if window is None else (16 - window) // 2) for place in of_file]
        for place, frame in zip(of_file, first, strict=True):
            found = clips.at(frame)
            assert np.array_equal(found.video, batch.video[place].numpy())
            assert np.array_equal(found.audio, batch.audio[place].numpy())
            assert (found.gaze is not None) == bool(batch.gaze_valid[place])
            tracked[utterance.video_path.stem] = found.gaze is not None
            if found.gaze is not None:
                assert np.array_equal(found.gaze, batch.gaze[place].numpy())
        whole, _ = predictor.predict_utterance(utterance, every=1 / 8)
        for label in LABELS:
            for place, frame in zip(of_file, first, strict=True):
                assert_close(whole.windows[frame].targets[label.name], answers(said, label.name, place))
            if window is None:
                together = by_utterance(said, np.array([row["utterance"] == utterance.utterance for row in rows]))
                assert_close(whole.targets[label.name], answers(together, label.name, 1))
    return tracked


def answers(said: Any, target: str, row: int) -> Answers:
    """What an evaluation says of a clip, in the words of a prediction."""
    classes = {label.name: label.classes for label in LABELS}[target]
    of = {}
    for modality in MODALITIES:
        value = said.targets[target].by[modality][row]
        of[modality] = Answer(
            number=float(value) if classes is None else None,
            probabilities=None if classes is None else dict(zip(classes, map(float, value), strict=True)),
        )
    return Answers(**of)


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return load(run)


def test_windows_change_nothing_about_the_whole(predictor: Predictor, films: Path) -> None:
    plain = predictor.predict(films / "long.mp4")
    often = predictor.predict(films / "long.mp4", every=0.75)
    assert [(w.start, w.end) for w in plain.windows] == [(0, 2), (2, 4)]
    assert [w.start for w in often.windows] == [0, 0.75, 1.5, 2.25, 3.0]
    for name in plain.targets:
        assert_close(often.targets[name], plain.targets[name])
        assert_close(mean_of(plain.windows, LABELS)[name], plain.targets[name])
    assert "its last 1 s fill no clip of 2 s and are left out: --every 0.125 looks at them" in plain.notes
    seldom = predictor.predict(films / "long.mp4", every=2)
    assert "its last 1 s lie in no window and are left out: --every 0.125 looks at them" in seldom.notes
    always = predictor.predict(films / "long.mp4", every=0.125)
    assert always.windows[-1].end == 5
    assert not any("its last" in note for note in (*often.notes, *always.notes))
    for wrong in (0.3, 0, -1, float("nan")):
        with pytest.raises(InputError, match=r"use a multiple of 0\.125 s"):
            predictor.predict(films / "long.mp4", every=wrong)


def has(prediction: VideoPrediction) -> list[str]:
    said = [{name for name, answer in answers.items() if answer} for answers in prediction.targets.values()]
    assert all(one == said[0] for one in said)
    return sorted(said[0])


def test_what_can_be_had_is_said(
    predictor: Predictor, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without sound, silent for a while, shorter than a clip, without gaze, without a face."""
    loud = 0.3 * np.sin(np.arange(4 * 16000) * 0.1).astype(np.float32)
    loud[: 2 * 16000] = 0
    mute = predictor.predict(write_film(tmp_path / "mute.mp4", 2.0, sound=None))
    assert has(mute) == ["visual"]
    assert any("no_audio" in note for note in mute.notes)
    half = predictor.predict(write_film(tmp_path / "half.mp4", 4.0, sound=loud))
    assert [w.targets["arousal"].joint is None for w in half.windows] == [True, False]
    assert has(half) == ["audio", "joint", "visual"]
    assert any("in 1 of 2 windows it is silent" in note for note in half.notes)
    brief = predictor.predict(write_film(tmp_path / "brief.mp4", 0.8))
    assert has(brief) == ["audio", "joint", "visual"]
    assert brief.windows[0].end == brief.seconds < 1
    assert any("its last picture and silence" in note for note in brief.notes)
    assert any("no gaze (gaze_missing)" in note and "30%" in note for note in brief.notes)
    whole = predictor.predict(films / "long.mp4", gaze=films / "long.csv")
    assert not any("gaze" in note for note in whole.notes)

    def faceless(*_: Any) -> Any:
        raise NoFaceError("no face in any of 8 frames looked at")

    monkeypatch.setattr("sharding.packing.clips.crop_plan_of", faceless)
    heard = predictor.predict(films / "long.mp4")
    assert has(heard) == ["audio"]
    assert any("no face is seen" in note for note in heard.notes)
    assert_close(heard.targets["emotion"], Answers(audio=whole.targets["emotion"].audio))
    with pytest.raises(InputError, match="no_face"):
        predictor.predict(tmp_path / "mute.mp4")


def test_a_run_that_does_not_say_how_its_clips_were_made_is_told(run: Path, films: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / "dataset", [dataclasses.replace(utterance_of(films / "long.mp4"), split="test")], SETTINGS)
    old = make_run(tmp_path / "old", None)
    with pytest.raises(InputError, match="--like DATASET"):
        load(old)
    found = load(old, like=tmp_path / "dataset").predict(films / "long.mp4")
    for name, answers_ in load(run).predict(films / "long.mp4").targets.items():
        assert_close(found.targets[name], answers_)
    newer = json.loads((run / "run.json").read_text())
    newer["builds"][0]["settings"]["glasses"] = True
    (old / "run.json").write_text(json.dumps(newer))
    with pytest.raises(InputError, match="glasses"):
        load(old)
    newer["builds"] = [built(SETTINGS), built(dataclasses.replace(SETTINGS, quality=60))]
    (old / "run.json").write_text(json.dumps(newer))
    assert load(old).making.notes == (
        "trained on clips of quality 90 and 60: here it is 90; --like DATASET names another",
    )


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], run: Path) -> Callable[..., tuple[int, str, str]]:
    """The command line; returns exit status, standard output and standard error."""

    def call(*arguments: object, by: Callable[[list[str]], None] = main) -> tuple[int, str, str]:
        status: Any = 0
        try:
            by([*map(str, arguments), "--checkpoint", str(run)])
        except SystemExit as ended:
            status = ended.code or 0
        return (status, *capsys.readouterr())

    return call


def test_gaze_is_tracked_as_the_run_has_learned_it(
    run: Path, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of MediaPipe's gaze tracks each video by itself; trackers are not mixed."""
    with pytest.raises(InputError, match=r"--gaze mediapipe: .* with the gaze of openface: use --gaze openface"):
        load(run, gaze="mediapipe")
    other = tmp_path / "run"
    shutil.copytree(run, other)
    described = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps(described | {"gaze_tracker": "mediapipe"}))
    with pytest.raises(InputError, match="use --gaze mediapipe"):
        load(other, gaze="openface")
    tracked = []

    def track(pictures: Iterable[Any], fps: float, within: object = None) -> GazeTable:
        tracked.append(fps)
        return read_table(films / "long.csv")

    monkeypatch.setattr("models.prediction.predictor.require_mediapipe", lambda: None)
    monkeypatch.setattr("sharding.packing.clip_gaze.run_mediapipe", track)
    found = load(other).predict(films / "long.mp4")
    assert len(tracked) == 1
    assert not any("gaze" in note for note in found.notes)
    given = load(run).predict(films / "long.mp4", gaze=films / "long.csv")
    assert_close(found.targets["emotion"], given.targets["emotion"])
    without = load(other, gaze="none").predict(films / "long.mp4")
    assert len(tracked) == 1
    assert any("no gaze (gaze_missing)" in note for note in without.notes)
    assert any("with it, --gaze mediapipe tracks it" in note for note in without.notes)
    with pytest.raises(InputError, match="leave the table away"):
        load(other).predict(films / "long.mp4", gaze=films / "long.csv")


TABLE = "OpenFace's table beside the video, clip.csv of clip.mp4"
AGAIN = "train again with --gaze-dropout 0.5, and it answers well without"
FAR_OFF = "in training it was withheld from no clip, so VISUAL AND JOINT MAY BE FAR OFF"
WITHOUT = "in training 80% of the clips came without, too (--gaze-dropout), so it answers without"


@pytest.mark.parametrize(
    ("learned", "dropout", "asked", "why", "means"),
    [
        ("openface", 0.8, "auto", "gaze_missing", f"{WITHOUT}; for answers with it, --gaze openface takes {TABLE}"),
        ("openface", 0.0, "none", "gaze_missing", f"{FAR_OFF}: --gaze openface takes {TABLE}, or {AGAIN}"),
        ("openface", 0.0, "openface", "gaze_missing", f"{FAR_OFF}: give {TABLE}, or {AGAIN}"),
        ("openface", 0.0, "openface", "gaze_wrong_length", f"{FAR_OFF}: {AGAIN}"),
        ("mediapipe", 0.0, "none", "gaze_missing", f"{FAR_OFF}: --gaze mediapipe tracks it, or {AGAIN}"),
        ("mediapipe", 0.8, "auto", "gaze_few_frames", WITHOUT),
        (None, 0.0, "auto", "gaze_missing", "no clip that it was trained on had any either"),
    ],
)
def test_of_missing_gaze_only_what_mends_it_for_this_run_is_said(
    run: Path, learned: str | None, dropout: float, asked: GazeSource, why: str, means: str
) -> None:
    needs = load(run).needs
    described = json.loads((run / "run.json").read_text()) | {"gaze_tracker": learned}
    making = making_of(run, described, needs, 1, gaze=asked)
    (note,) = notes_of([{"gaze": why}], needs, making, gaze_dropout=dropout)
    assert note == f"no gaze ({why}), which the network looks at; {means}"


def test_files_folders_and_tables_are_answered_and_what_is_broken_is_named(
    command: Callable[..., tuple[int, str, str]], films: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    (tmp_path / "table.csv").write_text(f"video,start,end\n{films / 'long.mp4'},1,4\n")
    names = (films, tmp_path / "broken.mp4", tmp_path / "table.csv", tmp_path / "away.mp4")
    files = ("--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv", "--every", 0.5)
    status, out, err = command(*names, *files, "--gaze", "openface")
    assert status == 1
    assert "broken.mp4: undecodable" in err
    assert f"{tmp_path / 'away.mp4'}: missing: give a file that is there" in err
    assert "short.mp4: no gaze (gaze_missing)" in err
    assert "long.mp4: no gaze" not in err
    said = json.loads((tmp_path / "a.json").read_text())
    assert [Path(one["path"]).name for one in said["videos"]] == ["long.mp4", "short.mp4", "long.mp4"]
    assert [Path(one["path"]).name for one in said["unanswered"]] == ["broken.mp4", "away.mp4"]
    whole, _, part = said["videos"]
    assert (part["start"], part["seconds"], part["windows"][0]["start"]) == (1, 3, 1)
    happy = whole["targets"]["emotion"]["joint"]
    assert happy["best"] == max(happy["probabilities"], key=happy["probabilities"].get)
    assert sum(happy["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    kinds = [row["row"] for row in rows]
    assert kinds == ["video", *7 * ["window"], "video", "window", "video", *3 * ["window"], *2 * ["unanswered"]]
    assert float(rows[0]["emotion.joint.happy"]) == happy["probabilities"]["happy"]
    assert float(rows[0]["arousal.audio"]) == whole["targets"]["arousal"]["audio"]["number"]
    assert "happy" in out or happy["best"] in out
    status, _, err = command(tmp_path / "broken.mp4")
    assert status == 2
    assert "Traceback" not in err


def test_train_py_has_it_as_a_stage(
    command: Callable[..., tuple[int, str, str]], films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def staged(arguments: list[str]) -> None:
        monkeypatch.setattr("sys.argv", ["train.py", "--stage", "predict", *arguments])
        train.main()

    plain = command(films / "short.mp4", "--json", "-")
    assert plain[0] == 0
    assert json.loads(plain[1])["videos"][0]["targets"]["valence"]["visual"]["number"]
    assert command(films / "short.mp4", "--json", "-", by=staged) == plain


def test_a_timeline_is_drawn_for_each(
    command: Callable[..., tuple[int, str, str]], films: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    mute = write_film(tmp_path / "mute.mp4", 2.0, sound=None)
    assert command(films / "short.mp4", "--timeline", tmp_path / "one.png")[0] == 0
    assert command(films / "short.mp4", mute, "--timeline", tmp_path / "many")[0] == 0
    pictures = [tmp_path / "one.png", *sorted((tmp_path / "many").iterdir())]
    assert [path.name for path in pictures] == ["one.png", "mute.png", "short.png"]
    one, other, same = (np.asarray(Image.open(path).convert("RGB")) for path in pictures)
    assert np.array_equal(one, same)
    assert not np.array_equal(one[:200], other[:200])  # frames and sound
    for path in (tmp_path / "one.png", tmp_path / "many.png", tmp_path / "many"):
        status, _, err = command(films / "short.mp4", mute, "--timeline", path)
        assert (status, "--timeline" in err) == (2, True)


def test_options_without_effect_are_refused(
    command: Callable[..., tuple[int, str, str]], films: Path, tmp_path: Path
) -> None:
    short = films / "short.mp4"
    (tmp_path / "there.json").write_text("{}")
    for options, why in (
        ((), "no video"),
        ((short, "--json", tmp_path / "there.json"), "is there already"),
        ((short, "--csv", tmp_path / "no" / "a.csv"), "no folder"),
        ((short, "--json", "-", "--csv", "-"), "one of them"),
        ((short, "--every", "0.3"), "use a multiple"),
        ((tmp_path,), "no video in it"),
    ):
        status, out, err = command(*options)
        assert (status, out) == (2, ""), options
        assert why in err

"""The tables of every program fit a terminal of 80 columns, with names as people have them: nothing of them is cut."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from benchmarks.faces import faces_table
from benchmarks.record import ratios_table, read_record, rounds_table
from loaders.dataset.labels import Label
from loaders.dataset.manifest import read_manifest
from models import summary
from models.compare import Compared, differences_table
from models.prediction.results import MODALITIES, Answer, Answers, VideoPrediction, Window
from models.prediction.shown import video_table, videos_table, windows_tables
from models.training.intervals import Difference
from models.training.scores import results_table
from sharding import info
from sharding.build import splits_table
from sharding.checks import shortcut
from sharding.checks.faults import Fault
from sharding.checks.report import Report
from sharding.verify import faults_table

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
EMOTIONS = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
LABELS = (
    Label(name="emotion", classes=EMOTIONS),
    *(Label(name=name, low=-1.0, high=1.0) for name in ("arousal", "valence", "dominance", "frustration")),
)

Shown = tuple[list[str], Iterable[RenderableType | Callable[[Console], None]]]
PROGRAMS: dict[str, Callable[[Path], Shown]] = {}


def program(shown: Callable[[Path], Shown]) -> Callable[[Path], Shown]:
    PROGRAMS[shown.__name__] = shown
    return shown


@program
def described_dataset(dataset: Path) -> Shown:
    """As VoxCeleb2 is long, in three splits, with labels of many clips."""
    found = info.describe(dataset)
    split = replace(found.splits["train"], clips=1_092_009, hours=606.7, utterances=1_092_009, bytes=1_730_000_000_000)
    counts = dict.fromkeys(EMOTIONS, 123456)
    split = replace(split, classes={"emotion": info.ClassCounts(clips=counts, unlabelled=912_345)})
    manifest = replace(found.manifest, rejected={"source_unreadable": 1234, "outside_source": 3})
    large = replace(found, manifest=manifest, splits=dict.fromkeys(("train", "validation", "test"), split))
    figures = ["clips", "speakers", "utterances", "with gaze", "1,092,009", "606.7 h", "1.7 TB", "123,456", "912,345"]
    words = [*figures, "validation", "filmstrip.jpg", "16 × 32 × 32 × 3", "-1 … 1", "restart_markers", "happiness"]
    return [*words, "source_unreadable"], [
        lambda console: info.render(large, "s3://a-bucket-of-a-long-name/datasets/voxceleb2-at-224", console),
    ]


@program
def described_dataset_of_many_splits(dataset: Path) -> Shown:
    """Which are shown some beside each other, and others below."""
    found = info.describe(dataset)
    names = [f"session_{number:02d}_of_20" for number in range(20)]
    large = replace(found, splits=dict.fromkeys(names, found.splits["train"]))
    return [*names, "surprise"], [lambda console: info.render(large, "data/sessions", console)]


@program
def built_dataset(dataset: Path) -> Shown:
    words = ["split", "speakers", "videos", "shards"]
    return words, [splits_table(read_manifest(dataset), "data/vox: 30 clips of 2 s, 9.3 clips/s")]


@program
def verified_dataset(dataset: Path) -> Shown:
    faults = tuple(
        Fault(kind="member", path="validation/000123.tar", where=where, what=what, mend="build the dataset again")
        for where, what in (
            ("id00012+21Uxsk56VDQ+00001+000.filmstrip.jpg, from byte 32768", "the bytes do not have their checksum"),
            ("", "its SHA-256 is not the one in dataset.json"),
        )
    )
    report = Report(
        dataset=Path("/data/vox"),
        manifest=None,
        faults=faults,
        more=3,
        clips=1,
        decoded=1,
        bytes=1,
        seconds=1.0,
        catalogs=frozenset(),
        shards=(),
        beside={},
    )
    return ["validation/000123.tar", "what is wrong", "/data/vox: 5 faults", "checksum"], [faults_table(report)]


@program
def guessed_matches(dataset: Path) -> Shown:
    guess = shortcut.Guess(cues="source (colour, bandwidth)", accuracy=1.0, low=0.499, high=1.0)
    found = shortcut.Shortcuts(clips=1_092_009, videos=145_569, pairs=1_092_009, guesses=(guess,))
    words = ["source (colour, bandwidth)", "100.0%", "49.9% … 100.0%", "no better than a coin"]
    return words, [shortcut.guesses_table(found, Path("/data/vox"))]


def predictions(labels: tuple[Label, ...]) -> list[VideoPrediction]:
    surest = Answer(probabilities=dict.fromkeys(EMOTIONS, 0.0) | {"happiness": 1.0})
    by_target = {
        label.name: Answers(**dict.fromkeys(MODALITIES, surest if label.classes else Answer(number=-0.000123)))
        for label in labels
    }
    window = Window(start=598.125, end=600.125, targets=by_target)
    return [
        VideoPrediction(
            path=f"/home/somebody/corpora/interviews/2026/session_{number}.mp4",
            start=0.0,
            seconds=600.1,
            labels=labels,
            targets=by_target,
            windows=(window,),
            notes=(),
        )
        for number in (1, 2)
    ]


@program
def predicted_video(dataset: Path) -> Shown:
    words = ["emotion: happiness", "100.0 %", "-0.000123", "frustration", *MODALITIES]
    return words, [video_table(predictions(LABELS)[0])]


@program
def predicted_videos(dataset: Path) -> Shown:
    words = ["in /home/somebody/corpora/interviews/2026", "session_2.mp4", "happiness 100 %", "-0.000123"]
    return [*words, "frustration"], [videos_table(LABELS, predictions(LABELS))]


@program
def predicted_windows(dataset: Path) -> Shown:
    one, several = predictions(LABELS[:1])[0], predictions(LABELS)[0]
    return ["598 – 600", "happiness 100 %", "frustration", "-0.000123", "dominance"], [
        lambda console: console.print(*windows_tables(one, console)),
        lambda console: console.print(*windows_tables(several, console)),
    ]


@program
def compared_runs(dataset: Path) -> Shown:
    wide = Difference(value=-0.123456, low=-0.2, high=-0.000123, units=1234, one=0.1234567, other=1.0, seeds=(3, 3))
    rows = [Compared("emotion", name, score, wide) for name in MODALITIES for score in ("macro_f1", "ccc", "rmse")]
    words = ["macro-F1, emotion from visual", "difference (95 %)", "-12.3 (-20.0 … -0.0)", "1234 speakers"]
    return words, [differences_table(rows)]


@program
def trained_run(dataset: Path) -> Shown:
    pairs = {"accuracy": 1.0, "accuracy_low": 0.999, "accuracy_high": 1.0, "pairs": 36_237, "speakers": 118}
    scores = {"ccc": -0.123, "pearson": -0.123, "rmse": 0.123}
    intervals = {"intervals": {name: [-0.123, 0.123] for name in scores}}
    number = dict.fromkeys(MODALITIES, scores | intervals)
    mean = {"mean": {"rmse": 0.123}, "utterances": 617, "speakers": 117, "split": "validation"}
    results = {
        "pretraining_by_negatives": {
            kind: pairs | {"negatives": kind, "split": "validation"} for kind in ("other_video", "same_speaker")
        },
        "targets": {"frustration": number | mean},
    }
    words = ["same_speaker", "100.0 % (99.9 – 100.0)", "50.0 % chance", "frustration from visual"]
    return [*words, "CCC -0.123 (-0.123 – 0.123)", "RMSE 0.123 mean"], [results_table(results, title="/runs/a")]


@program
def counted_networks(dataset: Path) -> Shown:
    parts = [
        summary.Part(name=name, parameters=114_054_208, forward=102 * 10**9, step=304 * 10**9)
        for name in ("project_video", "classifier")
    ]
    counted = summary.Counted(system="abdou-model-level", gaze=False, parts=tuple(parts))
    words = ["abdou-model-level, no gaze", "114,054,208", "parameters", "classifier", "304 G", "for one clip"]
    return words, [summary.table([counted], "full", "for one clip: 16 frames of 224×224, 2 s of sound as 128×201")]


@program
def recorded_benchmarks(dataset: Path) -> Shown:
    """Every figure of every record that there is."""
    tables: list[RenderableType] = []
    words = set()
    for path in sorted(RESULTS.glob("*.json")):
        record, _, _ = read_record(path)
        tables.append(ratios_table(record.ratios))
        names = list(dict.fromkeys(name for rounds in record.rounds.values() for figures in rounds for name in figures))
        if names and path.stem not in ("representation", "systems", "thesis_tables"):
            tables.append(rounds_table(path.stem, record.rounds, names))
            words |= {"median", "least", "greatest"}
    faces = json.loads((RESULTS / "faces.json").read_text())
    return [*words, "0.67 (0.64–0.71)"], [*tables, faces_table(faces["facts"]["rows"])]


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_is_wider_and_nothing_is_cut(dataset: Path, name: str) -> None:
    words, tables = PROGRAMS[name](dataset)
    file = io.StringIO()
    console = Console(file=file, width=80)
    for table in tables:
        if callable(table):
            table(console)
        else:
            console.print(table)
    shown = file.getvalue()
    assert [line for line in shown.splitlines() if cell_len(line) > 80] == []
    assert re.findall(r"\S*(?:\w…|…\w)\S*", shown.replace("s3://a-bucket-of-a-long-nam…", "")) == []
    assert [word for word in words if word not in shown] == []

"""Scores count every utterance with a label once, over all datasets, and the table shows them."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from accelerate import Accelerator
from rich.console import Console

from loaders import ClipLoader
from models.frontend.front_end import FrontEnd
from models.systems.presets import correspondence_net, emotion_net
from models.training.scores import MODALITIES, results_table, score_emotion, score_match, utterances
from tests.datasets import CONTENTS, make_dataset
from tests.presets import SMALLEST


@pytest.fixture(scope="module")
def both(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The second one's speakers all have videos and utterances of the same names."""
    other = tmp_path_factory.mktemp("datasets") / "other"
    make_dataset(other, dataclasses.replace(CONTENTS, seed=1, each_speakers_own=True))
    return [dataset, other]


def named(dataset: Path) -> list[tuple[str, str, str, int]]:
    """Speaker, video, utterance and emotion of each test clip, as a reader of the catalog finds them."""
    columns = ["speaker", "video", "utterance", "emotion"]
    table = pq.read_table(dataset / "test" / "clips.parquet", columns=columns).to_pylist()
    return [(row["speaker"], row["video"], row["utterance"], row["emotion"]) for row in table]


def test_utterances_are_numbered_through_the_datasets(both: list[Path]) -> None:
    with ClipLoader({str(folder): 1.0 for folder in both}, "test", batch_size=4, negatives=None) as loader:
        numbers = utterances(loader.catalogs)
    names = [(number, *row[:3]) for number, of in enumerate(map(named, both)) for row in of]
    assert len(numbers) == len(names)
    assert len(set(zip(numbers, names, strict=True))) == len(set(names)) == len(set(numbers))


def test_every_labelled_utterance_is_scored_once_by_each_modality(both: list[Path]) -> None:
    torch.manual_seed(0)
    with ClipLoader({str(folder): 1.0 for folder in both}, "test", batch_size=4, negatives=None) as loader:
        scores = score_emotion(Accelerator(), FrontEnd(SMALLEST.front_end), emotion_net(SMALLEST), loader)
    labelled = {(number, *row) for number, of in enumerate(map(named, both)) for row in of if row[3] >= 0}
    assert len(labelled) > len({row[2:] for row in labelled})  # without their speakers some would be one
    assert scores["split"] == "test"
    assert scores["utterances"] == len(labelled)
    for modality in MODALITIES:
        truths = [sum(row) for row in scores[modality]["confusion"]]
        assert truths == [sum(row[4] == emotion for row in labelled) for emotion in range(7)]
    assert scores["majority"] == pytest.approx(max(truths) / len(labelled))


def test_pairs_of_every_round_are_counted(dataset: Path) -> None:
    torch.manual_seed(0)
    with ClipLoader(dataset, "test", batch_size=4) as loader:
        scores = score_match(
            Accelerator(), FrontEnd(SMALLEST.front_end), correspondence_net(SMALLEST, "l3"), loader, rounds=3
        )
    assert scores["pairs"] == 3 * len(named(dataset))
    assert scores["speakers"] == CONTENTS.speakers["test"]
    assert scores["accuracy_low"] <= scores["accuracy"] <= scores["accuracy_high"]


def test_the_table_has_a_row_for_each_score() -> None:
    emotion = {
        "split": "validation",
        "utterances": 9,
        "majority": 1 / 3,
        **{modality: {"micro_f1": 0.5 + 0.1 * n, "macro_f1": 0.25} for n, modality in enumerate(MODALITIES)},
    }
    pairs = {"accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9, "pairs": 6, "speakers": 2, "split": "test"}
    screen = Console(file=io.StringIO(), width=128)
    screen.print(results_table({"pretraining": pairs, "emotion": emotion}, title="a run"))
    assert isinstance(screen.file, io.StringIO)
    shown = screen.file.getvalue()
    for text in ("80.0", "70.0 – 90.0", "6 pairs, 2 speakers of test", "50.0", "60.0", "70.0", "25.0", "33.3 majority"):
        assert text in shown


def test_names_are_shown_as_they_are_and_move_no_cursor() -> None:
    pairs = {
        "accuracy": 0.5,
        "accuracy_low": 0.4,
        "accuracy_high": 0.6,
        "pairs": 8,
        "speakers": 2,
        "split": "[/x]\x1b[2J",
    }
    screen = Console(width=200, file=io.StringIO())
    screen.print(results_table({"pretraining": pairs}, title="runs[/x]\x1b[2J"))
    assert isinstance(screen.file, io.StringIO)
    shown = screen.file.getvalue()
    assert "runs[/x]" in shown
    assert "2 speakers of [/x]" in shown
    assert "\x1b" not in shown

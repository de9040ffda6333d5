"""Scores count every utterance with a label once, over all datasets, and the table shows them."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rich.console import Console

from loaders import ClipLoader
from models.frontend.front_end import FrontEnd
from models.systems.presets import correspondence_net, target_net
from models.training.agreement import agreement
from models.training.evaluation import MODALITIES, match_predictions
from models.training.intervals import interval
from models.training.measures import of_classes, of_numbers, of_pairs
from models.training.predictions import read_pairs, read_predictions
from models.training.retrieval import Gallery
from models.training.scores import answer_pairs, results_table, score_targets, utterances
from models.training.tasks.correspondence import Correspondence
from tests.datasets import CONTENTS, EMOTIONS, LABELS, make_dataset
from tests.presets import SMALLEST


@pytest.fixture(scope="module")
def both(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The second one's speakers all have videos and utterances of the same names."""
    other = tmp_path_factory.mktemp("datasets") / "other"
    make_dataset(other, dataclasses.replace(CONTENTS, seed=1, each_speakers_own=True))
    return [dataset, other]


def named(dataset: Path) -> list[tuple[str, str, str, str | None, float | None]]:
    """Speaker, video, utterance, emotion and valence of each test clip, as a reader of the catalog finds them."""
    columns = ["speaker", "video", "utterance", "emotion", "valence"]
    table = pq.read_table(dataset / "test" / "clips.parquet", columns=columns)
    return [tuple(row[column] for column in columns) for row in table.to_pylist()]


def test_utterances_are_numbered_through_the_datasets(both: list[Path]) -> None:
    with ClipLoader({str(folder): 1.0 for folder in both}, "test", batch_size=4, negatives=None) as loader:
        numbers = utterances(loader.catalogs)
    names = [(number, *row[:3]) for number, of in enumerate(map(named, both)) for row in of]
    assert len(numbers) == len(names)
    assert len(set(zip(numbers, names, strict=True))) == len(set(names)) == len(set(numbers))


def test_every_labelled_utterance_is_scored_once_by_each_modality(both: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = target_net(SMALLEST, LABELS)
    network.standardise({"arousal": (0.5, 0.3), "valence": (0.125, 0.6)})
    datasets, names = {str(folder): 1.0 for folder in both}, [label.name for label in LABELS]
    kept = tmp_path / "predictions.parquet"
    with ClipLoader(datasets, "test", batch_size=4, negatives=None, targets=names) as loader:
        scores = score_targets(Accelerator(), FrontEnd(SMALLEST.front_end), network, loader, keep=kept)
    assert list(scores) == ["emotion", "arousal", "valence"]
    labelled = {(number, *row) for number, of in enumerate(map(named, both)) for row in of if row[3] is not None}
    assert len(labelled) > len({row[2:5] for row in labelled})  # without their speakers some would be one
    emotion, valence = scores["emotion"], scores["valence"]
    assert emotion["speakers"] == valence["speakers"] == len({row[:2] for row in labelled})
    assert emotion["split"] == valence["split"] == "test"
    assert emotion["utterances"] == valence["utterances"] == len(labelled)
    assert emotion["classes"] == list(EMOTIONS)
    for modality in MODALITIES:
        truths = [sum(row) for row in emotion[modality]["confusion"]]
        assert truths == [sum(row[4] == name for row in labelled) for name in EMOTIONS]
        assert list(emotion[modality]["f1_by_class"]) == list(emotion[modality]["recall_by_class"]) == list(EMOTIONS)
        assert 0 <= emotion[modality]["calibration_error"] <= 1
        assert valence[modality].keys() == {"ccc", "pearson", "rmse", "intervals"}
        for of_modality, names in (
            (emotion[modality], ["micro_f1", "macro_f1", "uar"]),
            (valence[modality], ["ccc", "pearson", "rmse"]),
        ):
            assert list(of_modality["intervals"]) == names
            for name, (low, high) in of_modality["intervals"].items():
                assert low <= of_modality[name] <= high
    assert emotion["majority"] == pytest.approx(max(truths) / len(labelled))
    # What is kept is what was scored.
    answers = read_predictions(kept)
    assert list(answers) == list(scores)
    for name, measures in (("emotion", of_classes(len(EMOTIONS))), ("valence", of_numbers())):
        assert len(set(answers[name].keys)) == len(answers[name].keys)
        assert {key[0] for key in answers[name].keys} == {"drawn", "drawn 2"}
        for modality in MODALITIES:
            for score, measure in measures.items():
                found = interval(measure, answers[name].by[modality], answers[name].stated, answers[name].units)
                assert found.value == pytest.approx(scores[name][modality][score])
                assert [found.low, found.high] == pytest.approx(scores[name][modality]["intervals"][score])
    stated_of = dict(zip(answers["emotion"].keys, answers["emotion"].stated, strict=True))
    for number, speaker, video, utterance, name, _ in labelled:
        key = (("drawn", "drawn 2")[number], "test", speaker, video, utterance)
        assert EMOTIONS[stated_of[key]] == name
    # What always saying the training split's mean scores.
    stated = np.array([row[5] for row in labelled])
    assert (valence["low"], valence["high"]) == (-1.0, 1.0)
    assert valence["mean"]["value"] == 0.125
    assert valence["mean"]["ccc"] == pytest.approx(0)
    assert valence["mean"]["rmse"] == pytest.approx(float(np.sqrt(((stated - 0.125) ** 2).mean())))


def test_pairs_of_every_round_are_counted_and_kept(both: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    dataset, kept = both[0], tmp_path / "pairs.parquet"
    with ClipLoader(dataset, "test", batch_size=4) as loader:
        task = Correspondence(rounds=3)
        network = correspondence_net(SMALLEST, "l3")
        scores = task.score(Accelerator(), FrontEnd(SMALLEST.front_end), network, loader, keep=kept)["pretraining"]
    (answers,) = read_pairs(kept).values()
    assert len(set(answers.keys)) == len(answers.keys) == scores["pairs"]
    right = (answers.by["match"] > 0.5) == answers.stated
    assert right.mean() == pytest.approx(scores["accuracy"])
    found = interval(of_pairs(), answers.by["match"], answers.stated, answers.units)
    assert (found.low, found.high) == pytest.approx((scores["accuracy_low"], scores["accuracy_high"]))
    assert [sum(row) for row in scores["confusion"]] == [(answers.stated == 0).sum(), (answers.stated == 1).sum()]
    assert 0 <= scores["calibration_error"] <= 0.5
    assert scores["pairs"] == 3 * len(named(dataset))
    assert scores["speakers"] == CONTENTS.speakers["test"]
    assert scores["accuracy_low"] <= scores["accuracy"] <= scores["accuracy_high"]


@pytest.fixture
def bfloat16() -> Iterator[Accelerator]:
    """An accelerator of its own: accelerate keeps the first one's precision for the process."""
    AcceleratorState._reset_state(reset_partial_state=False)
    yield Accelerator(cpu=True, mixed_precision="bf16")
    AcceleratorState._reset_state(reset_partial_state=False)


@pytest.mark.parametrize("prepared", [True, False])
def test_answers_are_as_precise_with_a_gallery_as_without(
    both: list[Path], bfloat16: Accelerator, prepared: bool
) -> None:
    torch.manual_seed(0)
    front_end, network = FrontEnd(SMALLEST.front_end), correspondence_net(SMALLEST, "ave")
    model = bfloat16.prepare_model(copy.deepcopy(network)) if prepared else network
    galleries: tuple[list[Gallery], None] = ([], None)
    answers = []
    for gallery in galleries:
        with ClipLoader(both[0], "test", batch_size=4) as loader:
            (said,) = answer_pairs(bfloat16, front_end, model, loader, rounds=1, gallery=gallery)
        answers.append(said.probability)
    with ClipLoader(both[0], "test", batch_size=4) as loader:
        whole = match_predictions(front_end, network, loader, torch.device("cpu")).probability
    assert np.array_equal(*answers)
    assert not np.array_equal(answers[0], whole)


def test_frames_in_half_precision_meet_a_network_in_it(both: list[Path], bfloat16: Accelerator) -> None:
    """As on a GPU, see `models.training.execution.place_front_end`."""
    torch.manual_seed(0)
    front_end, network = FrontEnd(SMALLEST.front_end), correspondence_net(SMALLEST, "l3")
    front_end.frame_dtype = torch.float16
    gallery: list[Gallery] = []
    with ClipLoader(both[0], "test", batch_size=4) as loader:
        (said,) = answer_pairs(bfloat16, front_end, bfloat16.prepare_model(network), loader, rounds=1, gallery=gallery)
    assert len(said.probability) == len(named(both[0]))
    assert np.isfinite(said.probability).all()


def test_the_table_has_every_score_with_its_interval_and_fits_80_columns() -> None:
    shares = {"macro_f1": 0.25, "uar": 0.3}
    ends = {"micro_f1": [0.4, 0.61], "macro_f1": [0.2, 0.3], "uar": [math.nan, None]}
    emotion = {
        "split": "validation",
        "utterances": 9,
        "speakers": 4,
        "classes": ["a", "b", "c"],
        "majority": 1 / 3,
        **{modality: {"micro_f1": 0.5 + 0.1 * n, **shares, "intervals": ends} for n, modality in enumerate(MODALITIES)},
    }
    numbers = {"pearson": 0.55, "rmse": 0.3456}
    valence = {
        "split": "validation",
        "utterances": 8,
        "speakers": 4,
        "low": -1.0,
        "high": 1.0,
        "mean": {"value": 0.1, "ccc": 0.0, "rmse": 0.4567},
        **{
            modality: {
                "ccc": 0.1 * n - 0.5,
                **numbers,
                "intervals": {"ccc": [-0.61, -0.4], "pearson": [0.1, 0.9], "rmse": [0.3, math.inf]},
            }
            for n, modality in enumerate(MODALITIES)
        },
    }
    pairs = {"accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9, "pairs": 6, "speakers": 2, "split": "test"}
    targets = {"emotion": emotion, "valence": valence, "a_label_of_a_rather_long_name": emotion}
    screen = Console(file=io.StringIO(), width=80)
    screen.print(results_table({"pretraining": pairs, "targets": targets}, title="a run"))
    assert isinstance(screen.file, io.StringIO)
    shown = screen.file.getvalue()
    for text in (
        "80.0 % (70.0 – 90.0)",
        "50.0 % chance",
        "pre-training: 6 pairs, 2 speakers of test",
        "micro-F1 50.0 % (40.0 – 61.0)",
        "micro-F1 70.0 % (40.0 – 61.0)",
        "macro-F1 25.0 % (20.0 – 30.0)",
        "UAR 30.0 % (– – –)",
        "33.3 % majority",
        "33.3 % chance",
        "emotion: 9 utterances, 4 speakers of validation",
        "CCC -0.500 (-0.610 – -0.400)",
        "r 0.550 (0.100 – 0.900)",
        "RMSE 0.346 (0.3 – –)",
        "RMSE 0.457 mean",
        "valence: 8 utterances, 4 speakers of validation",
    ):
        assert text in shown
    assert "negatives" not in shown  # as runs of before, which do not say
    several = {kind: pairs | {"negatives": kind} for kind in ("other_video", "same_speaker")}
    scored = {"pretraining": several["other_video"], "pretraining_by_negatives": several}
    screen.print(results_table(scored, title="pairs"))
    told = screen.file.getvalue()
    assert max(map(len, told.splitlines())) <= 80
    assert all(f"2 speakers of test, negatives {kind}" in told for kind in several)
    for target in ("emotion", "valence"):
        assert all(f"{target} from {modality} " in shown for modality in MODALITIES)
    assert max(map(len, shown.splitlines())) <= 80
    # A name that is too long goes on in the next line: nothing of it is left out.
    assert "…" not in shown
    folded = "".join(line.split("│")[1].strip() for line in shown.splitlines() if line.startswith("│"))
    assert folded.replace(" ", "").count("a_label_of_a_rather_long_namefrom") == 3


def test_agreement_is_numpys() -> None:
    draw = np.random.default_rng(0)
    stated = draw.normal(3, 2, 50)
    predicted = 0.5 * stated + draw.normal(size=50)
    found = agreement(np.append(predicted, 1e9), np.append(stated, np.nan))
    (x, both), (_, y) = np.cov(predicted, stated, ddof=0)
    assert found.ccc == pytest.approx(2 * both / (x + y + (predicted.mean() - stated.mean()) ** 2))
    assert found.pearson == pytest.approx(np.corrcoef(predicted, stated)[0, 1])
    assert found.rmse == pytest.approx(np.sqrt(np.mean((predicted - stated) ** 2)))
    same = agreement(stated, stated)
    assert (same.ccc, same.pearson, same.rmse) == (pytest.approx(1), pytest.approx(1), 0)
    opposite = agreement(2 * stated.mean() - stated, stated)
    assert (opposite.ccc, opposite.pearson) == (pytest.approx(-1), pytest.approx(-1))
    assert agreement(stated + 100, stated).pearson == pytest.approx(1)
    assert agreement(stated + 100, stated).ccc < 0.01


def test_of_nothing_or_of_what_does_not_vary_there_is_no_correlation() -> None:
    none = agreement(np.zeros(3), np.full(3, np.nan))
    assert all(math.isnan(value) for value in (none.ccc, none.pearson, none.rmse))
    flat = agreement(np.full(3, 2.0), np.array([1.0, 2.0, 3.0]))
    assert (flat.ccc, flat.rmse) == (0, pytest.approx(np.sqrt(2 / 3)))
    assert math.isnan(flat.pearson)


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

"""Runs are compared on the same utterances, as users call it."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from loaders.dataset.catalog import Catalog, open_catalog
from loaders.errors import InputError
from models import compare
from models.compare import Compared, differences_table, sides
from models.training.evaluation import MODALITIES, MatchPredictions, Predictions, TargetPredictions
from models.training.intervals import Difference
from models.training.predictions import PAIRS, PREDICTIONS, write_pairs, write_predictions
from tests.datasets import EMOTIONS, LABELS

Printed = Callable[..., str]


@pytest.fixture(scope="module")
def catalog(dataset: Path) -> Catalog:
    return open_catalog(dataset, "train", [])


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["compare", *map(str, arguments)])
        compare.main()
        return capsys.readouterr().out

    return call


def run(folder: Path, catalog: Catalog, right: float, seed: int) -> Path:
    """Of a network that says what is stated in a share ``right`` of the clips."""
    draw = np.random.default_rng(seed)
    clips = len(catalog)
    stated = np.arange(clips) % len(EMOTIONS)
    codes = np.where(draw.random(clips) < right, stated, draw.integers(0, len(EMOTIONS), clips))
    chances = np.eye(len(EMOTIONS), dtype=np.float32)[codes]
    numbers = (stated + draw.normal(size=clips)).astype(np.float32)
    predictions = Predictions(
        clip=np.arange(clips),
        targets={
            "emotion": TargetPredictions(stated=stated, by=dict.fromkeys(MODALITIES, chances)),
            "arousal": TargetPredictions(stated=stated.astype(np.float32), by=dict.fromkeys(MODALITIES, numbers)),
        },
    )
    folder.mkdir()
    write_predictions(folder / PREDICTIONS, predictions, LABELS[:2], [catalog])
    return folder


def test_runs_are_compared_by_every_score(catalog: Catalog, tmp_path: Path, printed: Printed) -> None:
    good = [run(tmp_path / f"good{seed}", catalog, 0.9, seed) for seed in range(2)]
    bad = [run(tmp_path / f"bad{seed}", catalog, 0.3, 10 + seed) for seed in range(3)]
    table = printed(good[0], bad[0])
    for score in ("micro-F1", "macro-F1", "UAR"):
        assert all(f"{score}, emotion from {modality}" in table for modality in MODALITIES)
    for score in ("CCC", "r", "RMSE"):
        assert f"{score}, arousal from joint" in table
    assert "1 against 1, 5 speakers" in table
    assert "of a side of one run they say nothing about other seeds" in " ".join(table.split())
    several = printed(*good, "--against", *bad)
    assert "2 against 3, 5 speakers" in several
    assert "intervals over speakers and seeds" in several
    found = json.loads(printed(*good, "--against", *bad, "--json"))
    assert found["confidence"] == 0.95
    (micro,) = [
        one
        for one in found["scores"]
        if (one["target"], one["modality"], one["score"]) == ("emotion", "audio", "micro_f1")
    ]
    assert micro["low"] < micro["value"] < micro["high"]
    assert micro["value"] > 0.3
    assert micro["value"] == pytest.approx(micro["one"] - micro["other"])
    # A file does as well as a folder.
    assert printed(good[0] / PREDICTIONS, bad[0] / PREDICTIONS) == table


def test_pairs_are_compared(catalog: Catalog, tmp_path: Path, printed: Printed) -> None:
    clips = np.arange(len(catalog))
    match = clips % 2
    for name, shift in (("one", 0), ("other", 1)):
        probability = ((match + (clips % (3 + shift) == 0)) % 2).astype(np.float32)
        answered = MatchPredictions(
            clip=clips, audio_clip=(clips + 5 * (1 - match)) % len(clips), match=match, probability=probability
        )
        (tmp_path / name).mkdir()
        write_pairs(tmp_path / name / PAIRS, {"other_video": [answered]}, [catalog])
    table = printed(tmp_path / "one", tmp_path / "other")
    assert "accuracy, pairs, other_video" in table
    assert printed(tmp_path / "one" / PAIRS, tmp_path / "other" / PAIRS) == table
    with pytest.raises(SystemExit):
        printed(run(tmp_path / "tuned", catalog, 0.5, 0), tmp_path / "one")


def test_what_makes_no_two_sides_is_refused() -> None:
    a, b, c = map(Path, "abc")
    assert sides([a, b], []) == ((a,), (b,))
    assert sides([a], [b, c]) == ((a,), (b, c))
    for runs in ([a], [a, b, c]):
        with pytest.raises(InputError, match="give two, or those of the other side with --against"):
            sides(runs, [])
    with pytest.raises(InputError, match="is given twice"):
        sides([a, b], [a])


def test_the_table_fits_80_columns() -> None:
    wide = Difference(value=-0.123456, low=-0.2, high=-0.000123, units=1234, one=0.1234567, other=1.0, seeds=(3, 3))
    rows = [
        Compared("a_label_of_a_rather_long_name", modality, score, wide)
        for modality in MODALITIES
        for score in ("micro_f1", "ccc", "rmse")
    ]
    screen = Console(file=io.StringIO(), width=80)
    screen.print(differences_table([*rows, Compared("match", "match", "accuracy", wide)]))
    assert isinstance(screen.file, io.StringIO)
    shown = screen.file.getvalue()
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown.replace(" … ", "")
    assert "-12.3 (-20.0 … -0.0)" in shown

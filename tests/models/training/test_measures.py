"""Scores from sums are the scores, and the sums of groups add up."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.training import metrics
from models.training.agreement import agreement
from models.training.measures import Floats, Measure, of_classes, of_numbers, of_pairs

CLASSES = 4
SEEDS = st.integers(0, 1 << 30)


def score(measure: Measure, said: NDArray[np.floating], stated: NDArray[np.generic]) -> float:
    sums = measure.sums(said, stated, np.zeros(len(stated), np.int64), 1)
    return float(np.nanmean(measure.parts(sums)[0]))


def drawn(seed: int, rows: int = 40) -> tuple[Floats, NDArray[np.int64], Floats, NDArray[np.int64]]:
    """Probabilities, codes some of which are missing, numbers likewise, groups."""
    draw = np.random.default_rng(seed)
    stated, numbers = draw.integers(-1, CLASSES, rows), draw.normal(100, 2, rows)
    numbers[draw.random(rows) < 0.2] = np.nan
    return draw.dirichlet(np.ones(CLASSES), rows), stated, numbers, draw.integers(0, 5, rows)


@given(SEEDS)
def test_scores_of_classes_are_those_of_the_confusion(seed: int) -> None:
    said, stated, _, _ = drawn(seed)
    matrix = metrics.confusion(torch.from_numpy(said), torch.from_numpy(stated), CLASSES)
    known = {"micro_f1": metrics.micro_f1, "macro_f1": metrics.macro_f1, "uar": metrics.mean_recall}
    assert of_classes(CLASSES).keys() == known.keys()
    for name, measure in of_classes(CLASSES).items():
        assert score(measure, said, stated) == pytest.approx(known[name](matrix))


@given(SEEDS)
def test_scores_of_numbers_are_those_of_agreement(seed: int) -> None:
    said, _, stated, _ = drawn(seed)
    predicted = said[:, 0] + 100
    known = agreement(predicted, stated)
    for name, measure in of_numbers().items():
        assert score(measure, predicted, stated) == pytest.approx(getattr(known, name))


def test_the_score_of_pairs_is_their_accuracy() -> None:
    draw = np.random.default_rng(0)
    match = draw.permutation(np.repeat([0, 1], 50))
    probability = draw.random(100)
    assert score(of_pairs(), probability, match) == pytest.approx(np.mean((probability > 0.5) == match))


@given(SEEDS)
def test_sums_of_groups_add_up(seed: int) -> None:
    said, stated, numbers, group = drawn(seed)
    asked: Mapping[str, tuple[Measure, Floats, NDArray[np.generic]]] = {
        **{name: (measure, said, stated) for name, measure in of_classes(CLASSES).items()},
        **{name: (measure, said[:, 0], numbers) for name, measure in of_numbers().items()},
        "accuracy": (of_pairs(), said[:, 0], (stated > 0).astype(np.int64)),
    }
    for measure, answers, truth in asked.values():
        whole = measure.sums(answers, truth, np.zeros(len(truth), np.int64), 1)[0]
        np.testing.assert_allclose(measure.sums(answers, truth, group, 5).sum(0), whole, atol=1e-9)


def test_of_nothing_there_is_no_score() -> None:
    for measure in of_classes(CLASSES).values():
        sums = measure.sums(np.zeros((2, CLASSES)), np.array([-1, -1]), np.zeros(2, np.int64), 1)
        assert np.isnan(measure.parts(sums)).all()
    for measure in of_numbers().values():
        sums = measure.sums(np.zeros(2), np.full(2, np.nan), np.zeros(2, np.int64), 1)
        assert np.isnan(measure.parts(sums)).all()

"""Scores against their definitions, counted row by row."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from models.training import metrics

CLASSES = 4
ROWS = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(-1, CLASSES - 1)), min_size=1, max_size=40)
Rows = list[tuple[int, int]]


def matrix(rows: Rows) -> torch.Tensor:
    answer, targets = torch.tensor(rows).T
    return metrics.confusion(answer, targets, CLASSES)


def same(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b)


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


@given(ROWS)
def test_scores_equal_counting(rows: Rows) -> None:
    m = matrix(rows)
    rows = [row for row in rows if row[1] >= 0]
    assert int(m.sum()) == len(rows)
    assert same(metrics.accuracy(m), mean([float(a == t) for a, t in rows]))
    truths = [t for _, t in rows]
    assert same(
        metrics.majority_share(m), max((truths.count(c) for c in truths), default=0) / len(rows) if rows else math.nan
    )

    scores = []
    hits = misses = alarms = 0
    for c in range(CLASSES):
        tp = sum(a == t == c for a, t in rows)
        fp = sum(a == c != t for a, t in rows)
        fn = sum(t == c != a for a, t in rows)
        hits, alarms, misses = hits + tp, alarms + fp, misses + fn
        if tp + fp + fn:
            scores.append(2 * tp / (2 * tp + fp + fn))
        row = metrics.class_scores(m, "abcd")[c]
        assert same(row.precision, tp / (tp + fp) if tp + fp else math.nan)
        assert same(row.recall, tp / (tp + fn) if tp + fn else math.nan)
        assert same(row.f1, 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else math.nan)
        assert row.support == tp + fn
    assert same(metrics.macro_f1(m), mean(scores))
    found = [[a == c for a, t in rows if t == c] for c in range(CLASSES)]
    assert same(metrics.mean_recall(m), mean([mean([float(hit) for hit in of]) for of in found if of]))
    assert same(metrics.micro_f1(m), 2 * hits / (2 * hits + alarms + misses) if rows else math.nan)
    assert same(metrics.micro_f1(m), metrics.accuracy(m))


@given(ROWS, st.integers(0, 40))
def test_matrices_of_parts_add_up(rows: Rows, cut: int) -> None:
    whole = matrix(rows)
    parts = sum((matrix(part) for part in (rows[:cut], rows[cut:]) if part), torch.zeros_like(whole))
    assert torch.equal(whole, parts)


def test_scores_of_each_class_are_as_good_as_the_answer_they_imply() -> None:
    scores = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
    targets = torch.tensor([1, 2])
    assert torch.equal(metrics.confusion(scores, targets, 3), metrics.confusion(torch.tensor([1, 0]), targets, 3))


def test_nothing_counted() -> None:
    empty = torch.zeros(2, 2, dtype=torch.int64)
    for score in (metrics.accuracy, metrics.micro_f1, metrics.macro_f1, metrics.mean_recall, metrics.majority_share):
        assert math.isnan(score(empty))

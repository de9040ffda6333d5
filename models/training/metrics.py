"""Scores, all of them from a confusion matrix.

A confusion matrix is a (classes, classes) int64 tensor, rows the targets and columns the prediction. Matrices of
batches, and of ranks, are added up; scores are pure functions of the sum, so no score is ever an average of averages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def confusion(prediction: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Count how often each target met each prediction.

    Args:
        prediction: (B,) int64 in 0 … classes − 1, or (B, classes) scores, of which the highest is the prediction.
        targets: (B,) int64 in 0 … classes − 1; rows with a negative target are not counted.

    Returns:
        (classes, classes) int64, on the tensors' device.
    """
    if prediction.ndim == 2:
        prediction = prediction.argmax(1)
    # Rows without a target get a cell of their own, which is cut off: to select the others, or to count by bincount,
    # a GPU's host would have to wait for sizes.
    cell = torch.where(targets >= 0, targets * classes + prediction, classes * classes)
    counts = torch.zeros(classes * classes + 1, dtype=torch.int64, device=cell.device)
    return counts.scatter_add_(0, cell, torch.ones_like(cell))[:-1].view(classes, classes)


def accuracy(matrix: Tensor) -> float:
    """Share of right predictions; NaN of nothing."""
    return _ratio(int(matrix.diagonal().sum()), int(matrix.sum()))


def micro_f1(matrix: Tensor) -> float:
    """F1 of the counts summed over classes: 2·TP / (2·TP + FP + FN); NaN of nothing.

    With one label and one prediction a row every error is one class' false positive and another's false negative, so
    this equals the accuracy. It has its own name because it is what the literature reports.
    """
    right = int(matrix.diagonal().sum())
    wrong = int(matrix.sum()) - right
    return _ratio(2 * right, 2 * right + wrong + wrong)


def macro_f1(matrix: Tensor) -> float:
    """Mean over classes of their F1, leaving out those neither among targets nor predictions; NaN of nothing."""
    scores = [2 * hit / total for hit, total in zip(*_f1_parts(matrix), strict=True) if total]
    return _ratio(sum(scores), len(scores))


def mean_recall(matrix: Tensor) -> float:
    """Unweighted average recall (UAR): the mean of the recalls of the classes among targets; NaN of nothing.

    Always giving the same prediction, or any that has nothing to do with the targets, scores one over their number.
    """
    hits, targets = matrix.diagonal().tolist(), matrix.sum(1).tolist()
    recalls = [hit / true for hit, true in zip(hits, targets, strict=True) if true]
    return _ratio(sum(recalls), len(recalls))


def majority_share(matrix: Tensor) -> float:
    """Share of the most frequent target: what always giving the same prediction would score; NaN of nothing."""
    return _ratio(int(matrix.sum(1).max()), int(matrix.sum()))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One class' row of the table; NaN where a share is of nothing."""

    name: str
    precision: float  #: share of these predictions that are right
    recall: float  #: share of these targets that are found
    f1: float
    support: int  #: targets


def class_scores(matrix: Tensor, names: Sequence[str]) -> list[ClassScore]:
    """The table of precision, recall and F1, a row a class in the matrix' order."""
    hits = matrix.diagonal().tolist()
    targets, predictions = matrix.sum(1).tolist(), matrix.sum(0).tolist()
    return [
        ClassScore(
            name=name,
            precision=_ratio(hit, predicted),
            recall=_ratio(hit, true),
            f1=_ratio(2 * hit, true + predicted),
            support=true,
        )
        for name, hit, true, predicted in zip(names, hits, targets, predictions, strict=True)
    ]


def _f1_parts(matrix: Tensor) -> tuple[list[int], list[int]]:
    """Of each class: right predictions, and targets plus predictions."""
    return matrix.diagonal().tolist(), (matrix.sum(0) + matrix.sum(1)).tolist()


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan

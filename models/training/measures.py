"""Scores as functions of sums: what adds up over rows, and the score that the sums have.

So a score without some of the rows, or the scores without each speaker in turn, cost one subtraction:
`models.training.intervals` lives on that. The scores themselves are those of `models.training.metrics` and
`models.training.agreement`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measure:
    """A score of N predictions."""

    sums: Callable[[NDArray[Any], NDArray[Any], NDArray[np.int64], int], Floats]
    """Of (predictions, stated, group, groups): what adds up over the rows of each group, (groups, k). Predictions are
    (N, classes) probabilities or (N,) numbers; of rows where nothing is stated (−1, NaN) nothing is added."""
    parts: Callable[[Floats], Floats]
    """Of sums (…, k) what the score is the mean of, (…, p), as the recall of each class; NaN for what is of nothing."""
    scale: Literal["share", "shares", "correlation", "size"]
    """From 0 to 1; the same, with parts that are each of many rows; from −1 to 1; from 0 on."""


def of_classes(classes: int) -> Mapping[str, Measure]:
    """Micro-F1, macro-F1 and the mean recall of the classes (UAR), by their names in results.json."""

    def sums(said: NDArray[Any], stated: NDArray[Any], group: NDArray[np.int64], groups: int) -> Floats:
        rows = np.flatnonzero(stated >= 0)
        of, answer, truth = group[rows], said[rows].argmax(1), stated[rows]
        counts = (
            _count(of[answer == truth], truth[answer == truth], groups, classes),
            _count(of, truth, groups, classes),
            _count(of, answer, groups, classes),
        )
        return np.concatenate(counts, axis=1)

    def counts_of(totals: Floats) -> tuple[Floats, Floats, Floats]:
        split = totals.reshape(*totals.shape[:-1], 3, classes)
        return split[..., 0, :], split[..., 1, :], split[..., 2, :]

    def micro(totals: Floats) -> Floats:
        hits, stated, _ = counts_of(totals)
        return _ratio(hits.sum(-1, keepdims=True), stated.sum(-1, keepdims=True))

    def macro(totals: Floats) -> Floats:
        hits, stated, said = counts_of(totals)
        return _ratio(2 * hits, stated + said)

    def recall(totals: Floats) -> Floats:
        hits, stated, _ = counts_of(totals)
        return _ratio(hits, stated)

    return {
        "micro_f1": Measure(sums, micro, "share"),
        "macro_f1": Measure(sums, macro, "shares"),
        "uar": Measure(sums, recall, "share"),
    }


def of_numbers() -> Mapping[str, Measure]:
    """CCC, Pearson's correlation and RMSE, by their names in results.json; see `models.training.agreement`."""

    def sums(said: NDArray[Any], stated: NDArray[Any], group: NDArray[np.int64], groups: int) -> Floats:
        rows = np.flatnonzero(np.isfinite(stated))
        of, x, y = group[rows], said[rows].astype(np.float64), stated[rows].astype(np.float64)
        apart = x - y
        if len(rows):  # around the means, so that differences of large sums stay exact
            x, y = x - x.mean(), y - y.mean()
        columns = (np.ones(len(rows)), x, y, x * x, y * y, x * y, apart, apart * apart)
        return np.stack([np.bincount(of, column, minlength=groups) for column in columns], axis=-1)

    def moments(totals: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        means = _ratio(totals[..., None, 1:], totals[..., None, :1])
        x, y = means[..., 0], means[..., 1]
        return means[..., 2] - x * x, means[..., 3] - y * y, means[..., 4] - x * y, means[..., 5]

    def ccc(totals: Floats) -> Floats:
        of_x, of_y, both, apart = moments(totals)
        return _ratio(2 * both, of_x + of_y + apart * apart)

    def pearson(totals: Floats) -> Floats:
        of_x, of_y, both, _ = moments(totals)
        return _ratio(both, np.sqrt(np.maximum(of_x, 0) * np.maximum(of_y, 0)))

    def rmse(totals: Floats) -> Floats:
        return np.sqrt(_ratio(totals[..., 7:], totals[..., :1]))

    return {
        "ccc": Measure(sums, ccc, "correlation"),
        "pearson": Measure(sums, pearson, "correlation"),
        "rmse": Measure(sums, rmse, "size"),
    }


def of_pairs() -> Measure:
    """Accuracy on pairs, as the mean of the shares that are right among matches and among the others.

    Half of the pairs match, so this is the accuracy. What it is not is as uncertain as other shares are: a network that
    always says the same is right about exactly one half, whichever pairs are drawn.

    Predictions are (N,) probabilities of a match, stated is (N,) 0 or 1.
    """

    def sums(said: NDArray[Any], stated: NDArray[Any], group: NDArray[np.int64], groups: int) -> Floats:
        right = (said > 0.5) == (stated == 1)
        return np.concatenate(
            [_count(group[right], stated[right], groups, 2), _count(group, stated, groups, 2)], axis=1
        )

    def shares(totals: Floats) -> Floats:
        split = totals.reshape(*totals.shape[:-1], 2, 2)
        return _ratio(split[..., 0, :], split[..., 1, :])

    return Measure(sums, shares, "shares")


def mean_share() -> Measure:
    """The mean of numbers (N,) from 0 to 1, as the hits of queries are."""

    def sums(said: NDArray[Any], stated: NDArray[Any], group: NDArray[np.int64], groups: int) -> Floats:
        return np.stack([np.bincount(group, said, minlength=groups), np.bincount(group, minlength=groups)], axis=-1)

    def mean(totals: Floats) -> Floats:
        return _ratio(totals[..., :1], totals[..., 1:])

    return Measure(sums, mean, "share")


def _count(group: NDArray[np.int64], code: NDArray[Any], groups: int, codes: int) -> Floats:
    """How often each code comes in each group: (groups, codes)."""
    counts: Floats = np.bincount(group * codes + code, minlength=groups * codes).reshape(groups, codes).astype(float)
    return counts


def _ratio(part: Floats, whole: Floats) -> Floats:
    """NaN where the whole is nothing."""
    whole = np.broadcast_to(whole, np.broadcast_shapes(part.shape, whole.shape))
    quotient: Floats = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return quotient

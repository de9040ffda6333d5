"""Whether a network is as often right as it says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15


def calibration_error(probabilities: NDArray[np.floating[Any]], stated: NDArray[np.integer[Any]]) -> float:
    """The expected calibration error, 0 … 1: how far the share of right predictions is from their mean probability.

    Σ |B|/N · |right(B) − probability(B)| over `BINS` bins of equal width of the predicted class' probability, each with
    its upper end (Guo et al.: On Calibration of Modern Neural Networks, ICML 2017, formula 3).

    Args:
        probabilities: (N, classes).
        stated: (N,) codes, −1 where nothing is stated: those rows do not count.

    Returns:
        NaN of nothing.
    """
    there = stated >= 0
    said, truth = probabilities[there].astype(np.float64), stated[there]
    if not len(truth):
        return math.nan
    right, sure = said.argmax(1) == truth, said.max(1)
    place = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
    apart = np.bincount(place, right, BINS) - np.bincount(place, sure, BINS)
    return float(np.abs(apart).sum() / len(truth))

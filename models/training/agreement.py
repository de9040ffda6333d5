"""How well predicted numbers agree with those that are stated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """NaN where a measure is of nothing, or of numbers that do not vary."""

    ccc: float  #: concordance correlation (Lin, 1989), −1 … 1: what arousal and valence are scored by
    pearson: float  #: correlation, which forgives another mean and another spread
    rmse: float  #: root of the mean square error, in the numbers' own units


def agreement(predicted: NDArray[np.floating], stated: NDArray[np.floating]) -> Agreement:
    """Of N numbers: CCC is 2·s_xy / (s_x² + s_y² + (x̄ − ȳ)²), moments divided by N.

    Args:
        predicted: (N,).
        stated: (N,), NaN where there is none: those rows do not count.
    """
    there = np.isfinite(stated)
    x, y = predicted[there].astype(np.float64), stated[there].astype(np.float64)
    if not len(x):
        return Agreement(ccc=math.nan, pearson=math.nan, rmse=math.nan)
    dx, dy = x - x.mean(), y - y.mean()
    both, of_x, of_y = float((dx * dy).mean()), float((dx**2).mean()), float((dy**2).mean())
    return Agreement(
        ccc=_ratio(2 * both, of_x + of_y + float(x.mean() - y.mean()) ** 2),
        pearson=_ratio(both, math.sqrt(of_x) * math.sqrt(of_y)),
        rmse=math.sqrt(float(((x - y) ** 2).mean())),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan

"""How sure a score is: intervals over speakers, for every score.

Clips of one speaker stand and fall together, and so do the same clips scored in several rounds: what is independent is
the speaker. The standard error is the jackknife's over speakers: the score without each in turn (Efron and Stein: The
Jackknife Estimate of Variance, Annals of Statistics, 1981; for clusters of rows, MacKinnon, Nielsen and Webb:
Cluster-robust inference, Journal of Econometrics, 2023). A pair of one speaker's picture and another's sound hangs
together with all pairs of either: its variance is that of dyads (Aronow, Samii and Assenova: Cluster-Robust Variance
Estimation for Dyadic Data, Political Analysis, 2015), the squares of what goes with each speaker, less what is counted
twice. With that error a share's interval is Wilson's, of as many independent trials as would scatter like these; a
correlation's is symmetric in Fisher's z, an error's in its logarithm, a difference's as it is; all with Student's t for
a normal quantile, since few speakers tell little of their own spread.

What this gives is a test: ``tests/models/training/test_intervals.py`` simulates networks that know nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.dataset.numbering import numbered
from loaders.intervals import wilson
from models.training.measures import Floats, Measure
from models.training.student import t_quantile

CONFIDENCE = 0.95
_NOTHING = 1e-24  #: variance below which it is rounding alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A score, and the interval that holds its true value with the probability `CONFIDENCE`.

    The ends are NaN where nothing is known of them: of one speaker, or of nothing.
    """

    value: float
    low: float
    high: float
    units: int  #: independent ones: speakers


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Interval):
    """A score minus another, of the same utterances."""

    one: float  #: the means over the runs of either side
    other: float
    seeds: tuple[int, int]  #: runs of either side


def interval(measure: Measure, said: NDArray[Any], stated: NDArray[Any], units: NDArray[np.integer[Any]]) -> Interval:
    """A score with its interval.

    Args:
        measure: the score.
        said, stated: (N, …) and (N,), see `Measure.sums`.
        units: (N,) equal numbers, equal speakers; or (N, 2), the two that a pair is of, in either order.
    """
    left = _leave_each_out(measure, said, stated, units)
    low, high = _ends(measure, left)
    return Interval(value=left.score, low=low, high=high, units=left.units)


def paired_difference(
    measure: Measure,
    one: Sequence[NDArray[Any]],
    other: Sequence[NDArray[Any]],
    stated: NDArray[Any],
    units: NDArray[np.integer[Any]],
) -> Difference:
    """The score of one side minus the other's, on the same utterances.

    With several runs a side, of several seeds, scores are means over the runs, and the interval is over speakers and
    seeds, which are crossed: every run answers about every speaker. Its variance is that of the mean over runs from
    speaker to speaker, plus that from run to run beyond what the speakers in them explain, by moments (Searle, Casella
    and McCulloch: Variance Components, 1992, chapter 4), with Satterthwaite's degrees of freedom. Runs of the two sides
    count as drawn independently. Of a side with one run the interval says nothing of other seeds.

    Args:
        measure: the score.
        one, other: for each run of the side its predictions (N, …), see `Measure.sums`, in the order of ``stated``.
        stated, units: as of `interval`.

    Raises:
        ValueError: a side without runs.
    """
    if not one or not other:
        raise ValueError("a side of the comparison has no runs")
    sides = [[_leave_each_out(measure, said, stated, units).mean() for said in side] for side in (one, other)]
    means = [_mean(side) for side in sides]
    apart = _minus(*means)
    variance = apart.variance()
    doubt = variance**2 / apart.freedom
    for side, mean in zip(sides, means, strict=True):
        runs = len(side)
        if runs > 1:
            among = float(np.var([run.score for run in side], ddof=1)) / runs
            within = sum(_minus(run, mean).variance() for run in side) / (runs - 1) / runs
            if among > within:
                variance += among - within
                doubt += (among**2 + within**2 / apart.freedom) / (runs - 1)
    low = high = math.nan
    if math.isfinite(apart.score) and math.isfinite(variance):
        # Of two runs a side at least one difference is free; Satterthwaite's approximation can say less.
        freedom = max(variance**2 / doubt, 1.0) if doubt else apart.freedom
        reach = t_quantile((1 + CONFIDENCE) / 2, freedom) * math.sqrt(variance)
        low, high = apart.score - reach, apart.score + reach
    return Difference(
        value=apart.score,
        low=low,
        high=high,
        units=apart.units,
        one=means[0].score,
        other=means[1].score,
        seeds=(len(one), len(other)),
    )


@dataclass(frozen=True, slots=True)
class _Left:
    """The parts of a score of all rows, (p,); without each unit, (U, p); and without each two units' pairs, (D, p)."""

    whole: Floats
    unit: Floats
    dyad: Floats
    support: NDArray[np.int64]  #: (p,) how many units a part is of
    freedom: float  #: degrees of freedom: of as many units as would be like these were they all of one size, less one

    @property
    def units(self) -> int:
        return len(self.unit)

    @property
    def score(self) -> float:
        return float(_nanmean(self.whole))

    def mean(self) -> _Left:
        """The same for the score itself, as the only part."""
        whole, unit, dyad = (_nanmean(values)[..., None] for values in (self.whole, self.unit, self.dyad))
        return _Left(whole, unit, dyad, np.array([self.units]), self.freedom)

    def covariance(self) -> Floats:
        """The jackknife's, (p, p), for two units or more."""
        # A part that is of one unit alone is not there without it.
        of_units, twice = (np.nan_to_num(values - self.whole) for values in (self.unit, self.dyad))
        found = of_units.T @ of_units - twice.T @ twice
        if (found.diagonal() < 0).any():  # it happens by chance, where units are few
            found = of_units.T @ of_units
        covariance: Floats = (self.units - 1) / self.units * found
        return covariance

    def variance(self) -> float:
        """Of the only part; NaN of less than two units."""
        return float(self.covariance()[0, 0]) if self.units > 1 else math.nan


def _leave_each_out(
    measure: Measure, said: NDArray[Any], stated: NDArray[Any], units: NDArray[np.integer[Any]]
) -> _Left:
    there = np.flatnonzero(np.isfinite(stated) if stated.dtype.kind == "f" else stated >= 0)
    said, stated, units = said[there], stated[there], units[there]
    flat = np.unique(units, return_inverse=True)[1].reshape(units.shape)
    first, second = (flat, flat) if units.ndim == 1 else flat.T
    count = int(flat.max(initial=-1)) + 1
    two = np.flatnonzero(first != second)
    rows = np.r_[np.arange(len(stated)), two]
    totals = measure.sums(said, stated, np.zeros(len(stated), np.int64), 1)
    of_unit = measure.sums(said[rows], stated[rows], np.r_[first, second[two]].astype(np.int64), count)
    pair = numbered(np.minimum(first, second)[two], np.maximum(first, second)[two]).astype(np.int64)
    of_dyad = measure.sums(said[two], stated[two], pair, int(pair.max(initial=-1)) + 1)
    return _Left(
        measure.parts(totals)[0],
        measure.parts(totals - of_unit),
        measure.parts(totals - of_dyad),
        np.isfinite(measure.parts(of_unit)).sum(0),
        _freedom(np.bincount(np.r_[first, second[two]], minlength=count)),
    )


def _freedom(sizes: NDArray[np.int64]) -> float:
    """Kish: Survey Sampling, 1965, section 11.7: units of uneven sizes are worth fewer."""
    return max(float(sizes.sum()) ** 2 / float(np.square(sizes).sum()) - 1, 1.0) if len(sizes) else 1.0


def _mean(runs: Sequence[_Left]) -> _Left:
    first = runs[0]
    whole, unit, dyad = (np.mean([getattr(run, name) for run in runs], axis=0) for name in ("whole", "unit", "dyad"))
    return _Left(whole, unit, dyad, first.support, first.freedom)


def _minus(one: _Left, other: _Left) -> _Left:
    return _Left(one.whole - other.whole, one.unit - other.unit, one.dyad - other.dyad, one.support, one.freedom)


def _ends(measure: Measure, left: _Left) -> tuple[float, float]:
    if left.units < 2 or not math.isfinite(left.score):
        return math.nan, math.nan
    t = t_quantile((1 + CONFIDENCE) / 2, left.freedom)
    if measure.scale == "shares":
        return _of_shares(left, t)
    left = left.mean()
    value, variance = left.score, left.variance()
    if measure.scale == "share":
        return _of_share(value, variance, left.units, t)
    error = math.sqrt(variance)
    if measure.scale == "correlation":
        if abs(value) >= 1:
            return value, value
        middle, reach = math.atanh(value), t * error / (1 - value * value)
        return math.tanh(middle - reach), math.tanh(middle + reach)
    return _of_size(value, error, t)


def _of_share(share: float, variance: float, units: int, t: float) -> tuple[float, float]:
    """Wilson's. Where nothing scatters, each of the units is one trial."""
    return wilson(share, share * (1 - share) / variance if variance > _NOTHING else units, t)


def _of_shares(left: _Left, t: float) -> tuple[float, float]:
    """Of a mean of shares, from how far it is from each to the ends of its own interval."""
    there = np.isfinite(left.whole)
    shares, covariance, support = left.whole[there], left.covariance()[np.ix_(there, there)], left.support[there]
    variances = covariance.diagonal()
    ends = np.array([_of_share(*each, t) for each in zip(shares, variances, support, strict=True)])
    errors = np.sqrt(np.where(variances > _NOTHING, variances, 1))
    correlation = covariance / np.outer(errors, errors)
    np.fill_diagonal(correlation, 1)
    below, above = (
        math.sqrt(max(float(apart @ correlation @ apart), 0)) / len(shares)
        for apart in (shares - ends[:, 0], ends[:, 1] - shares)
    )
    return max(left.score - below, 0.0), min(left.score + above, 1.0)


def _of_size(value: float, error: float, t: float) -> tuple[float, float]:
    """Of the root of a mean square."""
    if not value:
        return value, value
    spread = (2 * error / value / 3) ** 2
    low, high = (1 - spread + sign * t * math.sqrt(spread) for sign in (1, -1))
    return value * low**-1.5, value * high**-1.5 if high > 0 else math.inf


def _nanmean(parts: Floats) -> Floats:
    """Over the last axis, of what is there."""
    there = np.isfinite(parts)
    count = there.sum(-1)
    mean: Floats = np.where(count > 0, np.where(there, parts, 0).sum(-1) / np.maximum(count, 1), np.nan)
    return mean

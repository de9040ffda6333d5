"""Linear probes: what a linear model can read off an embedding.

Features are standardised by the examples that a probe is fitted to. How strongly its weights are held down is chosen by
cross-validation over speakers, of the training examples alone: what is scored takes no part in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from loaders.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]

STRENGTHS = tuple(10.0**power for power in range(2, -4, -1))  #: of the penalty, the strongest first
FOLDS = 5
_ITERATIONS = 100  # of L-BFGS, which needs a few dozen


@dataclass(frozen=True, slots=True)
class Probe:
    """A linear model of standardised features."""

    mean: Floats  #: (d,)
    deviation: Floats  #: (d,)
    weights: Floats  #: (d, outputs)
    offsets: Floats  #: (outputs,)
    strength: float  #: of the penalty, as it was chosen

    def outputs(self, features: Floats) -> Floats:
        """(N, d) → (N, outputs): logits of classes, or a number."""
        outputs: Floats = (features - self.mean) / self.deviation @ self.weights + self.offsets
        return outputs

    def classes(self, features: Floats) -> NDArray[np.int64]:
        """(N, d) → (N,) the likeliest class' code."""
        codes: NDArray[np.int64] = self.outputs(features).argmax(1)
        return codes

    def numbers(self, features: Floats) -> Floats:
        """(N, d) → (N,)."""
        numbers: Floats = self.outputs(features)[:, 0]
        return numbers


def class_probe(features: Floats, codes: Ints, classes: int, speakers: Ints, *, seed: int = 0) -> Probe:
    """Multinomial logistic regression: the least of mean cross entropy + strength / 2 · ‖weights‖².

    Args:
        features: (N, d).
        codes: (N,) in 0 … classes − 1.
        classes: how many there are.
        speakers: (N,) who speaks; strengths are compared by the cross entropy of speakers that were left out.
        seed: of the folds.

    Raises:
        InputError: there are fewer than two speakers.
    """
    fit = partial(_logistic, classes=classes)
    return _chosen(fit, _cross_entropy, features, codes.astype(np.int64), speakers, seed)


def number_probe(features: Floats, values: Floats, speakers: Ints, *, seed: int = 0) -> Probe:
    """Ridge regression: the least of mean square error + strength · ‖weights‖².

    Arguments and errors as of `class_probe`, ``values`` being (N,); strengths are compared by the square error.
    """
    return _chosen(_ridge, _square_error, features, values.astype(np.float64), speakers, seed)


def folds(speakers: Ints, count: int, seed: int) -> NDArray[np.int64]:
    """(N,) the fold of each example: all of a speaker are in one, and folds have as many speakers, give or take one.

    Raises:
        InputError: there are fewer than two speakers.
    """
    names, place = np.unique(speakers, return_inverse=True)
    if len(names) < 2:
        raise InputError(f"a probe is chosen over speakers, and its examples have {len(names)}: give more clips")
    of_speaker = np.random.default_rng(seed).permutation(len(names)) % min(count, len(names))
    fold: NDArray[np.int64] = of_speaker[place]
    return fold


# -- fitting


def _chosen(
    fit: Callable[..., tuple[Floats, Floats]],
    loss: Callable[..., float],
    features: Floats,
    stated: NDArray[np.int64] | Floats,
    speakers: Ints,
    seed: int,
) -> Probe:
    """The probe of all examples, with the strength whose probes lose least on speakers that they have not seen."""
    fold = folds(speakers, FOLDS, seed)
    lost = np.zeros(len(STRENGTHS))
    for number in range(int(fold.max()) + 1):
        known, unknown = fold != number, fold == number
        for place, probe in enumerate(_path(fit, features[known], stated[known], STRENGTHS)):
            lost[place] += loss(probe.outputs(features[unknown]), stated[unknown])
    best = int(lost.argmin())  # of equals the strongest
    return _path(fit, features, stated, STRENGTHS[: best + 1])[-1]


def _path(
    fit: Callable[..., tuple[Floats, Floats]],
    features: Floats,
    stated: NDArray[np.int64] | Floats,
    strengths: tuple[float, ...],
) -> list[Probe]:
    """A probe of each strength; each begins where the one before ended, which changes its time alone."""
    mean, deviation = features.mean(0), features.std(0)
    deviation = np.where(deviation > 1e-9 * (np.abs(mean) + 1), deviation, 1.0)  # what does not vary says nothing
    scaled = (features - mean) / deviation
    found: list[Probe] = []
    for strength in strengths:
        before = (found[-1].weights, found[-1].offsets) if found else None
        weights, offsets = fit(scaled, stated, strength, before)
        found.append(Probe(mean, deviation, weights, offsets, strength))
    return found


def _logistic(
    x: Floats, codes: NDArray[np.int64], strength: float, before: tuple[Floats, Floats] | None, *, classes: int
) -> tuple[Floats, Floats]:
    inputs, targets = torch.from_numpy(x), torch.from_numpy(codes)
    start = (np.zeros((x.shape[1], classes)), np.zeros(classes)) if before is None else before
    weights, offsets = (torch.from_numpy(each.copy()).requires_grad_() for each in start)
    optimizer = torch.optim.LBFGS(
        [weights, offsets],
        max_iter=_ITERATIONS,
        tolerance_grad=1e-5,
        tolerance_change=1e-9,
        history_size=10,  # more would take longer than the products
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logits = inputs @ weights + offsets
        loss = torch.nn.functional.cross_entropy(logits, targets) + strength / 2 * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach().numpy(), offsets.detach().numpy()


def _ridge(x: Floats, values: Floats, strength: float, before: tuple[Floats, Floats] | None) -> tuple[Floats, Floats]:
    centre = values.mean()
    product = x.T @ x / len(x) + strength * np.eye(x.shape[1])
    weights: Floats = np.linalg.solve(product, x.T @ (values - centre) / len(x))
    return weights[:, None], np.array([centre])


def _cross_entropy(logits: Floats, codes: NDArray[np.int64]) -> float:
    """Summed over the examples."""
    return float(torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(codes), reduction="sum"))


def _square_error(numbers: Floats, values: Floats) -> float:
    """Summed over the examples."""
    return float(((numbers[:, 0] - values) ** 2).sum())

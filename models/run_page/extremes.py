"""What a run answered best and worst: utterances by what is stated of them, pairs by whether they belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.training.predictions import Answers

MODALITY = "joint"  #: by whose answers utterances are ordered


@dataclass(frozen=True, slots=True, kw_only=True)
class Extreme:
    """An answer, and where what it is about stands in a dataset."""

    target: str  #: or of pairs, the kind of their negatives
    keys: tuple[dict[str, Any], ...]  #: of an utterance one, by its names; of a pair those of two clips
    stated: str | float | bool
    said: Mapping[str, Any]  #: by modality: of a class, its name and probabilities of it and of the stated one
    error: float  #: 0 is right: one minus the probability of what is stated, or a distance


def extremes(target: str, answers: Answers, count: int) -> tuple[list[Extreme], list[Extreme]]:
    """The worst and the best, so many of each, from the extreme on; none is in both, nor two of one utterance.

    Args:
        target: its name, or the kind of negatives.
        answers: about it.
        count: of each.
    """
    errors = _errors(answers)
    there = np.flatnonzero(np.isfinite(errors))
    order = there[np.argsort(errors[there], kind="stable")]
    count = min(count, len(order) // 2)
    worst, best = order[::-1][:count], order[:count]
    return [_extreme(target, answers, row, errors[row]) for row in worst], [
        _extreme(target, answers, row, errors[row]) for row in best
    ]


def _errors(answers: Answers) -> Any:
    """How wrong each answer is, NaN where nothing is stated: (N,) float64."""
    if answers.units.ndim == 2:
        return np.abs(answers.stated - answers.by["match"].astype(np.float64))
    said = answers.by[MODALITY].astype(np.float64)
    if answers.classes is None:
        return np.abs(said - answers.stated)
    rows = np.arange(len(said))
    return np.where(answers.stated >= 0, 1 - said[rows, np.maximum(answers.stated, 0)], np.nan)


def _extreme(target: str, answers: Answers, row: int, error: float) -> Extreme:
    if answers.units.ndim == 2:
        _, *names = answers.keys[row]
        keys = tuple(dict(zip(("dataset", "speaker", "clip"), of, strict=True)) for of in (names[:3], names[3:]))
        probability = float(answers.by["match"][row])
        together = bool(answers.stated[row])
        return Extreme(target=target, keys=keys, stated=together, said={"together": probability}, error=float(error))
    key = dict(zip(("dataset", "split", "speaker", "video", "utterance"), answers.keys[row], strict=True))
    stated: str | float = float(answers.stated[row])
    said: dict[str, Any] = {name: float(values[row]) for name, values in answers.by.items() if values.ndim == 1}
    if answers.classes is not None:
        stated = answers.classes[int(answers.stated[row])]
        said = {name: _of_class(answers.classes, values[row], stated) for name, values in answers.by.items()}
    return Extreme(target=target, keys=(key,), stated=stated, said=said, error=float(error))


def _of_class(classes: Sequence[str], probabilities: Any, stated: str) -> dict[str, Any]:
    place = int(np.argmax(probabilities))
    of_stated = float(probabilities[classes.index(stated)])
    return {"said": classes[place], "probability": float(probabilities[place]), "of_stated": of_stated}

"""What the runs score, from what they answered: means over seeds with intervals over speakers and seeds.

Everything is `models.training.intervals.paired_difference`. A score by itself is its difference from a network that is
always wrong, whose score is 0 whichever speakers are left out; so it has the same interval over speakers and seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.thesis.grid import NETWORKS, Grid
from benchmarks.thesis.systems import System, Systems
from loaders.errors import InputError
from models.systems.registry import system_of
from models.training.evaluation import MODALITIES
from models.training.intervals import Difference, paired_difference
from models.training.measures import of_classes, of_pairs
from models.training.predictions import PREDICTIONS, Answers, aligned, read_pairs, read_predictions
from models.training.retrieval import WAYS
from models.training.runs import read_results

_RECALL = "recall_at_10"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A score over seeds, in percent; the ends are NaN where nothing is known of them."""

    value: float
    low: float
    high: float
    seeds: tuple[float, ...]  #: each seed's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """A score minus another, in percentage points."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PairScores:
    """Table 4.1."""

    negatives: str  #: their kind
    pairs: int
    speakers: int
    of: Mapping[str, Mean]  #: by network
    apart: Apart  #: L3 minus AVE


@dataclass(frozen=True, slots=True, kw_only=True)
class EmotionScores:
    """Table 4.2."""

    target: str
    utterances: int
    speakers: int
    majority: float  #: percent: always the most frequent class of these utterances
    pretrained: Mapping[str, Mapping[str, Mean]]  #: by network and modality
    scratch: Mapping[str, Mean]  #: by modality
    apart: Mapping[str, Mapping[str, Apart]]  #: by network and modality: pre-trained minus from scratch


def pair_scores(runs: Mapping[str, Sequence[Path]]) -> PairScores:
    """Accuracy on the same pairs.

    Args:
        runs: by network, a file of pairs a seed.

    Raises:
        InputError: a file is missing, or they are not of the same pairs.
    """
    said, kind, stated, units = _pair_answers(runs)
    first, second = (said[network] for network in NETWORKS)
    return PairScores(
        negatives=kind,
        pairs=len(stated),
        speakers=len(np.unique(units)),
        of=_accuracies(said, stated, units),
        apart=_apart(paired_difference(of_pairs(), first, second, stated, units)),
    )


def emotion_scores(pretrained: Mapping[str, Sequence[Path]], scratch: Sequence[Path]) -> EmotionScores:
    """Micro-F1 on the same utterances.

    Args:
        pretrained: by network, a file of predictions a seed.
        scratch: the same of the network that was trained from scratch.

    Raises:
        InputError: a file is missing, they are not of the same utterances, or have no target of classes.
    """
    paths = [*scratch, *(path for of in pretrained.values() for path in of)]
    read = {str(path): read_predictions(path) for path in paths}
    targets = [name for name, answers in read[str(paths[0])].items() if answers.classes is not None]
    if not targets:
        raise InputError(f"{paths[0]}: no target of classes: fine-tune on emotions")
    target = targets[0]
    answers = dict(zip(read, aligned({path: of[target] for path, of in read.items()}), strict=True))
    first = answers[str(paths[0])]
    there = first.stated >= 0
    classes = len(first.classes or ())
    measure = of_classes(classes)["micro_f1"]
    wrong = np.eye(classes)[(first.stated + 1) % classes]

    def minus(one: Sequence[Path], other: Sequence[Path] | None, modality: str) -> Difference:
        sides = _said(answers, one, modality), [wrong] if other is None else _said(answers, other, modality)
        return paired_difference(measure, *sides, first.stated, first.units)

    def mean(runs: Sequence[Path], modality: str) -> Mean:
        return _mean(minus(runs, None, modality), [minus([run], None, modality).value for run in runs])

    return EmotionScores(
        target=target,
        utterances=int(there.sum()),
        speakers=len(np.unique(first.units[there])),
        majority=100 * float(np.bincount(first.stated[there]).max() / there.sum()),
        pretrained={network: {m: mean(runs, m) for m in MODALITIES} for network, runs in pretrained.items()},
        scratch={m: mean(scratch, m) for m in MODALITIES},
        apart={
            network: {m: _apart(minus(runs, scratch, m)) for m in MODALITIES} for network, runs in pretrained.items()
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemScores:
    """A row of the table of all systems."""

    key: str
    title: str
    about: str  #: of its system, in one line
    lacking: tuple[str, ...] = ()  #: members that the datasets do not have: then it was not trained
    random_faces: bool = False  #: whether its video tower is VGG-Face's with random weights
    pairs: Mean | None = None  #: accuracy on pairs; None: its objective is given none
    recall: Mapping[str, float] | None = None  #: percent, by way: mean recall at 10 of the seeds
    by_chance: float | None = None  #: of these
    gallery: int | None = None  #: clips that they are among
    pretrained: Mapping[str, Mean] | None = None  #: micro-F1 by modality
    scratch: Mapping[str, Mean] | None = None
    apart: Mapping[str, Apart] | None = None
    published: Mapping[str, Mapping[str, float]]  #: by arm and modality


def system_scores(systems: Systems) -> tuple[SystemScores, ...]:
    """Of all systems, whose runs are finished, in the order of the rows.

    Raises:
        InputError: a file is missing, or they are not of the grid's pairs and utterances.
    """
    seeds, trained = range(systems.seeds), systems.trained
    grid = systems.grid
    told = {row.key: [systems.pairs(row, seed) for seed in seeds] for row in trained if row.tells_pairs}
    # The grid's own with them: what is compared has answered the same.
    said, _, stated, units = _pair_answers({**told, "the grid's": [grid.pairs(NETWORKS[0], 0)]})
    accuracy = _accuracies(said, stated, units)
    return tuple(
        _of_system(systems, row, accuracy.get(row.key))
        if row in trained
        else SystemScores(lacking=systems.lacking(row), **_named(row))
        for row in systems.rows
    )


def scores_of(grid: Grid) -> tuple[PairScores, EmotionScores]:
    """Of all runs of a grid, which are finished."""
    seeds = range(grid.seeds)
    return (
        pair_scores({network: [grid.pairs(network, seed) for seed in seeds] for network in NETWORKS}),
        emotion_scores(
            {network: [grid.run("finetune", seed, network) / PREDICTIONS for seed in seeds] for network in NETWORKS},
            [grid.run("scratch", seed) / PREDICTIONS for seed in seeds],
        ),
    )


def _pair_answers(
    runs: Mapping[str, Sequence[Path]],
) -> tuple[dict[str, list[NDArray[Any]]], str, NDArray[Any], NDArray[Any]]:
    """What each side's runs say of the same pairs, the negatives' kind, what is so, and whose the pairs are."""
    found = {str(path): read_pairs(path) for paths in runs.values() for path in paths}
    kind = next(iter(next(iter(found.values()))))
    answers = dict(zip(found, aligned({path: of[kind] for path, of in found.items()}), strict=True))
    any_one = next(iter(answers.values()))
    said = {side: [answers[str(path)].by["match"] for path in paths] for side, paths in runs.items()}
    return said, kind, any_one.stated, any_one.units


def _accuracies(
    said: Mapping[str, Sequence[NDArray[Any]]], stated: NDArray[Any], units: NDArray[Any]
) -> dict[str, Mean]:
    wrong = 1.0 - stated
    return {
        side: _mean(
            paired_difference(of_pairs(), runs, [wrong], stated, units),
            [paired_difference(of_pairs(), [run], [wrong], stated, units).value for run in runs],
        )
        for side, runs in said.items()
    }


def _named(row: System) -> dict[str, Any]:
    return {
        "key": row.key,
        "title": row.title,
        "about": system_of(row.system).about,
        "published": {arm: dict(of) for arm, of in row.published.items()},
    }


def _of_system(systems: Systems, row: System, pairs: Mean | None) -> SystemScores:
    seeds = range(systems.seeds)
    tuned, scratch = ([systems.run(arm, row, seed) / PREDICTIONS for seed in seeds] for arm in ("finetune", "scratch"))
    emotion = emotion_scores({row.key: tuned}, scratch)
    found = [read_results(systems.run("pretrain", row, seed)).get("retrieval") for seed in seeds]
    retrieval = [of_seed for of_seed in found if of_seed is not None]
    return SystemScores(
        **_named(row),
        random_faces=row.knows_faces and systems.vgg_face is None,
        pairs=pairs,
        recall={
            way: 100 * float(np.mean([of_seed[way][_RECALL] for of_seed in retrieval])) for way in WAYS if retrieval
        },
        by_chance=100 * retrieval[0][WAYS[0]]["chance"][_RECALL] if retrieval else None,
        gallery=retrieval[0]["clips"] if retrieval else None,
        pretrained=emotion.pretrained[row.key],
        scratch=emotion.scratch,
        apart=emotion.apart[row.key],
    )


def _said(answers: Mapping[str, Answers], runs: Sequence[Path], modality: str) -> list[NDArray[Any]]:
    return [answers[str(run)].by[modality] for run in runs]


def _mean(found: Difference, each: Sequence[float]) -> Mean:
    return Mean(
        value=100 * found.value,
        low=100 * max(found.low, 0.0) if np.isfinite(found.low) else found.low,
        high=100 * min(found.high, 1.0) if np.isfinite(found.high) else found.high,
        seeds=tuple(100 * value for value in each),
    )


def _apart(found: Difference) -> Apart:
    """No difference of shares is beyond ±100, where few seeds that disagree would have it."""
    low, high = (100 * float(np.clip(end, -1, 1)) for end in (found.low, found.high))
    return Apart(value=100 * found.value, low=low, high=high)

"""Predictions for whole splits, batch by batch: probabilities and numbers that ranks can join."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from loaders.batch import Batch
from loaders.dataset.labels import Label
from models.answers import encode_pairs, predict_match, predict_targets
from models.frontend.front_end import FrontEnd, given_by
from models.systems.correspondence import AVENet, L3Net
from models.systems.targets import TargetNet
from models.training.execution import as_written
from models.training.retrieval import GALLERY, Gallery, drawn

MODALITIES = ("audio", "visual", "joint")


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchPredictions:
    """Of N pairs."""

    clip: NDArray[np.int64]  #: (N,) catalog rows of the frames
    audio_clip: NDArray[np.int64]  #: of the sound
    match: NDArray[np.int64]  #: whether they are of one video, 0 or 1
    probability: NDArray[np.float32]  #: of that


def match_predictions(
    front_end: FrontEnd,
    network: L3Net | AVENet,
    batches: Iterable[Batch],
    device: torch.device,
    gallery: list[Gallery] | None = None,
) -> MatchPredictions:
    """What the network says of every pair of the batches.

    ``gallery`` is given what it makes of those that match, at the end some of them in one part: see
    `models.training.retrieval`.
    """
    parts = [_no_pairs()]
    for batch in batches:
        if len(batch) == 0:  # a rank's share of a last batch may be none
            continue
        batch = batch.to(device)
        if gallery is None:
            with as_written():
                match = predict_match(front_end, network, **given_by(batch))
        else:
            with as_written():
                seen, heard, match = encode_pairs(front_end, network, **given_by(batch))
            own = batch.match == 1
            of_batch = (each[own].cpu().numpy() for each in (batch.clip, seen, heard))
            gallery.append(Gallery(**dict(zip(("clip", "seen", "heard"), of_batch, strict=True))))
            if sum(len(part.clip) for part in gallery) > 2 * GALLERY:
                gallery[:] = _of_one(gallery)
        parts.append(
            MatchPredictions(
                clip=batch.clip.cpu().numpy(),
                audio_clip=batch.audio_clip.cpu().numpy(),
                match=batch.match.cpu().numpy(),
                probability=match.cpu().numpy(),
            )
        )
    if gallery is not None:
        gallery[:] = _of_one(gallery)
    return join_matches(parts)


def _of_one(parts: Sequence[Gallery]) -> list[Gallery]:
    one = drawn(parts)
    return [] if one is None else [one]


def join_matches(predictions: Iterable[MatchPredictions]) -> MatchPredictions:
    """The predictions of several batches or ranks as one, in their order; of one at least."""
    parts = list(predictions)
    return MatchPredictions(
        clip=np.concatenate([part.clip for part in parts]),
        audio_clip=np.concatenate([part.audio_clip for part in parts]),
        match=np.concatenate([part.match for part in parts]),
        probability=np.concatenate([part.probability for part in parts]),
    )


def _no_pairs() -> MatchPredictions:
    none = np.zeros(0, np.int64)
    return MatchPredictions(clip=none, audio_clip=none, match=none, probability=np.zeros(0, np.float32))


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPredictions:
    """What each modality says of one target of N clips, and what is stated."""

    stated: NDArray[Any]  #: (N,) int64 codes, −1 where there is none; or float32, NaN there
    by: Mapping[str, NDArray[np.float32]]
    """By each of `MODALITIES`: probabilities (N, classes), or numbers (N,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Of N clips."""

    clip: NDArray[np.int64]  #: (N,) catalog rows
    targets: Mapping[str, TargetPredictions]  #: by name


def target_predictions(
    front_end: FrontEnd, network: TargetNet, batches: Iterable[Batch], device: torch.device
) -> Predictions:
    """What each modality says of every clip of the batches."""
    parts = [_nothing(network.targets)]
    for batch in batches:
        if len(batch) == 0:
            continue
        batch = batch.to(device)
        with as_written():
            said = predict_targets(front_end, network, **given_by(batch))
        targets = {
            name: TargetPredictions(
                stated=batch.targets[name].cpu().numpy(),
                by={modality: getattr(prediction, modality).cpu().numpy() for modality in MODALITIES},
            )
            for name, prediction in said.items()
        }
        parts.append(Predictions(clip=batch.clip.cpu().numpy(), targets=targets))
    return join_predictions(parts)


def join_predictions(predictions: Iterable[Predictions]) -> Predictions:
    """The predictions of several batches or ranks as one, in their order; of one at least."""
    parts = list(predictions)
    return Predictions(
        clip=np.concatenate([part.clip for part in parts]),
        targets={
            name: TargetPredictions(
                stated=np.concatenate([part.targets[name].stated for part in parts]),
                by={
                    modality: np.concatenate([part.targets[name].by[modality] for part in parts])
                    for modality in MODALITIES
                },
            )
            for name in parts[0].targets
        },
    )


def by_utterance(predictions: Predictions, utterance: NDArray[np.int64]) -> Predictions:
    """One answer an utterance: the mean of its clips' probabilities, or numbers.

    A label belongs to an utterance, and long utterances have several clips; counted by clips they would weigh more.

    Args:
        predictions: of clips.
        utterance: (N,) a number for each answer, equal for clips of one utterance.
    """
    _, first, group = np.unique(utterance, return_index=True, return_inverse=True)
    count = np.bincount(group)

    def mean(of_clips: NDArray[np.float32]) -> NDArray[np.float32]:
        total = np.zeros((len(first), *of_clips.shape[1:]))
        np.add.at(total, group, of_clips)
        return (total / count.reshape(-1, *(1,) * (of_clips.ndim - 1))).astype(np.float32)

    return Predictions(
        clip=predictions.clip[first],
        targets={
            name: TargetPredictions(
                stated=of_target.stated[first], by={modality: mean(said) for modality, said in of_target.by.items()}
            )
            for name, of_target in predictions.targets.items()
        },
    )


def _nothing(targets: Sequence[Label]) -> Predictions:
    """Of no clips: a rank may have none."""
    return Predictions(
        clip=np.zeros(0, np.int64),
        targets={
            target.name: TargetPredictions(
                stated=np.zeros(0, np.int64 if target.classes is not None else np.float32),
                by={
                    modality: np.zeros((0,) if target.classes is None else (0, len(target.classes)), np.float32)
                    for modality in MODALITIES
                },
            )
            for target in targets
        },
    )

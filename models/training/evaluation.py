"""Predictions for whole splits, batch by batch: counts and probabilities that ranks can join."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from loaders.batch import Batch
from models.frontend.front_end import FrontEnd
from models.predict import predict_emotion, predict_match
from models.systems.correspondence import AVENet, L3Net
from models.systems.emotion import EmotionNet
from models.training.metrics import confusion


def match_confusion(
    front_end: FrontEnd, network: L3Net | AVENet, batches: Iterable[Batch], device: torch.device
) -> torch.Tensor:
    """How often each target (no match, match) met each prediction: (2, 2) int64 on ``device``."""
    counts = torch.zeros((2, 2), dtype=torch.int64, device=device)
    for batch in batches:
        if len(batch) == 0:  # a rank's share of a last batch may be none
            continue
        batch = batch.to(device)
        match = predict_match(
            front_end, network, video=batch.video, audio=batch.audio, gaze=batch.gaze, gaze_valid=batch.gaze_valid
        )
        counts += confusion((match > 0.5).long(), batch.match, 2)
    return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class EmotionPredictions:
    """Probabilities (N, 7) of N clips by each modality, and whose they are."""

    clip: NDArray[np.int64]  #: (N,) catalog rows
    emotion: NDArray[np.int64]  #: (N,) labels, -1 where there is none
    audio: NDArray[np.float32]
    visual: NDArray[np.float32]
    joint: NDArray[np.float32]


def emotion_predictions(
    front_end: FrontEnd, network: EmotionNet, batches: Iterable[Batch], device: torch.device
) -> EmotionPredictions:
    """What each modality says of every clip of the batches."""
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in EmotionPredictions.__slots__}
    for batch in batches:
        if len(batch) == 0:
            continue
        batch = batch.to(device)
        answer = predict_emotion(
            front_end, network, video=batch.video, audio=batch.audio, gaze=batch.gaze, gaze_valid=batch.gaze_valid
        )
        of_clip = {"clip": batch.clip, "emotion": batch.emotion}
        for name in parts:
            tensor = of_clip[name] if name in of_clip else getattr(answer, name)
            parts[name].append(tensor.cpu().numpy())
    return EmotionPredictions(**{name: _joined(name, arrays) for name, arrays in parts.items()})


def join_predictions(predictions: Iterable[EmotionPredictions]) -> EmotionPredictions:
    """The predictions of several ranks as one."""
    parts = list(predictions)
    return EmotionPredictions(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in EmotionPredictions.__slots__}
    )


def by_utterance(predictions: EmotionPredictions, utterance: NDArray[np.int64]) -> EmotionPredictions:
    """One answer an utterance: the mean of its clips' probabilities.

    A label belongs to an utterance, and long utterances have several clips; counted by clips they would weigh more.

    Args:
        predictions: of clips.
        utterance: (N,) a number for each answer, equal for clips of one utterance.
    """
    _, first, group = np.unique(utterance, return_index=True, return_inverse=True)
    count = np.bincount(group)[:, None]

    def mean(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        total = np.zeros((len(first), probabilities.shape[1]))
        np.add.at(total, group, probabilities)
        return (total / count).astype(np.float32)

    return EmotionPredictions(
        clip=predictions.clip[first],
        emotion=predictions.emotion[first],
        audio=mean(predictions.audio),
        visual=mean(predictions.visual),
        joint=mean(predictions.joint),
    )


def _joined(name: str, arrays: list[NDArray[Any]]) -> NDArray[Any]:
    if arrays:
        return np.concatenate(arrays)
    return np.zeros(0, np.int64) if name in ("clip", "emotion") else np.zeros((0, 7), np.float32)

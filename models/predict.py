"""Predictions as probabilities, from what the loader yields. Nothing here learns, draws or touches a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.frontend.front_end import FrontEnd
from models.systems.correspondence import AVENet, L3Net
from models.systems.emotion import EmotionNet


@dataclass(frozen=True, slots=True, kw_only=True)
class EmotionProbabilities:
    """(B, 7) float32 in the order of `EMOTIONS`; None for what the given modalities cannot say."""

    audio: Tensor | None
    visual: Tensor | None
    joint: Tensor | None


def predict_emotion(
    front_end: FrontEnd,
    network: EmotionNet,
    *,
    video: Tensor | None = None,
    audio: Tensor | None = None,
    gaze: Tensor | None = None,
    gaze_valid: Tensor | None = None,
) -> EmotionProbabilities:
    """Probabilities from audio, from frames (with gaze where there is some), or from both; see `FrontEnd.forward`."""
    with _evaluation(front_end, network):
        inputs = front_end(video, audio, gaze, gaze_valid)
        output = network(inputs.video, inputs.audio, inputs.gaze)
    return EmotionProbabilities(
        audio=_softmax(output.logits_audio),
        visual=_softmax(output.logits_visual),
        joint=_softmax(output.logits_joint),
    )


def predict_match(
    front_end: FrontEnd,
    network: L3Net | AVENet,
    *,
    video: Tensor,
    audio: Tensor,
    gaze: Tensor | None = None,
    gaze_valid: Tensor | None = None,
) -> Tensor:
    """Probability, (B,) float32, that frames and audio are of one video; see `FrontEnd.forward`."""
    with _evaluation(front_end, network):
        inputs = front_end(video, audio, gaze, gaze_valid)
        logits: Tensor = network(inputs.video, inputs.audio, inputs.gaze)
    return logits.float().softmax(1)[:, 1]


def _softmax(logits: Tensor | None) -> Tensor | None:
    return None if logits is None else logits.float().softmax(1)


@contextmanager
def _evaluation(*roots: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module is in the mode it was in."""
    before = [(module, module.training) for root in roots for module in root.modules()]
    try:
        for root in roots:
            root.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in before:
            module.training = training

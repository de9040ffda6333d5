"""Probabilities and numbers, from what the loader yields. Nothing here learns, draws or touches a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from loaders.dataset.labels import Label
from models.frontend.front_end import FrontEnd
from models.systems.correspondence import AVENet, L3Net
from models.systems.targets import TargetNet


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What each modality says of one target; None for what the given modalities cannot say.

    Of a label with classes these are probabilities (B, classes) in the order of `classes`, of a number (B,) in the
    label's own units; float32 both.
    """

    classes: tuple[str, ...] | None  #: None: a number
    audio: Tensor | None
    visual: Tensor | None
    joint: Tensor | None


def predict_targets(
    front_end: FrontEnd,
    network: TargetNet,
    *,
    video: Tensor | None = None,
    audio: Tensor | None = None,
    gaze: Tensor | None = None,
    gaze_valid: Tensor | None = None,
    members: Mapping[str, Tensor] | None = None,
    masks: Mapping[str, Tensor] | None = None,
) -> dict[str, Prediction]:
    """What audio, frames (with gaze where there is some), or both say of each target, by its name.

    See `FrontEnd.forward` for what is given; ``network.needs`` says of what. Without all that a modality's first tower
    takes, nothing of it is needed.
    """
    with _evaluation(front_end, network):
        output = network(**front_end(video, audio, gaze, gaze_valid, members=members, masks=masks))
    return {
        target.name: Prediction(
            classes=target.classes,
            audio=_said(target, output.from_audio),
            visual=_said(target, output.from_visual),
            joint=_said(target, output.from_joint),
        )
        for target in network.targets
    }


def predict_match(
    front_end: FrontEnd,
    network: L3Net | AVENet,
    *,
    video: Tensor | None = None,
    audio: Tensor | None = None,
    gaze: Tensor | None = None,
    gaze_valid: Tensor | None = None,
    members: Mapping[str, Tensor] | None = None,
    masks: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Probability, (B,) float32, that frames and audio are of one video; see `FrontEnd.forward`."""
    with _evaluation(front_end, network):
        inputs = front_end(video, audio, gaze, gaze_valid, members=members, masks=masks)
        logits: Tensor = network(**inputs)
    return logits.float().softmax(1)[:, 1]


def encode_pairs(
    front_end: FrontEnd,
    network: L3Net | AVENet,
    *,
    video: Tensor | None = None,
    audio: Tensor | None = None,
    gaze: Tensor | None = None,
    gaze_valid: Tensor | None = None,
    members: Mapping[str, Tensor] | None = None,
    masks: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`predict_match`, after what it is computed from: embeddings of what is seen, (B, n), and of what is heard,
    (B, m), for the network's ``scores``; float32."""
    with _evaluation(front_end, network):
        seen, heard = network.encode(**front_end(video, audio, gaze, gaze_valid, members=members, masks=masks))
        logits = network.match(seen, heard)
    return seen.float(), heard.float(), logits.float().softmax(1)[:, 1]


def _said(target: Label, outputs: Mapping[str, Tensor] | None) -> Tensor | None:
    if outputs is None:
        return None
    output = outputs[target.name].float()
    return output if target.classes is None else output.softmax(1)


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

"""Which of seven emotions? What that fine-tuning minimises. Everything is computed in float32, also under autocast.

With several ranks each computes the triplet loss within its own part of the batch: hardest examples are searched among
as many as one rank holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.systems.emotion import EmotionOutput

#: The label of a row that has none.
NO_EMOTION = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class EmotionLossConfig:
    """The defaults are the thesis' (section 3.5)."""

    #: Weight of the triplet terms.
    alpha: float = 0.1
    #: None: the difference of distances itself, as published, which may become negative.
    #: A number: max(0, d⁺ − d⁻ + margin).
    margin: float | None = None
    #: Over anchors: the sum, as published, which grows with the batch, or the mean.
    reduction: Literal["sum", "mean"] = "sum"
    #: Weight of the joint head's cross entropy. The published loss has no such term; as long as the joint head is
    #: detached (`EmotionConfig.detach_joint`) it changes nothing but the joint head.
    joint: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EmotionLoss:
    """The total and its parts before weighting, scalars."""

    total: Tensor
    triplet: Tensor
    audio: Tensor
    visual: Tensor
    joint: Tensor


def emotion_loss(output: EmotionOutput, emotion: Tensor, config: EmotionLossConfig | None = None) -> EmotionLoss:
    """L = α·(Inter(A, V) + Intra(A) + Intra(V)) + CE(A) + CE(V) (thesis, formulas 3.3 and 3.4), plus CE(joint head).

    Args:
        output: of a forward pass with all modalities.
        emotion: (B,) int64, 0 … 6; rows with −1 take no part. With none but those the loss is 0.
    """
    config = config or EmotionLossConfig()
    a, v = output.audio, output.visual
    if a is None or v is None or output.logits_audio is None or output.logits_visual is None:
        raise ValueError("the emotion loss compares audio and frames, and needs both.")
    if output.logits_joint is None:
        raise ValueError("the emotion loss needs the joint logits.")
    terms = ((a, v), (a, a), (v, v))
    triplet = torch.stack([triplet_loss(x, y, emotion, config.margin, config.reduction) for x, y in terms]).sum()
    audio = _cross_entropy(output.logits_audio, emotion)
    visual = _cross_entropy(output.logits_visual, emotion)
    joint = _cross_entropy(output.logits_joint, emotion)
    total = config.alpha * triplet + audio + visual + config.joint * joint
    return EmotionLoss(total=total, triplet=triplet, audio=audio, visual=visual, joint=joint)


def _cross_entropy(logits: Tensor, emotion: Tensor) -> Tensor:
    """Mean over the labelled rows; 0, not NaN, where there are none."""
    total = F.cross_entropy(logits.float(), emotion, ignore_index=NO_EMOTION, reduction="sum")
    return total / (emotion != NO_EMOTION).sum().clamp(min=1)


def triplet_loss(
    anchors: Tensor,
    candidates: Tensor,
    label: Tensor,
    margin: float | None = None,
    reduction: Literal["sum", "mean"] = "sum",
) -> Tensor:
    """Over anchors: distance of the hardest positive minus distance of the hardest negative (thesis, 3.1 and 3.2).

    The hardest positive is the farthest candidate of the anchor's label that is another instance (row) than the anchor,
    the hardest negative the nearest of another label. Anchors and candidates are the embeddings of one modality (intra)
    or of two (inter). An anchor without a positive or without a negative contributes nothing, nor does a row without a
    label, as an anchor or as a candidate.

    Args:
        anchors, candidates: (B, d); row i of both is instance i.
        label: (B,) int64; −1 where there is none.

    Returns:
        A float32 scalar; 0 where no anchor contributes. Distances are Euclidean; that of equal vectors has gradient 0.
    """
    with torch.autocast(anchors.device.type, enabled=False):
        # By differences: matrix products would round equal vectors apart, and their gradient out of hand.
        distance = torch.cdist(anchors.float(), candidates.float(), compute_mode="donot_use_mm_for_euclid_dist")
        labelled = label != NO_EMOTION
        comparable = labelled[:, None] & labelled[None, :]
        same = label[:, None] == label[None, :]
        itself = torch.eye(len(label), dtype=torch.bool, device=label.device)
        positive = comparable & same & ~itself
        negative = comparable & ~same
        contributes = positive.any(1) & negative.any(1)
        farthest = distance.masked_fill(~positive, float("-inf")).amax(1)
        nearest = distance.masked_fill(~negative, float("inf")).amin(1)
        # Zeros before the subtraction: infinity minus infinity is no number, and would stay none in the gradient.
        farthest = torch.where(contributes, farthest, 0.0)
        nearest = torch.where(contributes, nearest, 0.0)
        loss = farthest - nearest
        if margin is not None:
            loss = torch.where(contributes, (loss + margin).clamp(min=0), 0.0)
        total = loss.sum()
        return total if reduction == "sum" else total / contributes.sum().clamp(min=1)

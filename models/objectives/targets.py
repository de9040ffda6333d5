"""What labels say of a clip: what that fine-tuning minimises. Everything is computed in float32, also under autocast.

With several ranks, `of_all_ranks` first lays what they have end to end: hardest examples are searched, concordances and
means over labelled rows taken, over the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from models.objectives.global_batch import gather_rows, ranks
from models.systems.correspondence import unit
from models.systems.targets import TargetOutput

#: The code of a row that has no class.
NO_CLASS = -1

NumberLoss = Literal["ccc", "mse"]

#: Of a concordance's denominator, in squared standard deviations: below it numbers are constant.
_CONSTANT = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetLossConfig:
    """The defaults are those of the thesis (section 3.5) but for the triplet terms, see `PUBLISHED`; of numbers, which
    it does not predict, the field's."""

    #: Weight of the triplet terms.
    alpha: float = 0.1
    #: None: the difference of distances itself, as published, which has no least value.
    #: A number: max(0, d⁺ − d⁻ + margin).
    margin: float | None = 0.2
    #: Over anchors: the sum, as published, which grows with the batch, or the mean.
    reduction: Literal["sum", "mean"] = "mean"
    #: Of embeddings scaled to length 1, whose distances are 0 … 2, instead of as they are, as published.
    normalise: bool = True
    #: Whether an instance's own other modality is one of its positives between modalities. In the thesis it is not.
    same_instance: bool = False
    #: Weight of the joint heads' losses. The published loss has no such term; as long as the joint heads are detached
    #: (`HeadsConfig.detach_joint`) it changes nothing but the joint heads.
    joint: float = 1.0
    #: Of numbers: 1 − CCC, by which arousal and valence are scored (OMG-Emotion's challenge, AVEC), or the mean square
    #: error in standard deviations of the training split, which does not depend on what else is in the batch.
    number: NumberLoss = "ccc"
    #: Of the targets, in their order; none: each counts once.
    weights: tuple[float, ...] = ()
    #: Of the classes of targets, by the targets' names: how much a row of each class counts in the cross entropy.
    class_weights: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.number not in get_args(NumberLoss):
            raise ValueError(f"the loss of numbers is {self.number!r}, not one of {', '.join(get_args(NumberLoss))}")


#: The thesis' triplet terms. They have no least value: with four instances of two classes at +s and −s each is −8·s, so
#: that pushing everything apart in one modality outweighs whatever else is to be learnt (benchmarks/NOTES.md).
PUBLISHED = TargetLossConfig(margin=None, reduction="sum", normalise=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetLoss:
    """The total and its parts before weighting, scalars."""

    total: Tensor
    triplet: Tensor | None  #: None: no target has classes
    audio: Mapping[str, Tensor]  #: by the targets' names
    visual: Mapping[str, Tensor]
    joint: Mapping[str, Tensor]


def target_loss(
    output: TargetOutput, stated: Mapping[str, Tensor], config: TargetLossConfig | None = None
) -> TargetLoss:
    """L = α·(Inter(A, V) + Intra(A) + Intra(V)) + Σ w·(L(A) + L(V) + L(joint head)), the sum over targets.

    With one target that has classes, whose L is the cross entropy, these are formulas 3.3 and 3.4 of the thesis, plus
    CE(joint head). The triplet terms are of the first target that has classes; without one there are none.

    Args:
        output: of a forward pass with all modalities.
        stated: what is stated of each target, as in `loaders.Batch.targets`: (B,) int64, and rows with −1 take no part;
            (B,) float32, and rows with NaN take none. With none but those a target's loss is 0.
        config: weights and kinds.
    """
    config, targets = config or TargetLossConfig(), output.targets
    a, v = output.audio, output.visual
    if a is None or v is None or output.from_audio is None or output.from_visual is None:
        raise ValueError("the loss compares audio and frames, and needs both.")
    if output.from_joint is None:
        raise ValueError("the loss needs the joint heads' predictions.")
    weights = config.weights or (1.0,) * len(targets)
    triplet = None
    total = a.new_zeros((), dtype=torch.float32)
    first = next((target.name for target in targets if target.classes is not None), None)
    if first is not None:
        own, other = (unit(a), unit(v)) if config.normalise else (a, v)
        label, settings = stated[first], (config.margin, config.reduction)
        losses = [
            triplet_loss(own, other, label, *settings, same_instance=config.same_instance),
            triplet_loss(own, own, label, *settings),
            triplet_loss(other, other, label, *settings),
        ]
        triplet = torch.stack(losses).sum()
        total = config.alpha * triplet
    parts: dict[str, dict[str, Tensor]] = {"audio": {}, "visual": {}, "joint": {}}
    for target, weight in zip(targets, weights, strict=True):
        said = {"audio": output.from_audio, "visual": output.from_visual, "joint": output.from_joint}
        for modality, predictions in said.items():
            predicted, known = predictions[target.name], stated[target.name]
            if target.classes is not None:
                loss = cross_entropy(predicted, known, config.class_weights.get(target.name))
            else:
                loss = number_loss(predicted, known, output.scale[target.name], config.number)
            parts[modality][target.name] = loss
            total = total + (weight * config.joint if modality == "joint" else weight) * loss
    return TargetLoss(total=total, triplet=triplet, **parts)


def of_all_ranks(output: TargetOutput, stated: Mapping[str, Tensor]) -> tuple[TargetOutput, dict[str, Tensor]]:
    """What all ranks have of a global batch, see `gather_rows`; with one rank, what was given.

    Args:
        output: of a forward pass with all modalities.
        stated: as of `target_loss`.
    """
    if ranks() == 1:
        return output, dict(stated)
    names = [target.name for target in output.targets]
    said = (output.from_audio, output.from_visual, output.from_joint)
    if output.audio is None or output.visual is None or any(each is None for each in said):
        raise ValueError("the loss compares audio and frames, and needs both.")
    predicted = [each[name] for each in said if each is not None for name in names]
    rows = gather_rows([output.audio, output.visual, *predicted, *(stated[name] for name in names)])
    by_name = [
        dict(zip(names, rows[first : first + len(names)], strict=True)) for first in range(2, len(rows), len(names))
    ]
    from_audio, from_visual, from_joint, known = by_name
    gathered = replace(
        output, audio=rows[0], visual=rows[1], from_audio=from_audio, from_visual=from_visual, from_joint=from_joint
    )
    return gathered, known


def number_loss(predicted: Tensor, stated: Tensor, scale: Tensor, kind: NumberLoss = "ccc") -> Tensor:
    """How far numbers are from what is stated of them; a float32 scalar, without gradient to rows with none.

    Args:
        predicted: (B,), finite.
        stated: (B,), NaN where there is none.
        scale: (), the unit in which both are taken: CCC does not depend on it but for rounding.
        kind: "ccc": 1 − CCC, 0 where fewer than two rows state something; "mse": the mean square error in units of
            ``scale``, 0 where none does.
    """
    there = stated.isfinite()
    x = torch.where(there, predicted.float() / scale, 0.0)
    y = torch.where(there, stated.float() / scale, 0.0)
    if kind == "mse":
        return (x - y).square().sum() / there.sum().clamp(min=1)
    return torch.where(there.sum() >= 2, 1 - _concordance(x, y, there), 0.0)


def _concordance(x: Tensor, y: Tensor, there: Tensor) -> Tensor:
    """Lin's concordance correlation coefficient (1989): 2·s_xy / (s_x² + s_y² + (x̄ − ȳ)²), moments divided by n.

    Args:
        x, y: (B,) float32.
        there: (B,) bool: which rows count.
    """
    count = there.sum().clamp(min=1)
    # Means first, then the differences from them: sums of squares would cancel where numbers are far from 0.
    mean_x, mean_y = torch.where(there, x, 0.0).sum() / count, torch.where(there, y, 0.0).sum() / count
    dx, dy = torch.where(there, x - mean_x, 0.0), torch.where(there, y - mean_y, 0.0)
    spread = (dx.square().sum() + dy.square().sum()) / count + (mean_x - mean_y).square()
    return 2 * (dx * dy).sum() / count / spread.clamp(min=_CONSTANT)


def cross_entropy(logits: Tensor, code: Tensor, weights: tuple[float, ...] | None = None) -> Tensor:
    """Mean over the rows that have a class, float32; 0, not NaN, where there are none.

    Args:
        logits: (B, classes).
        code: (B,) int64; −1 where there is none.
        weights: of the classes, 0 or more: the mean is a weighted one, as torch's, over weights that add up to 1.
    """
    if weights is None:
        total = F.cross_entropy(logits.float(), code, ignore_index=NO_CLASS, reduction="sum")
        return total / (code != NO_CLASS).sum().clamp(min=1)
    weight = _on(weights, logits.device)
    total = F.cross_entropy(logits.float(), code, weight, ignore_index=NO_CLASS, reduction="sum")
    of_rows = torch.where(code == NO_CLASS, 0.0, weight[code.clamp(min=0)]).sum()
    return torch.where(of_rows > 0, total / of_rows.clamp(min=torch.finfo(torch.float32).tiny), 0.0)


@lru_cache(maxsize=64)
def _on(weights: tuple[float, ...], device: torch.device) -> Tensor:
    """Copied once: every copy to a GPU would be waited for."""
    return torch.tensor(weights, dtype=torch.float32, device=device)


def triplet_loss(
    anchors: Tensor,
    candidates: Tensor,
    label: Tensor,
    margin: float | None = None,
    reduction: Literal["sum", "mean"] = "sum",
    *,
    same_instance: bool = False,
) -> Tensor:
    """Over anchors: distance of the hardest positive minus distance of the hardest negative (thesis, 3.1 and 3.2).

    The hardest positive is the farthest candidate of the anchor's label that is another instance (row) than the anchor,
    the hardest negative the nearest of another label. Anchors and candidates are the embeddings of one modality (intra)
    or of two (inter). An anchor without a positive or without a negative contributes nothing, nor does a row without a
    label, as an anchor or as a candidate.

    Args:
        anchors, candidates: (B, d); row i of both is instance i.
        label: (B,) int64; −1 where there is none.
        margin: None: the difference itself, which has no least value: the farther two classes are apart, the lower it
            is (with four instances of two classes at +s and −s, −8·s). A number: max(0, difference + margin).
        reduction: over the anchors that contribute.
        same_instance: whether row i of the candidates, too, is a positive of anchor i.

    Returns:
        A float32 scalar; 0 where no anchor contributes. Distances are Euclidean; that of equal vectors has gradient 0.
    """
    with torch.autocast(anchors.device.type, enabled=False):
        # By differences: matrix products would round equal vectors apart, and their gradient out of hand.
        distance = torch.cdist(anchors.float(), candidates.float(), compute_mode="donot_use_mm_for_euclid_dist")
        labelled = label != NO_CLASS
        comparable = labelled[:, None] & labelled[None, :]
        same = label[:, None] == label[None, :]
        itself = torch.eye(len(label), dtype=torch.bool, device=label.device)
        positive = comparable & same if same_instance else comparable & same & ~itself
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

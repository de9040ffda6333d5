"""Which of all sounds is this picture's, and which of all pictures this sound's? InfoNCE, both ways.

van den Oord, Li and Vinyals: Representation Learning with Contrastive Predictive Coding, 2018, formula 4; both ways and
with a temperature that is learnt, Radford et al.: Learning Transferable Visual Models From Natural Language
Supervision, 2021, section 2.3. The score is the network's own answer, the log odds of a match, so that L3-Net, which
has no space for both modalities, is trained by it too; AVE-Net's is by distances.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loaders.errors import InputError
from models.objectives.registry import ObjectiveConfig, OfScores, objective, setting

#: The least temperature that is learnt, CLIP's: below it one pair alone would count.
_LEAST = 0.01


@objective("infonce")
@dataclass(frozen=True, slots=True, kw_only=True)
class InfoNCEConfig(ObjectiveConfig):
    """Each clip's own among all of the batch."""

    temperature: float | None = setting(
        None,
        "By which scores are divided: at the start, or throughout. None: 0.1 of AVE-Net's distances, 1 of L3-Net's "
        "logits.",
    )
    learn_temperature: bool = setting(True, "Whether the temperature is learnt, down to 0.01.")
    mask: Literal["video", "speaker"] = setting(
        "video", "Which clips of a batch are no negatives of each other: those of one video, or of one speaker."
    )

    def __post_init__(self) -> None:
        if self.temperature is not None and not _LEAST <= self.temperature < math.inf:
            raise InputError(f"--temperature is {self.temperature}: use {_LEAST} or more")

    def objective(self, temperature: float) -> InfoNCE:
        """See `ObjectiveConfig.objective`."""
        return InfoNCE(self.temperature or temperature, learn=self.learn_temperature, mask=self.mask)


class InfoNCE(OfScores):
    """The mean of both ways' cross entropies."""

    log_temperature: Tensor

    def __init__(self, temperature: float, *, learn: bool, mask: str) -> None:
        super().__init__()
        self.mask = mask
        start = torch.tensor(math.log(temperature))
        if learn:
            self.log_temperature = nn.Parameter(start)
        else:
            self.register_buffer("log_temperature", start)

    def forward(self, scores: Tensor, negative: Tensor) -> Tensor:
        """See `OfScores.forward`."""
        return torch.stack(both_ways(self.divided(scores), negative)).mean()

    def divided(self, scores: Tensor) -> Tensor:
        """Scores by the temperature."""
        with torch.no_grad():  # what a step made too small begins at the least again, and is free to grow
            self.log_temperature.clamp_(min=math.log(_LEAST))
        return scores.float() / self.log_temperature.exp()

    def logged(self) -> Mapping[str, Tensor]:
        """See `OfScores.logged`."""
        return {"temperature": self.log_temperature.detach().exp()}


def both_ways(logits: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross entropies of the diagonal with what is negative of it, by rows and by columns: float32 scalars.

    Args:
        logits: (B, B).
        negative: (B, B) bool, symmetric, nowhere on the diagonal. What is neither is left out of the sums.
    """
    logits, own = _masked(logits, negative)
    return F.cross_entropy(logits, own), F.cross_entropy(logits.T, own)


def recall(scores: Tensor, negative: Tensor) -> Tensor:
    """Share of the rows and columns whose own is ahead of all that is negative of it; see `both_ways`."""
    scores, own = _masked(scores, negative)
    return torch.stack([scores.argmax(side) == own for side in (0, 1)]).float().mean()


def _masked(logits: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    itself = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    masked = logits.float().masked_fill(~(negative | itself), float("-inf"))
    return masked, torch.arange(len(logits), device=logits.device)

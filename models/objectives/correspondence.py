"""Do sound and picture belong together? What that pre-training minimises, in float32, also under autocast."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from models.objectives.registry import DEFAULT, ObjectiveConfig, OfPairs, objective


def correspondence_loss(logits: Tensor, match: Tensor) -> Tensor:
    """Mean cross entropy of logits (B, 2) with match (B,) int64, 0 or 1."""
    return F.cross_entropy(logits.float(), match)


@objective(DEFAULT)
@dataclass(frozen=True, slots=True, kw_only=True)
class CorrespondenceConfig(ObjectiveConfig):
    """Matching pairs and others, told apart."""

    def objective(self, temperature: float) -> OfPairs:
        """See `ObjectiveConfig.objective`."""
        return _Correspondence()


class _Correspondence(OfPairs):
    def forward(self, logits: Tensor, match: Tensor) -> Tensor:
        return correspondence_loss(logits, match)

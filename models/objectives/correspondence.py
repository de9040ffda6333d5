"""Do sound and picture belong together? What that pre-training minimises, in float32, also under autocast."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def correspondence_loss(logits: Tensor, match: Tensor) -> Tensor:
    """Mean cross entropy of logits (B, 2) with match (B,) int64, 0 or 1."""
    return F.cross_entropy(logits.float(), match)

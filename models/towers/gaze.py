"""The gaze tower, and what becomes of gaze statistics when a clip is mirrored."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from loaders.dataset.manifest import GAZE_STATISTICS
from models.towers.registry import tower
from models.towers.tower import Tower, TowerConfig

# The twelve statistics of one angle, in their order, and for each the one it takes its value from, and the sign it
# takes it with, when the angle changes its sign: min, max, mean, median, quartiles 1 and 3, SD, IQR 1–2, 2–3, 1–3,
# intercept and slope of the regression line.
_SOURCE = (1, 0, 2, 3, 5, 4, 6, 8, 7, 9, 10, 11)
_SIGN = (-1, -1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1)
# Where the horizontal angle's twelve and its difference's twelve begin.
_HORIZONTAL = (0, 24)


def mirror() -> tuple[Tensor, Tensor]:
    """How to have the statistics of a clip seen in a mirror: `gaze[:, source] * sign`, from raw statistics (B, 103).

    The horizontal angle changes its sign; pupils, blinks, approach and fixation are the same in a mirror.

    Returns:
        source (103,) int64 and sign (103,) float32, 1 or −1.
    """
    source = torch.arange(GAZE_STATISTICS)
    sign = torch.ones(GAZE_STATISTICS)
    for first in _HORIZONTAL:
        source[first : first + 12] = first + torch.tensor(_SOURCE)
        sign[first : first + 12] = torch.tensor(_SIGN, dtype=torch.float32)
    return source, sign


@tower("gaze-mlp", place="gaze")
@dataclass(frozen=True, slots=True, kw_only=True)
class GazeTowerConfig(TowerConfig):
    """Sizes of the two linear layers; the thesis gives the input and the output, 103 and 128 (section 3.2.3)."""

    features: int = GAZE_STATISTICS
    hidden: int = 128
    embedding: int = 128

    def tower(self) -> GazeTower:
        """See `TowerConfig.tower`."""
        return GazeTower(self)


class GazeTower(Tower):
    """(B, features) normalised statistics → (B, embedding): two linear layers with a ReLU between and a batch norm
    after each. No biases: the batch norms have them."""

    compilable = False

    def __init__(self, config: GazeTowerConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(config.features, config.hidden, bias=False),
            nn.BatchNorm1d(config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.embedding, bias=False),
            nn.BatchNorm1d(config.embedding),
        )
        self.embedding_dim = config.embedding

    def forward(self, gaze: Tensor) -> Tensor:
        embedding: Tensor = self.layers(gaze)
        return embedding

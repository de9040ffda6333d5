"""InfoNCE with a margin by which a clip's own sound has to be ahead: the masked margin softmax.

Ilharco, Zhang and Baldridge: Large-scale representation learning from visually grounded untranscribed speech, CoNLL
2019: L = −1/B Σᵢ log(e^(Zᵢᵢ − δ) / (e^(Zᵢᵢ − δ) + Σⱼ Mᵢⱼ e^(Zᵢⱼ))), by rows and by columns, summed; M is 0 where i
and j do not count as negatives. There δ begins at 0.001 and grows by a factor of 1.002 every 1000 steps; in AVLnet
(Rouditchenko et al., Interspeech 2021; its MMS_loss) it stays at 0.001.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from loaders.errors import InputError
from models.objectives.infonce import InfoNCE, InfoNCEConfig, both_ways
from models.objectives.registry import objective, setting

_PERIOD = 1000  #: batches


@objective("margin-softmax")
@dataclass(frozen=True, slots=True, kw_only=True)
class MarginSoftmaxConfig(InfoNCEConfig):
    """Each clip's own ahead of all of the batch."""

    softmax_margin: float = setting(0.001, "By which a clip's own score, divided by the temperature, has to be ahead.")
    softmax_margin_growth: float = setting(
        1.0, "Factor by which that margin grows every 1000 batches: 1.002 as first published; 1: it stays, as AVLnet's."
    )

    def __post_init__(self) -> None:
        InfoNCEConfig.__post_init__(self)
        if not 0 <= self.softmax_margin < math.inf:
            raise InputError(f"--softmax-margin is {self.softmax_margin}: use 0 or more")
        if not 1 <= self.softmax_margin_growth < math.inf:
            raise InputError(f"--softmax-margin-growth is {self.softmax_margin_growth}: use 1 or more")

    def objective(self, temperature: float) -> MarginSoftmax:
        """See `ObjectiveConfig.objective`."""
        return MarginSoftmax(
            self.temperature or temperature,
            learn=self.learn_temperature,
            mask=self.mask,
            margin=self.softmax_margin,
            growth=self.softmax_margin_growth,
        )


class MarginSoftmax(InfoNCE):
    """The sum of both ways' cross entropies, of scores that are a margin lower where they should be high."""

    batches: Tensor  #: () int64, trained on so far: of this the margin is a function

    def __init__(self, temperature: float, *, learn: bool, mask: str, margin: float, growth: float) -> None:
        super().__init__(temperature, learn=learn, mask=mask)
        self._margin, self._growth = margin, growth
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @property
    def margin(self) -> Tensor:
        """δ now, a float64 scalar: it grows at once after every 1000 batches."""
        return self._margin * self._growth ** torch.div(self.batches, _PERIOD, rounding_mode="floor").double()

    def forward(self, scores: Tensor, negative: Tensor) -> Tensor:
        """See `OfScores.forward`."""
        logits = self.divided(scores)
        behind = torch.eye(len(logits), device=logits.device) * self.margin.float()
        if self.training:
            self.batches += 1
        return torch.stack(both_ways(logits - behind, negative)).sum()

    def logged(self) -> Mapping[str, Tensor]:
        """See `OfScores.logged`."""
        return {**super().logged(), "margin": self.margin.float()}

"""Members in deviations from their mean: by moments that the dataset states, or as they are measured in training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Share of a batch in the moments, after the first batches, which count alike: as batch norm has it.
_SHARE = 0.1
#: Least deviations: a number, and a share of the mean, by which float32 may round a value that does not vary.
_FLOOR, _ROUNDED = 1e-9, 1e-5


class Standardise(nn.Module):
    """(B, …, features) and a mask (B, …) → float32, each feature minus its mean, over its deviation, within ± `limit`;
    0 where the mask is.

    By the moments that `fix` was given. Without them, in training, by the running ones after the batch was taken in, so
    that a first batch is standardised by its own, a batch of few valid rows by those of all before it. Either are saved
    with the weights. Nothing is learnt.
    """

    mean: Tensor  #: (features,)
    variance: Tensor
    batches: Tensor  #: () of them behind the moments

    def __init__(self, features: int, *, limit: float = 10.0) -> None:
        super().__init__()
        self.limit = limit
        self._fixed = False
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))
        self.register_buffer("batches", torch.zeros(()))

    def fix(self, mean: Tensor, std: Tensor) -> None:
        """Use these moments, (features,) each, from now on, and measure none."""
        self.mean.copy_(mean)
        self.variance.copy_(std.square())
        self._fixed = True

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        with torch.no_grad(), torch.autocast(values.device.type, enabled=False):
            values, valid = values.float(), mask[..., None]
            if self.training and not self._fixed:
                self._take_in(values, valid)
            floor = _FLOOR + _ROUNDED * self.mean.abs()
            deviations = (values - self.mean) / torch.maximum(self.variance.sqrt(), floor)
            return torch.where(valid, deviations.clamp(-self.limit, self.limit), 0.0)

    def _take_in(self, values: Tensor, valid: Tensor) -> None:
        """Without asking the device whether there is a valid row: the host would wait for the answer."""
        over = tuple(range(values.ndim - 1))
        count = valid.sum()
        mean = torch.where(valid, values, 0.0).sum(over) / count.clamp(min=1)
        variance = torch.where(valid, (values - mean).square(), 0.0).sum(over) / count.clamp(min=1)
        some = (count > 0).float()
        self.batches += some
        share = some * (1 / self.batches.clamp(min=1)).clamp(min=_SHARE)
        shift = mean - self.mean
        # Of a mixture: the moments' own spread, and that of their means.
        self.variance.copy_((1 - share) * self.variance + share * (variance + (1 - share) * shift.square()))
        self.mean += share * shift

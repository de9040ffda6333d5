"""Batch norm over the batch of all ranks: what one process with the whole batch computes (`--sync-batch-norm`).

torch's own, `torch.nn.SyncBatchNorm`, runs on GPUs alone, in training by the kernels of `models.towers.fused_norm`. On
a CPU `SyncedBatchNorm` takes its place: the same weights and running statistics under the same names, in torch's own
operations.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def synchronise(network: nn.Module, device: torch.device) -> None:
    """Have a network's batch norms take mean and variance over all ranks, in place; weights stay the same objects.

    Args:
        network: that is trained on every rank of the default process group, and is no batch norm itself.
        device: where it is trained.
    """
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            setattr(network, name, _synced(child, device))
        else:
            synchronise(child, device)


def _synced(norm: nn.modules.batchnorm._BatchNorm, device: torch.device) -> nn.Module:
    if device.type == "cuda":
        of_torch: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(norm)  # type: ignore[no-untyped-call]
        return of_torch
    return SyncedBatchNorm(norm)


class SyncedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Of (B, C, …), normalised a channel over the rows of all ranks (Ioffe and Szegedy, 2015), on any device.

    Every rank has to call it in training; in evaluation it is a batch norm like any other.
    """

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm) -> None:
        """``norm``: whose settings, weights and running statistics it takes over."""
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.training = norm.training

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 (torch's name)
        if input.dim() < 2:
            raise ValueError(f"a batch norm takes (B, C, …) (got {tuple(input.shape)}).")

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if not (self.training or self.running_mean is None):
            evaluated: Tensor = super().forward(x)
            return evaluated
        self._check_input_dim(x)
        with torch.autocast(x.device.type, enabled=False):
            wide = x.float()
            mean, variance, count = _moments(wide)
            self._track(mean.detach(), (variance * (count / (count - 1))).detach())
            shape = (1, -1, *(1,) * (x.dim() - 2))
            y = (wide - mean.view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
            if self.affine:
                y = y * self.weight.view(shape) + self.bias.view(shape)
            normalised: Tensor = y.to(x.dtype)
        return normalised

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics; ``variance`` is unbiased."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        step = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, step)
        self.running_var.lerp_(variance, step)


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance of a channel over all ranks, and how many values they are of, (C,) each."""
    rows = x.transpose(0, 1).flatten(1)  # (C, values)
    if rows.shape[1] * dist.get_world_size() < 2:
        raise ValueError(f"a batch norm in training needs more than one value a channel (got {tuple(x.shape)}).")
    variance, mean = torch.var_mean(rows, dim=1, correction=0)
    own = torch.stack([mean.new_full(mean.shape, rows.shape[1]), mean, variance])
    counts, means, variances = _OfRanks.apply(own).unbind(1)  # type: ignore[no-untyped-call]
    total = counts.detach().sum(0)
    share = counts.detach() / total
    # Chan, Golub and LeVeque (1979): sums of squares of all values would cancel where the mean is far from 0.
    joint = (share * means).sum(0)
    return joint, (share * (variances + (means - joint).square())).sum(0), total


class _OfRanks(torch.autograd.Function):
    """(…) of each rank → (ranks, …); backwards each gets what all of them have of its own."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        gathered = own.new_empty((dist.get_world_size(), *own.shape))
        dist.all_gather(list(gathered), own.contiguous())
        return gathered

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[dist.get_rank()]

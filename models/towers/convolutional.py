"""The convolutional tower, in the two or three dimensions of audio and video."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from loaders.errors import InputError
from models.towers import fused_norm, stem
from models.towers.tower import Tower

_log = logging.getLogger(__name__)

# Up to so many channels, cuDNN 9.19 takes a kernel of the GPU before the H100's (sm80) for the forward pass in three
# dimensions, but not for a transposed convolution, which computes the same: 7.2 and 6.2 ms (benchmarks/NOTES.md).
_FEW_CHANNELS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvTowerConfig:
    """Four stages of two convolutions (Objects that Sound, Figure 2; thesis, Figures 3.3 and 3.4)."""

    #: Channels of the first stage; the others have 2, 4 and 8 times as many. 64 in the papers.
    width: int = 64
    #: Spatial stride of the very first convolution: 2 in Objects that Sound, 1 in Look, Listen and Learn.
    first_stride: int = 2
    #: How stage 4 becomes one vector. The papers pool over all positions by maximum; the average is ours.
    pool: Literal["max", "average"] = "max"

    def with_width(self, width: int) -> Self:
        """See `TowerConfig.with_width`."""
        return replace(self, width=width)


class ConvTower(Tower):
    """The tower in two dimensions (bands, time) or three (time, height, width).

    Every 3×3(×3) convolution is followed by batch norm and ReLU, stages 1–3 by max pooling that halves each dimension.
    A dimension that has shrunk to 1 is left alone and an odd one is rounded up, so any input size works, one frame
    included. Time is halved by pooling alone: only space has the first stride.
    """

    #: Channels last: a third faster on a CPU, and the layout that tensor cores want.
    memory_format: torch.memory_format

    def __init__(self, *, dimensions: Literal[2, 3], channels: int, config: ConvTowerConfig) -> None:
        super().__init__()
        if min(config.width, config.first_stride) < 1:
            raise InputError(f"a tower's width and first stride must be at least 1 (got {config}).")
        stride = (1,) * (dimensions - 2) + (config.first_stride,) * 2
        self.stages: Any = nn.ModuleList()
        for multiple in (1, 2, 4, 8):
            width = multiple * config.width
            self.stages.append(
                nn.Sequential(
                    *_convolution(dimensions, channels, width, stride if multiple == 1 else 1),
                    *_convolution(dimensions, width, width, 1),
                )
            )
            channels = width
        self.embedding_dim = channels
        self.memory_format = torch.channels_last if dimensions == 2 else torch.channels_last_3d
        #: Batch norm, ReLU and pooling by the kernels of `models.towers.fused_norm`, in training on a GPU.
        self.fuse = True
        self._said = False
        self._pool = config.pool

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, bands, time) or (B, C, T, height, width) → (B, `embedding_dim`)."""
        # The convolutions follow the layout of their input, whatever that of their weights.
        x = x.contiguous(memory_format=self.memory_format)
        for stage in self.stages[:-1]:
            x = self._stage(stage, x, pool=True)
        x = self._stage(self.stages[-1], x, pool=False).flatten(2)
        return x.amax(2) if self._pool == "max" else x.mean(2)

    def in_stages(self) -> list[nn.Module]:
        """See `Tower.in_stages`."""
        return list(self.stages)

    def use_plain_operations(self) -> bool:
        """See `Tower.use_plain_operations`."""
        weight = next(self.parameters())
        has_kernels = self.fuse and self._on_gpu(weight)
        self.fuse = False
        return has_kernels and all(_obstacle(stage, weight.device) is None for stage in self.stages)

    def _stage(self, stage: nn.Sequential, x: Tensor, *, pool: bool) -> Tensor:
        """Two convolutions, each with batch norm and ReLU, and pooling after them."""
        if not self._fused(stage, x):
            x = stage(x)
            return _pooled(x) if pool else x
        convolutions_and_norms: list[Any] = list(stage)
        first, first_norm, _, second, second_norm, _ = convolutions_and_norms
        one = (1,) * (x.ndim - 2)
        if x.ndim == 5 and x.shape[2] == 2 and not pool:
            # Frames stay side by side from one convolution to the next: apart, each would cost copies.
            x = fused_norm.norm_relu_pool(_in_a_line(first.over_two(_side_by_side(x))), first_norm, (1, 1))
            return fused_norm.norm_relu_pool(_in_a_line(second.over_two(_out_of_line(x))), second_norm, (1, 1))
        if stem.fits(x, first):
            x = stem.norm_relu_stem(x, first, first_norm)
        else:
            x = fused_norm.norm_relu_pool(first(x), first_norm, one)
        x = second(x)
        return fused_norm.norm_relu_pool(x, second_norm, _window(x) if pool else one)

    @staticmethod
    def _on_gpu(x: Tensor) -> bool:
        return x.is_cuda

    def _fused(self, stage: nn.Sequential, x: Tensor) -> bool:
        """Whether the kernels of `models.towers.fused_norm` take over what follows the convolutions."""
        if not (self.fuse and self.training and self._on_gpu(x)):
            return False
        obstacle = _obstacle(stage, x.device)
        if obstacle is not None and not self._said:
            self._said = True
            _log.warning("batch norm, ReLU and pooling run one after the other, and steps take longer: %s", obstacle)
        return obstacle is None


def _obstacle(stage: nn.Sequential, device: torch.device) -> str | None:
    """See `fused_norm.obstacle`, of both norms of a stage."""
    return next((why for norm in (stage[1], stage[4]) if (why := fused_norm.obstacle(norm, device))), None)


def _convolution(dimensions: int, channels: int, width: int, stride: int | tuple[int, ...]) -> list[nn.Module]:
    """Convolution, batch norm, ReLU. No bias: the batch norm behind it has one."""
    if dimensions == 2:
        return [
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),  # type: ignore[arg-type]
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
    return [
        _Conv3d(channels, width, 3, stride, padding=1, bias=False),  # type: ignore[arg-type]
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
    ]


class _Conv3d(nn.Conv3d):
    """A 3×3×3 convolution with padding 1 that spends nothing on padding in time, where one or two frames are left.

    Over one frame only the kernel's middle slice meets anything but zeros; over two, four of six products of a slice
    and a frame do. Both are convolutions in two dimensions, of a third and of two thirds of the work. The oneDNN of
    torch 2.13 (3.12) besides leaves the weight's gradient in bfloat16 on a CPU at whatever was in memory, NaN included,
    where exactly two frames meet padding in time.
    """

    def forward(self, x: Tensor) -> Tensor:
        frames = x.shape[2]
        if frames > 2:
            few = x.is_cuda and self.stride == (1, 1, 1) and self.out_channels <= _FEW_CHANNELS
            return by_transpose(x, self.weight) if few else super().forward(x)
        if frames == 1:
            return F.conv2d(x.squeeze(2), self.weight[:, :, 1], None, self.stride[1:], 1).unsqueeze(2)
        out = self.over_two(_side_by_side(x))
        out = out.reshape(len(out), 2, -1, *out.shape[2:]).transpose(1, 2)
        return out.contiguous(memory_format=torch.channels_last_3d)

    def over_two(self, x: Tensor) -> Tensor:
        """Over two frames whose channels lie side by side: (B, 2·C, height, width) → (B, 2·O, …)."""
        before, now, after = self.weight.unbind(2)
        kernel = torch.cat([torch.cat([now, after], 1), torch.cat([before, now], 1)])
        return F.conv2d(x, kernel, None, self.stride[1:], 1)


def _side_by_side(x: Tensor) -> Tensor:
    """(B, C, 2, height, width) → (B, 2·C, height, width), channels last."""
    return x.transpose(1, 2).flatten(1, 2).contiguous(memory_format=torch.channels_last)


def _in_a_line(x: Tensor) -> Tensor:
    """(B, 2·C, height, width) → (B, C, height, 2·width): the same memory, each channel over both frames' positions."""
    batch, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(batch, height, 2 * width, channels // 2).permute(0, 3, 1, 2)


def _out_of_line(x: Tensor) -> Tensor:
    """What `_in_a_line` was made of."""
    batch, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(batch, height, width // 2, 2 * channels).permute(0, 3, 1, 2)


def by_transpose(x: Tensor, weight: Tensor) -> Tensor:
    """The 3×3×3 convolution of stride 1 with padding 1, by the kernels that transposed convolutions are made of."""
    device = x.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x, weight = x.to(dtype), weight.to(dtype)
    out: Tensor = _ByTranspose.apply(x, weight)  # type: ignore[no-untyped-call]
    return out


class _ByTranspose(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        turned = weight.transpose(0, 1).flip(2, 3, 4).contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(x.device.type, enabled=False):
            return F.conv_transpose3d(x, turned, None, 1, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needed = [*ctx.needs_input_grad, False]
        dx, dweight, _ = torch.ops.aten.convolution_backward(
            gradients[0], x, weight, None, [1] * 3, [1] * 3, [1] * 3, False, [0] * 3, 1, needed
        )
        return dx, dweight


def _window(x: Tensor) -> tuple[int, ...]:
    """What halves each dimension that is longer than 1."""
    return tuple(min(2, size) for size in x.shape[2:])


def _pooled(x: Tensor) -> Tensor:
    window = _window(x)
    if len(window) == 2:
        return F.max_pool2d(x, window, ceil_mode=True)
    return F.max_pool3d(x, window, ceil_mode=True)

"""What turns one modality into one vector, and the convolutional kind that audio and video share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from loaders.errors import InputError


class Tower(nn.Module):
    """Any module that maps a modality's input, (B, …), to an embedding, (B, `embedding_dim`).

    The networks ask no more of their towers than this, so one tower can stand in for another.
    """

    embedding_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvTowerConfig:
    """Four stages of two convolutions (Objects that Sound, Figure 2; thesis, Figures 3.3 and 3.4)."""

    #: Channels of the first stage; the others have 2, 4 and 8 times as many. 64 in the papers.
    width: int = 64
    #: Spatial stride of the very first convolution: 2 in Objects that Sound, 1 in Look, Listen and Learn.
    first_stride: int = 2
    #: How stage 4 becomes one vector. The papers pool over all positions by maximum; the average is ours.
    pool: Literal["max", "average"] = "max"


class ConvTower(Tower):
    """The tower in two dimensions (bands, time) or three (time, height, width).

    Every 3×3(×3) convolution is followed by batch norm and ReLU, stages 1–3 by max pooling that halves each dimension.
    A dimension that has shrunk to 1 is left alone and an odd one is rounded up, so any input size works, one frame
    included. Time is halved by pooling alone: only space has the first stride.
    """

    def __init__(self, *, dimensions: Literal[2, 3], channels: int, config: ConvTowerConfig) -> None:
        super().__init__()
        if min(config.width, config.first_stride) < 1:
            raise InputError(f"a tower's width and first stride must be at least 1 (got {config}).")
        stride = (1,) * (dimensions - 2) + (config.first_stride,) * 2
        self.stages = nn.ModuleList()
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
        #: Channels last: a third faster on a CPU, and the layout that tensor cores want.
        self.memory_format = torch.channels_last if dimensions == 2 else torch.channels_last_3d
        self._pool = config.pool

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, bands, time) or (B, C, T, height, width) → (B, `embedding_dim`)."""
        # The convolutions follow the layout of their input, whatever that of their weights.
        x = x.contiguous(memory_format=self.memory_format)
        for stage in self.stages[:-1]:
            x = _halve(stage(x))
        x = self.stages[-1](x).flatten(2)
        return x.amax(2) if self._pool == "max" else x.mean(2)


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
            return super().forward(x)
        before, now, after = self.weight.unbind(2)
        stride = self.stride[1:]
        if frames == 1:
            return F.conv2d(x.squeeze(2), now, None, stride, 1).unsqueeze(2)
        # Frames as groups of channels, frame by frame: (B, C, 2, H, W) → (B, 2·C, H, W).
        kernel = torch.cat([torch.cat([now, after], 1), torch.cat([before, now], 1)])
        stacked = x.transpose(1, 2).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        out = F.conv2d(stacked, kernel, None, stride, 1)
        out = out.reshape(len(out), 2, -1, *out.shape[2:]).transpose(1, 2)
        return out.contiguous(memory_format=torch.channels_last_3d)


def _halve(x: Tensor) -> Tensor:
    window = [min(2, size) for size in x.shape[2:]]
    if len(window) == 2:
        return F.max_pool2d(x, window, ceil_mode=True)
    return F.max_pool3d(x, window, ceil_mode=True)

"""The first convolution over a clip's frames, with its batch norm and ReLU, in one go: kernels in Triton for a GPU.

Over three channels a convolution falls off the tensor cores' fast path: libraries want eight or multiples of it. Here
the 81 values under the kernel are gathered from the frames themselves, and padded to 96 in registers, so that nothing
but the frames is read. As the frames need no gradient, the backward pass computes the gradient before the batch norm
where the weights' gradient takes it up, and never writes it.

What is computed is relu(norm(conv3d(x))) as torch computes it, with products in the type of autocast and sums in
float32; see `models.towers.fused_norm` for the batch norm.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.towers.fused_norm import (
    MISSING,
    Norm,
    affine_relu,
    ceil_divide,
    gradient_sums,
    join_statistics,
    positions,
    ranks_of,
    require_variance,
    sums_through_norm,
)

if MISSING is None:
    from models.towers.kernels import stem as kernels

# Positions of a block, by the bytes of a value. What the products of a block need of a multiprocessor's memory grows
# with both: of 128 positions in float32 it is 262 kB, which no GPU has; of 32 it is 66 kB.
_ROWS = {2: 128, 4: 32}
_PROGRAMS = 1056  # that share the positions: eight for each of an H100's multiprocessors
_UNDER = 81  # values under the kernel: frames, lines, columns, channels
_PARTS = 64, 32  # that they are taken in: powers of two, as tensor cores want them


def norm_relu_stem(frames: Tensor, convolution: nn.Conv3d, norm: Norm) -> Tensor:
    """Convolution, batch norm in training mode, and ReLU.

    Args:
        frames: (B, 3, T, height, width), channels last, without gradient.
        convolution: 3×3×3 with padding 1, without bias, of stride 1 in time and the same stride in both other
            dimensions.
        norm: over its channels; its running statistics are updated.

    Returns:
        (B, O, T, height / stride, width / stride), channels last, in the type of autocast where that is on.
    """
    device = frames.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else convolution.weight.dtype
    settings = norm, convolution.stride[1], dtype
    with torch.cuda.device_of(frames):  # type: ignore[no-untyped-call]  # where kernels start
        out: Tensor = _Stem.apply(  # type: ignore[no-untyped-call]
            frames, convolution.weight, norm.weight, norm.bias, *settings
        )
    return out


def fits(x: Tensor, convolution: nn.Module) -> bool:
    """Whether a convolution and what it is given are what the kernels take."""
    return (
        MISSING is None
        and isinstance(convolution, nn.Conv3d)
        and convolution.in_channels == 3
        and convolution.kernel_size == (3, 3, 3)
        and convolution.padding == (1, 1, 1)
        and convolution.stride[0] == 1
        and convolution.stride[1] == convolution.stride[2]
        and convolution.bias is None
        and max(x.dtype.itemsize, convolution.weight.dtype.itemsize) in _ROWS
        and not x.requires_grad
    )


class _Stem(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        frames: Tensor,
        kernel: Tensor,
        weight: Tensor,
        bias: Tensor,
        norm: Norm,
        stride: int,
        dtype: torch.dtype,
    ) -> Tensor:
        frames = frames.contiguous(memory_format=torch.channels_last_3d)
        batch, _, time, height, width = frames.shape
        space = (height - 1) // stride + 1, (width - 1) // stride + 1
        shape = batch, len(kernel), time, *space
        z = torch.empty(shape, dtype=dtype, device=frames.device, memory_format=torch.channels_last_3d)
        rows, channels = positions(z), len(kernel)
        require_variance(rows, shape, norm)
        block = max(16, min(64, 1 << (channels - 1).bit_length()))
        # (O, 3, t, h, w) → (t, h, w and channel, O), as a row of pixels is read.
        taps = kernel.detach().permute(2, 3, 4, 1, 0).flatten(0, 3)
        taps = nn.functional.pad(taps, (0, 0, 0, sum(_PARTS) - _UNDER))
        # Frames in half precision are multiplied as they are: the sums are float32 either way.
        taps = taps.to(dtype if frames.dtype == torch.float32 else frames.dtype).contiguous()
        of_block = _ROWS[max(taps.dtype.itemsize, dtype.itemsize)]
        share = ceil_divide(ceil_divide(rows, of_block), _PROGRAMS) * of_block
        grid = ceil_divide(rows, share), ceil_divide(channels, block)
        parts = torch.empty((2, grid[0], channels), dtype=torch.float32, device=frames.device)
        size = time, height, width, *space, rows, channels, share
        tile = stride, of_block, block, *_PARTS
        kernels.convolve[grid](frames, taps, z, norm.running_mean, parts, *size, *tile)
        mean, deviation, everyones = join_statistics(parts, rows, norm)
        y = affine_relu(z, mean, deviation, weight, bias)
        ctx.save_for_backward(frames, z, mean, deviation, weight, bias, everyones)
        ctx.size, ctx.tile, ctx.grid, ctx.group = size, tile, grid, ranks_of(norm)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        frames, z, mean, deviation, weight, bias, everyones = ctx.saved_tensors
        dy = gradients[0].contiguous(memory_format=torch.channels_last_3d)
        dweight, dbias = gradient_sums(z, dy, mean, deviation, weight, bias)
        channels = z.shape[1]
        parts = torch.empty((ctx.grid[0], channels, sum(_PARTS)), dtype=torch.float32, device=z.device)
        norm = mean, deviation, weight, bias, *sums_through_norm(dweight, dbias, positions(z), everyones, ctx.group)
        kernels.kernel_gradient[ctx.grid](frames, z, dy, parts, *norm, *ctx.size, *ctx.tile)
        taps = parts.sum(0)[:, :_UNDER].reshape(channels, 3, 3, 3, 3)  # O, t, h, w, channel
        return None, taps.permute(0, 4, 1, 2, 3), dweight, dbias, None, None, None

"""Batch norm, ReLU and max pooling in as few passes over memory as they need: kernels in Triton, for training on a GPU.

One after the other, torch's operations read and write a feature map eleven times, forwards and backwards; here it is
read five times and written twice, and where pooling follows, the map before the pooling is never written at all. With
the thesis' sizes these passes took more of a step than its convolutions (benchmarks/NOTES.md).

What is computed is what `torch.nn.BatchNorm2d` or `BatchNorm3d` in training mode, ReLU and max pooling compute:

    y = max over the window of relu(gamma · (x − mean) / sqrt(var + eps) + beta)

with mean and biased variance over all positions of a channel, running statistics updated by the momentum, the unbiased
variance in them (Ioffe and Szegedy, "Batch Normalization", ICML 2015). Statistics and sums are float32, whatever the
map's type. Maps are channels last: a row is a position, its channels lie side by side.

A `torch.nn.SyncBatchNorm` is over the maps of all ranks: sums of its channels and the number of their rows are added up
between the ranks, forwards and backwards, and nothing waits for the host.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from loaders.errors import first_line

try:
    from models.towers.kernels import norm as kernels

    MISSING: str | None = None  #: why the kernels cannot run; None where they can
except ImportError:  # Triton comes with torch's CUDA builds, and with no other
    MISSING = "Triton is not installed"

Norm = nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm

# Of a block: a program's tile is (rows, channels). Widths, warps and programs are what was fastest on an H100.
_ROWS = 64
_POOLED_ROWS, _POOL_WARPS = 16, 8  # whose windows are up to eight times as many
_CHANNELS = 64  # of a block at most
_PROGRAMS = 1024  # that share the rows of a sum: several for each of a large GPU's 132 multiprocessors
_JOINED, _JOINED_CHANNELS = 256, 16  # of the sums that are joined at a time


def obstacle(norm: nn.Module, device: torch.device) -> str | None:
    """Why the kernels cannot stand in for a batch norm on a device; None where they can."""
    if MISSING is not None:
        return MISSING
    if type(norm) not in (nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm):
        return f"{type(norm).__name__} is not torch's own batch norm"
    if not norm.training:
        return "the batch norm is in evaluation mode"
    if norm.momentum is None or not (norm.affine and norm.track_running_stats):
        return "the batch norm has no weights, no running statistics, or no momentum"
    return _why_not(device)


def unavailable(device: torch.device) -> str | None:
    """Why no kernel can be built and run on a device; None where they can."""
    return MISSING or _why_not(device)


@cache
def _why_not(device: torch.device) -> str | None:
    """Why kernels cannot be built and run on a device: Triton wants a C compiler, whatever it was installed with."""
    try:
        one = torch.zeros(1, device=device)
        with torch.cuda.device_of(one):  # type: ignore[no-untyped-call]
            kernels.answer[(1,)](one)
        works = float(one) == 1.0
    except Exception as error:  # whatever compilers and drivers raise
        return f"Triton cannot run here: {first_line(error)}"
    return None if works else "Triton runs here and computes nothing"


def ranks_of(norm: nn.Module) -> dist.ProcessGroup | None:
    """Over whose maps a batch norm is, beside this process' own; None where over these alone."""
    if not isinstance(norm, nn.SyncBatchNorm) or not (dist.is_available() and dist.is_initialized()):
        return None
    group: dist.ProcessGroup | None = norm.process_group or dist.group.WORLD
    return group if dist.get_world_size(group) > 1 else None


def require_variance(rows: int, shape: tuple[int, ...], norm: nn.Module) -> None:
    """Raise ValueError, as torch does, where a channel has a single value or none."""
    group = ranks_of(norm)
    if rows * (1 if group is None else dist.get_world_size(group)) < 2:
        raise ValueError(f"a batch norm in training needs more than one value a channel (got {shape}).")


def norm_relu_pool(x: Tensor, norm: Norm, window: tuple[int, ...]) -> Tensor:
    """Batch norm in training mode, ReLU, and max pooling over windows that do not overlap, the last ones cut off.

    Args:
        x: (B, C, height, width) or (B, C, T, height, width), channels last.
        norm: whose running statistics are updated.
        window: of the pooling, 1 or 2 a dimension; (1, …, 1) does not pool.

    Returns:
        The map, pooled with ``ceil_mode``, in the type of ``x``, channels last.
    """
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]  # where kernels start, whatever their tensors lie on
        pooled: Tensor = _NormReluPool.apply(x, norm.weight, norm.bias, norm, window)  # type: ignore[no-untyped-call]
    return pooled


class _NormReluPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: Norm, window: tuple[int, ...]) -> Tensor:
        x = x.contiguous(memory_format=_layout(x))
        require_variance(positions(x), tuple(x.shape), norm)
        mean, deviation, everyones = _statistics(x, norm)
        if max(window) == 1:
            y = affine_relu(x, mean, deviation, weight, bias)
            ctx.save_for_backward(x, mean, deviation, weight, bias, everyones)
        else:
            y, winner, where = _pooled(x, mean, deviation, weight, bias, window)
            ctx.save_for_backward(x, mean, deviation, weight, bias, everyones, winner, where)
        ctx.window, ctx.group = window, ranks_of(norm)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, deviation, weight, bias, everyones, *pooling = ctx.saved_tensors
        dy = gradients[0].contiguous(memory_format=_layout(gradients[0]))
        # What reaches the map before the pooling is nought but at each window's winner, and so are the sums' terms.
        seen = pooling[0] if pooling else x
        dweight, dbias = gradient_sums(seen, dy, mean, deviation, weight, bias)
        dx = torch.empty_like(x)
        channels, count = x.shape[1], positions(x)
        sums = sums_through_norm(dweight, dbias, count, everyones, ctx.group)
        if pooling:
            t, h, w = _space(x)
            pt, ph, pw = _space(dy)
            rows = positions(dy)
            grid, block = _over(rows, channels, _POOLED_ROWS)
            kernels.pool_gradient[grid](
                x, pooling[0], pooling[1], dy, dx, mean, deviation, weight, bias, *sums, rows, channels, count,
                t, h, w, pt, ph, pw, *_three(ctx.window), _POOLED_ROWS, block, num_warps=_POOL_WARPS,
            )  # fmt: skip
        else:
            grid, block = _over(count, channels)
            kernels.affine_gradient[grid](
                x, dy, dx, mean, deviation, weight, bias, *sums, count, channels, _ROWS, block
            )
        return dx, dweight, dbias, None, None


def ceil_divide(whole: int, part: int) -> int:
    """How many parts it takes to cover the whole."""
    return -(-whole // part)


def _layout(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.ndim == 4 else torch.channels_last_3d


def positions(x: Tensor) -> int:
    """Rows of a map: its values a channel."""
    return x.numel() // x.shape[1] if x.shape[1] else 0


def _three(window: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) * (3 - len(window)) + tuple(window)


def _space(x: Tensor) -> tuple[int, ...]:
    return _three(tuple(x.shape[2:]))


def _block(channels: int) -> int:
    return min(_CHANNELS, 1 << (channels - 1).bit_length())


def _over(rows: int, channels: int, of_block: int = _ROWS) -> tuple[tuple[int, int], int]:
    """A grid of blocks that cover all rows and channels, and a block's channels."""
    block = _block(channels)
    return (ceil_divide(rows, of_block), ceil_divide(channels, block)), block


def _shares(rows: int, channels: int) -> tuple[tuple[int, int], int, int]:
    """A grid whose programs take about as many rows each; a program's rows, a multiple of the block's; and a block's
    channels."""
    block = _block(channels)
    share = ceil_divide(ceil_divide(rows, _ROWS), _PROGRAMS) * _ROWS
    return (ceil_divide(rows, share), ceil_divide(channels, block)), share, block


def _statistics(x: Tensor, norm: Norm) -> tuple[Tensor, Tensor, Tensor | None]:
    """As `join_statistics`, of a map."""
    rows, channels = positions(x), x.shape[1]
    grid, share, block = _shares(rows, channels)
    parts = torch.empty((2, grid[0], channels), dtype=torch.float32, device=x.device)
    kernels.partial_statistics[grid](x, norm.running_mean, parts, rows, channels, share, _ROWS, block)
    return join_statistics(parts, rows, norm)


def join_statistics(parts: Tensor, rows: int, norm: Norm) -> tuple[Tensor, Tensor, Tensor | None]:
    """Mean and 1 / sqrt(var + eps) of each channel, (C,) float32; moves the running statistics.

    Args:
        parts: (2, P, C) float32, sums over parts of ``rows`` values of their distance from the running mean, and of
            its square: close to the mean, little is lost when the square of one is taken from the other.
        rows: of this process' map.
        norm: over its values, or those of all ranks, which have the same running statistics.

    Returns:
        Mean; 1 / sqrt(var + eps); and the rows of all ranks, (1,) float32, None where the norm is over one alone.
    """
    group, everyones = ranks_of(norm), None
    if group is not None:
        sums = parts.sum(1, keepdim=True)
        together = torch.cat([sums.flatten(), sums.new_full((1,), rows)])
        dist.all_reduce(together, group=group)
        parts, everyones = together[:-1].view_as(sums), together[-1:]
    _, count, channels = parts.shape
    mean, deviation = torch.empty((2, channels), dtype=torch.float32, device=parts.device)
    running = norm.running_mean, norm.running_var
    tile = _JOINED, _JOINED_CHANNELS
    kernels.join_statistics[(ceil_divide(channels, _JOINED_CHANNELS),)](
        parts, mean, deviation, *running, rows, everyones if everyones is not None else parts, channels, count,
        norm.momentum, norm.eps, everyones is not None, *tile,
    )  # fmt: skip
    assert norm.num_batches_tracked is not None  # `obstacle` saw to it
    norm.num_batches_tracked.add_(1)
    return mean, deviation, everyones


def sums_through_norm(
    dweight: Tensor, dbias: Tensor, rows: int, everyones: Tensor | None, group: dist.ProcessGroup | None
) -> tuple[Tensor, Tensor]:
    """The sums of `gradient_sums` that the gradient before the norm takes: of all ranks, a share for each row of ours.

    Args:
        dweight, dbias: this rank's; they stay what they are, for data-parallel training joins weights' gradients.
        rows: of this process' map.
        everyones: of all ranks' maps, see `join_statistics`.
        group: the ranks.
    """
    if everyones is None:
        return dweight, dbias
    sums = torch.stack([dweight, dbias])
    dist.all_reduce(sums, group=group)
    sums *= rows / everyones
    return sums[0], sums[1]


def affine_relu(x: Tensor, mean: Tensor, deviation: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """relu of the batch norm with these statistics."""
    y = torch.empty_like(x)
    rows, channels = positions(x), x.shape[1]
    grid, block = _over(rows, channels)
    kernels.affine_relu[grid](x, y, mean, deviation, weight, bias, rows, channels, _ROWS, block)
    return y


def _pooled(
    x: Tensor, mean: Tensor, deviation: Tensor, weight: Tensor, bias: Tensor, window: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """The pooled map; the value of ``x`` that won each window; and its number in the window, uint8."""
    space = [-(-size // part) for size, part in zip(x.shape[2:], window, strict=True)]
    empty = torch.empty((len(x), x.shape[1], *space), dtype=x.dtype, device=x.device, memory_format=_layout(x))
    winner, where = torch.empty_like(empty), torch.empty_like(empty, dtype=torch.uint8)
    rows, channels = positions(empty), x.shape[1]
    grid, block = _over(rows, channels, _POOLED_ROWS)
    kernels.pool[grid](
        x, empty, winner, where, mean, deviation, weight, bias, rows, channels, *_space(x), *_space(empty),
        *_three(window), _POOLED_ROWS, block, num_warps=_POOL_WARPS,
    )  # fmt: skip
    return empty, winner, where


def gradient_sums(
    x: Tensor, dy: Tensor, mean: Tensor, deviation: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of gamma and beta, (C,) float32: sums over g · (x − mean) / deviation and over g, where g is what
    passes the ReLU of ``dy``."""
    rows, channels = positions(x), x.shape[1]
    grid, share, block = _shares(rows, channels)
    parts = torch.empty((2, grid[0], channels), dtype=torch.float32, device=x.device)
    kernels.partial_gradients[grid](x, dy, parts, mean, deviation, weight, bias, rows, channels, share, _ROWS, block)
    dweight, dbias = torch.empty((2, channels), dtype=torch.float32, device=x.device)
    tile = _JOINED, _JOINED_CHANNELS
    kernels.join_gradients[(ceil_divide(channels, _JOINED_CHANNELS),)](parts, dweight, dbias, channels, grid[0], *tile)
    return dweight, dbias

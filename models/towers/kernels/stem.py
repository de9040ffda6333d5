"""Triton kernels of `models.towers.stem`: the first convolution over frames, and its weights' gradient.

Frames are (B, T, H, W, 3) in memory; positions of the result, (B, T, OH, OW), are its rows. S is the stride in space.
The 81 values under the kernel are taken as the first K and the next L: tensor cores want powers of two, and to gather a
value costs more than to multiply it.
"""

# ruff: noqa: N803  (shape letters)

import triton
import triton.language as tl

from models.towers.kernels.norm import centre_of, scale_of, through_norm


@triton.jit
def _bits(first, size):
    """Which of ``first``, ``first + 1`` and ``first + 2`` are in 0 … size − 1, as three bits."""
    one = (first >= 0) & (first < size)
    two = (first >= -1) & (first < size - 1)
    three = (first >= -2) & (first < size - 2)
    return one.to(tl.int32) | two.to(tl.int32) << 1 | three.to(tl.int32) << 2


@triton.jit
def _under(
    frames, row, rows, T, H, W, OH, OW, dtype: tl.constexpr, S: tl.constexpr, first: tl.constexpr, K: tl.constexpr
):
    """Values ``first`` and on of those that lie under the kernel at positions of the result: (R, K), noughts beyond
    the frames and the 81st. What is there is worked out once a position, as 27 bits for the pixels."""
    clip, time = row // OW // OH // T, row // OW // OH % T - 1
    line, column = row // OW % OH * S - 1, row % OW * S - 1
    columns = _bits(column, W)
    lines = _bits(line, H)
    lines = (lines & 1) * columns | (lines >> 1 & 1) * columns << 3 | (lines >> 2) * columns << 6
    times = tl.where(row < rows, _bits(time, T), 0)
    there = (times & 1) * lines | (times >> 1 & 1) * lines << 9 | (times >> 2) * lines << 18
    value = first + tl.arange(0, K)
    inside = ((there[:, None] >> tl.minimum(value // 3, 31)[None, :]) & 1) != 0  # the 28th bit and on are 0
    corner = frames + (((clip * T + time) * H + line).to(tl.int64) * W + column) * 3
    beside = (value // 27 * H + value // 9 % 3) * (W * 3) + value % 9
    return tl.load(corner[:, None] + beside[None, :], mask=inside, other=0).to(dtype)


@triton.jit
def convolve(
    frames, taps, z, shift, parts, T, H, W, OH, OW, rows, channels, share,
    S: tl.constexpr, R: tl.constexpr, C: tl.constexpr, K: tl.constexpr, L: tl.constexpr,
):  # fmt: skip
    part, channel = tl.program_id(0), tl.program_id(1) * C + tl.arange(0, C)
    has_channel = channel < channels
    middle = centre_of(shift, channel, has_channel)  # see `models.towers.fused_norm.join_statistics`
    place = taps + tl.arange(0, K)[:, None] * channels + channel[None, :]
    tap = tl.load(place, mask=has_channel[None, :], other=0)
    place = taps + (K + tl.arange(0, L))[:, None] * channels + channel[None, :]
    last_tap = tl.load(place, mask=has_channel[None, :], other=0)
    total = tl.zeros((C,), tl.float32)
    squares = tl.zeros((C,), tl.float32)
    for offset in range(0, share, R):
        row = part * share + offset + tl.arange(0, R)
        under = _under(frames, row, rows, T, H, W, OH, OW, taps.dtype.element_ty, S, 0, K)
        sums = tl.dot(under, tap, input_precision="ieee")
        under = _under(frames, row, rows, T, H, W, OH, OW, taps.dtype.element_ty, S, K, L)
        stored = tl.dot(under, last_tap, sums, input_precision="ieee").to(z.dtype.element_ty)
        here = (row < rows)[:, None] & has_channel[None, :]
        tl.store(z + row.to(tl.int64)[:, None] * channels + channel[None, :], stored, mask=here)
        beside = tl.where(here, stored.to(tl.float32) - middle[None, :], 0)
        total += tl.sum(beside, 0)
        squares += tl.sum(beside * beside, 0)
    out = parts + part * channels + channel
    tl.store(out, total, mask=has_channel)
    tl.store(out + tl.num_programs(0) * channels, squares, mask=has_channel)


@triton.jit
def kernel_gradient(
    frames, z, dy, parts, mean, deviation, weight, bias, dweight, dbias, T, H, W, OH, OW, rows, channels, share,
    S: tl.constexpr, R: tl.constexpr, C: tl.constexpr, K: tl.constexpr, L: tl.constexpr,
):  # fmt: skip
    part, channel = tl.program_id(0), tl.program_id(1) * C + tl.arange(0, C)
    has_channel = channel < channels
    scale, shift = scale_of(mean, deviation, weight, bias, channel, has_channel)
    middle = tl.load(mean + channel, mask=has_channel, other=0)
    spread = tl.load(deviation + channel, mask=has_channel, other=0)
    sums = tl.zeros((C, K), tl.float32)
    last_sums = tl.zeros((C, L), tl.float32)
    for offset in range(0, share, R):
        row = part * share + offset + tl.arange(0, R)
        here = (row < rows)[:, None] & has_channel[None, :]
        place = row.to(tl.int64)[:, None] * channels + channel[None, :]
        value = tl.load(z + place, mask=here, other=0).to(tl.float32)
        gradient = tl.load(dy + place, mask=here, other=0).to(tl.float32)
        gradient = tl.where(value * scale[None, :] + shift[None, :] > 0, gradient, 0)
        before = through_norm(gradient, value, middle, spread, scale, dweight, dbias, channel, has_channel, rows)
        before = tl.trans(tl.where(here, before, 0).to(z.dtype.element_ty))
        under = _under(frames, row, rows, T, H, W, OH, OW, z.dtype.element_ty, S, 0, K)
        sums = tl.dot(before, under, sums, input_precision="ieee")
        under = _under(frames, row, rows, T, H, W, OH, OW, z.dtype.element_ty, S, K, L)
        last_sums = tl.dot(before, under, last_sums, input_precision="ieee")
    out = parts + (part * channels + channel[:, None]) * (K + L)
    tl.store(out + tl.arange(0, K)[None, :], sums, mask=has_channel[:, None])
    tl.store(out + K + tl.arange(0, L)[None, :], last_sums, mask=has_channel[:, None])

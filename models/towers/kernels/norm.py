"""Triton kernels of `models.towers.fused_norm`: batch norm, ReLU and pooling over feature maps of rows and channels.

Where a map ``x`` is read, ``rows`` is how many positions it has and ``channels`` how many values lie side by side at
each. Programs take blocks of R rows and C channels; sums are in two steps, parts first, then all parts of a channel.
"""

# ruff: noqa: N803  (shape letters)

import triton
import triton.language as tl


@triton.jit
def answer(x):
    """Write a one: what shows that kernels can be built and run here."""
    tl.store(x, 1.0)


@triton.jit
def centre_of(shift, channel, here):
    """What values are counted from: the running mean, or nought where that is not finite. One batch of which a value
    was not finite spoils the running mean for ever, but not the batches after it."""
    centre = tl.load(shift + channel, mask=here, other=0)
    return tl.where(tl.abs(centre) < 3e38, centre, 0)


@triton.jit
def partial_statistics(x, shift, parts, rows, channels, share, R: tl.constexpr, C: tl.constexpr):
    part, channel = tl.program_id(0), tl.program_id(1) * C + tl.arange(0, C)
    has_channel = channel < channels
    middle = centre_of(shift, channel, has_channel)
    total = tl.zeros((R, C), tl.float32)
    squares = tl.zeros((R, C), tl.float32)
    start = part.to(tl.int64) * share
    for offset in range(0, share, R):
        row = start + offset + tl.arange(0, R)
        here = (row < rows)[:, None] & has_channel[None, :]
        value = tl.load(x + row[:, None] * channels + channel[None, :], mask=here, other=0).to(tl.float32)
        value = tl.where(here, value - middle[None, :], 0)
        total += value
        squares += value * value
    out = parts + part * channels + channel
    tl.store(out, tl.sum(total, 0), mask=has_channel)
    tl.store(out + tl.num_programs(0) * channels, tl.sum(squares, 0), mask=has_channel)


@triton.jit
def joined(parts, channel, here, channels, count, P: tl.constexpr, C: tl.constexpr):
    """Both sums of each channel over all ``count`` parts, which lie one sum after the other: two of (C,)."""
    one = tl.zeros((P, C), tl.float32)
    other = tl.zeros((P, C), tl.float32)
    for first in range(0, count, P):
        part = first + tl.arange(0, P)
        both = (part < count)[:, None] & here[None, :]
        place = parts + part[:, None] * channels + channel[None, :]
        one += tl.load(place, mask=both, other=0)
        other += tl.load(place + count * channels, mask=both, other=0)
    return tl.sum(one, 0), tl.sum(other, 0)


@triton.jit
def join_statistics(
    parts, mean, deviation, running_mean, running_var, rows, everyones, channels, count, momentum, eps,
    SYNCED: tl.constexpr, P: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    if SYNCED:  # what the sums are of is known to the GPU alone
        rows = tl.load(everyones)
    channel = tl.program_id(0) * C + tl.arange(0, C)
    here = channel < channels
    total, squares = joined(parts, channel, here, channels, count, P, C)
    shift = total / rows
    variance = squares / rows - shift * shift
    variance = tl.where(variance < 0, 0, variance)  # a maximum would make a number of what is none
    middle = centre_of(running_mean, channel, here) + shift
    tl.store(mean + channel, middle, mask=here)
    tl.store(deviation + channel, 1 / tl.sqrt(variance + eps), mask=here)
    before = tl.load(running_mean + channel, mask=here, other=0)
    tl.store(running_mean + channel, before + momentum * (middle - before), mask=here)
    before = tl.load(running_var + channel, mask=here, other=0)
    unbiased = variance * (rows / (rows - 1.0))
    tl.store(running_var + channel, before + momentum * (unbiased - before), mask=here)


@triton.jit
def scale_of(mean, deviation, weight, bias, channel, here):
    """The batch norm as factor and addend of each channel."""
    scale = tl.load(weight + channel, mask=here, other=0) * tl.load(deviation + channel, mask=here, other=0)
    return scale, tl.load(bias + channel, mask=here, other=0) - tl.load(mean + channel, mask=here, other=0) * scale


@triton.jit
def affine_relu(x, y, mean, deviation, weight, bias, rows, channels, R: tl.constexpr, C: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    channel = tl.program_id(1) * C + tl.arange(0, C)
    scale, shift = scale_of(mean, deviation, weight, bias, channel, channel < channels)
    here = (row < rows)[:, None] & (channel < channels)[None, :]
    place = row[:, None] * channels + channel[None, :]
    value = tl.load(x + place, mask=here, other=0).to(tl.float32)
    value = value * scale[None, :] + shift[None, :]
    # Not a maximum: on a GPU that is nought where a value is none, and nobody would see that it is.
    tl.store(y + place, tl.where(value <= 0, 0, value).to(y.dtype.element_ty), mask=here)


@triton.jit
def pool(
    x, y, winner, where, mean, deviation, weight, bias, rows, channels, T, H, W, PT, PH, PW,
    WT: tl.constexpr, WH: tl.constexpr, WW: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * R + tl.arange(0, R)  # of the pooled map
    channel = tl.program_id(1) * C + tl.arange(0, C)
    has_channel = channel < channels
    scale, shift = scale_of(mean, deviation, weight, bias, channel, has_channel)
    t, h, w = (row // PW // PH % PT) * WT, (row // PW % PH) * WH, (row % PW) * WW
    first = ((row // PW // PH // PT * T + t) * H + h) * W + w  # of the window, as a row of x
    best = tl.full((R, C), float("-inf"), tl.float32)
    won = tl.zeros((R, C), tl.float32)
    number = tl.zeros((R, C), tl.int32)
    for dt in tl.static_range(WT):
        for dh in tl.static_range(WH):
            for dw in tl.static_range(WW):
                inside = (row < rows) & (t + dt < T) & (h + dh < H) & (w + dw < W)
                here = inside[:, None] & has_channel[None, :]
                place = (first + (dt * H + dh) * W + dw).to(tl.int64)[:, None] * channels + channel[None, :]
                raw = tl.load(x + place, mask=here, other=0).to(tl.float32)
                value = tl.where(here, raw * scale[None, :] + shift[None, :], float("-inf"))
                better = (value > best) | (
                    value != value
                )  # the first of equals wins, and what is no number, as in torch
                best = tl.where(better, value, best)
                won = tl.where(better, raw, won)
                number = tl.where(better, (dt * WH + dh) * WW + dw, number)
    here = (row < rows)[:, None] & has_channel[None, :]
    place = row.to(tl.int64)[:, None] * channels + channel[None, :]
    tl.store(y + place, tl.where(best <= 0, 0, best).to(y.dtype.element_ty), mask=here)
    tl.store(winner + place, won.to(winner.dtype.element_ty), mask=here)
    tl.store(where + place, number.to(tl.uint8), mask=here)


@triton.jit
def partial_gradients(
    x, dy, parts, mean, deviation, weight, bias, rows, channels, share, R: tl.constexpr, C: tl.constexpr
):
    part, channel = tl.program_id(0), tl.program_id(1) * C + tl.arange(0, C)
    has_channel = channel < channels
    scale, shift = scale_of(mean, deviation, weight, bias, channel, has_channel)
    middle = tl.load(mean + channel, mask=has_channel, other=0)
    total = tl.zeros((R, C), tl.float32)
    products = tl.zeros((R, C), tl.float32)
    start = part.to(tl.int64) * share
    for offset in range(0, share, R):
        row = start + offset + tl.arange(0, R)
        here = (row < rows)[:, None] & has_channel[None, :]
        place = row[:, None] * channels + channel[None, :]
        value = tl.load(x + place, mask=here, other=0).to(tl.float32)
        gradient = tl.load(dy + place, mask=here, other=0).to(tl.float32)
        gradient = tl.where(value * scale[None, :] + shift[None, :] > 0, gradient, 0)
        total += gradient
        products += gradient * (value - middle[None, :])
    spread = tl.load(deviation + channel, mask=has_channel, other=0)
    out = parts + part * channels + channel
    tl.store(out, tl.sum(products, 0) * spread, mask=has_channel)
    tl.store(out + tl.num_programs(0) * channels, tl.sum(total, 0), mask=has_channel)


@triton.jit
def join_gradients(parts, dweight, dbias, channels, count, P: tl.constexpr, C: tl.constexpr):
    channel = tl.program_id(0) * C + tl.arange(0, C)
    here = channel < channels
    products, total = joined(parts, channel, here, channels, count, P, C)
    tl.store(dweight + channel, products, mask=here)
    tl.store(dbias + channel, total, mask=here)


@triton.jit
def through_norm(gradient, value, middle, spread, scale, dweight, dbias, channel, here, count):
    """The gradient before the batch norm: what comes, less its mean, less what follows the value itself."""
    mean_gradient = tl.load(dbias + channel, mask=here, other=0) / count
    slope = tl.load(dweight + channel, mask=here, other=0) * spread / count
    return scale[None, :] * (gradient - mean_gradient[None, :] - (value - middle[None, :]) * slope[None, :])


@triton.jit
def affine_gradient(
    x, dy, dx, mean, deviation, weight, bias, dweight, dbias, rows, channels, R: tl.constexpr, C: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    channel = tl.program_id(1) * C + tl.arange(0, C)
    has_channel = channel < channels
    scale, shift = scale_of(mean, deviation, weight, bias, channel, has_channel)
    middle = tl.load(mean + channel, mask=has_channel, other=0)
    spread = tl.load(deviation + channel, mask=has_channel, other=0)
    here = (row < rows)[:, None] & has_channel[None, :]
    place = row[:, None] * channels + channel[None, :]
    value = tl.load(x + place, mask=here, other=0).to(tl.float32)
    gradient = tl.load(dy + place, mask=here, other=0).to(tl.float32)
    gradient = tl.where(value * scale[None, :] + shift[None, :] > 0, gradient, 0)
    before = through_norm(gradient, value, middle, spread, scale, dweight, dbias, channel, has_channel, rows)
    tl.store(dx + place, before.to(dx.dtype.element_ty), mask=here)


@triton.jit
def pool_gradient(
    x, winner, where, dy, dx, mean, deviation, weight, bias, dweight, dbias, rows, channels, count,
    T, H, W, PT, PH, PW,
    WT: tl.constexpr, WH: tl.constexpr, WW: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * R + tl.arange(0, R)  # of the pooled map
    channel = tl.program_id(1) * C + tl.arange(0, C)
    has_channel = channel < channels
    scale, shift = scale_of(mean, deviation, weight, bias, channel, has_channel)
    middle = tl.load(mean + channel, mask=has_channel, other=0)
    spread = tl.load(deviation + channel, mask=has_channel, other=0)
    t, h, w = (row // PW // PH % PT) * WT, (row // PW % PH) * WH, (row % PW) * WW
    first = ((row // PW // PH // PT * T + t) * H + h) * W + w  # of the window, as a row of x
    here = (row < rows)[:, None] & has_channel[None, :]
    place = row.to(tl.int64)[:, None] * channels + channel[None, :]
    won = tl.load(winner + place, mask=here, other=0).to(tl.float32)
    gradient = tl.load(dy + place, mask=here, other=0).to(tl.float32)
    gradient = tl.where(won * scale[None, :] + shift[None, :] > 0, gradient, 0)
    number = tl.load(where + place, mask=here, other=0).to(tl.int32)
    for dt in tl.static_range(WT):
        for dh in tl.static_range(WH):
            for dw in tl.static_range(WW):
                inside = (row < rows) & (t + dt < T) & (h + dh < H) & (w + dw < W)
                here = inside[:, None] & has_channel[None, :]
                place = (first + (dt * H + dh) * W + dw).to(tl.int64)[:, None] * channels + channel[None, :]
                value = tl.load(x + place, mask=here, other=0).to(tl.float32)
                own = tl.where(number == (dt * WH + dh) * WW + dw, gradient, 0)
                before = through_norm(own, value, middle, spread, scale, dweight, dbias, channel, has_channel, count)
                tl.store(dx + place, before.to(dx.dtype.element_ty), mask=here)

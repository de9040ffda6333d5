"""Random numbers without a generator: each is a hash of a sample's seed and of what it is drawn for.

A generator's next number depends on how many were drawn before, hence on the batch, the device and the order of calls.
Here a draw depends on the sample's seed and a stream number alone, so row i of a batch is augmented alike whatever else
is in the batch, on the CPU and on a GPU, and a batch can be made again.

The hash is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA
2014). torch has no unsigned 64-bit arithmetic; int64 multiplication and addition wrap modulo 2**64 to the same bits.
"""

from __future__ import annotations

from torch import Tensor

#: Draws have this many random bits: all of them fit in a float32's mantissa, so a uniform number is exact everywhere.
_BITS = 24


def _signed(word: int) -> int:
    """The int64 that has the bits of an unsigned 64-bit word."""
    return word - (1 << 64) if word >= 1 << 63 else word


_GAMMA = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift; torch's own is arithmetic and would draw copies of the sign in."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def splitmix64(x: Tensor) -> Tensor:
    """The first output of SplitMix64 for each state in `x`, int64 in and out (bits of the unsigned word)."""
    x = x + _GAMMA
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def bits(seed: Tensor, stream: int | Tensor) -> Tensor:
    """`_BITS` random bits a seed, as int64. The seed is hashed first, so that seeds that count up do not meet the
    streams, which count up too.

    Several streams at once, (S, 1) for seeds (B,), give (S, B): on a GPU a draw is some fourteen kernels that do
    nothing but start, however many numbers they draw.
    """
    return _shift_right(splitmix64(splitmix64(seed) + stream), 64 - _BITS)


def to_uniform(drawn: Tensor, low: float, high: float) -> Tensor:
    """Uniform in [low, high): float32, from `bits` of any shape."""
    return drawn.float() * (2.0**-_BITS) * (high - low) + low


def to_integer(drawn: Tensor, bound: int | Tensor) -> Tensor:
    """Uniform in 0 … bound − 1 (int64) from `bits`; `bound`, one number or one a draw, is at least 1 and far below
    2**24."""
    return (drawn * bound) >> _BITS


def to_coin(drawn: Tensor) -> Tensor:
    """True for half of `bits` (bool)."""
    return to_integer(drawn, 2) == 1


def uniform(seed: Tensor, stream: int, low: float, high: float) -> Tensor:
    """One stream's `to_uniform`, of the shape of `seed` (int64)."""
    return to_uniform(bits(seed, stream), low, high)


def integer(seed: Tensor, stream: int, bound: int | Tensor) -> Tensor:
    """One stream's `to_integer`, of the shape of `seed`."""
    return to_integer(bits(seed, stream), bound)

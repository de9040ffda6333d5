"""Randomness as a function: the same numbers for the same coordinates, in any process, in any order.

Every draw is a 64-bit hash of a key and a counter. The mixing function is the finaliser of SplitMix64 (Steele, Lea and
Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, fig. 16).
"""

import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = (1 << 64) - 1
_WORD_GOLDEN, _WORD_FIRST, _WORD_SECOND = np.uint64(_GOLDEN), np.uint64(_FIRST), np.uint64(_SECOND)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


def _mix(x: NDArray[np.uint64]) -> None:
    """In place: a batch is so small that it is the number of numpy's calls that counts, and their allocations."""
    shifted = x >> _30
    x ^= shifted
    x *= _WORD_FIRST
    np.right_shift(x, _27, out=shifted)
    x ^= shifted
    x *= _WORD_SECOND
    np.right_shift(x, _31, out=shifted)
    x ^= shifted


def _mix_one(x: int) -> int:
    x = (x ^ (x >> 30)) * _FIRST & _MASK
    x = (x ^ (x >> 27)) * _SECOND & _MASK
    return x ^ (x >> 31)


def key(*parts: int | str) -> int:
    """A 64-bit key for a named stream of draws, such as ``key(seed, epoch, "pairs")``.

    Integers are taken modulo 2⁶⁴; strings name the purpose, so that two streams of one seed are independent.
    """
    state = 0
    for part in _as_integers(parts):
        state = _mix_one(((state ^ part) + _GOLDEN) & _MASK)
    return state


def _as_integers(parts: Iterable[int | str]) -> Iterable[int]:
    for part in parts:
        yield (zlib.crc32(part.encode()) | 1 << 32 if isinstance(part, str) else part) & _MASK


def bits(stream: int, counter: NDArray[np.int64]) -> NDArray[np.uint64]:
    """64 random bits for each counter of a stream. ``counter``: any shape; the result has the same."""
    word = np.uint64(stream)
    x = np.array(counter, np.uint64, ndmin=1)
    x *= _WORD_GOLDEN
    x += word
    _mix(x)
    x ^= word
    _mix(x)
    return x.reshape(np.shape(counter))


def uniform(stream: int, counter: NDArray[np.int64]) -> NDArray[np.float64]:
    """Numbers in [0, 1) with 53 random bits, one for each counter of a stream."""
    return (bits(stream, counter) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(limit: NDArray[np.int64], stream: int, counter: NDArray[np.int64]) -> NDArray[np.int64]:
    """Integers in [0, limit), one for each counter; ``limit`` ≥ 1 broadcasts against ``counter``.

    The bias of scaling 53 bits is at most limit / 2⁵³, about one in ten thousand for 10¹² clips.
    """
    return np.minimum((uniform(stream, counter) * limit).astype(np.int64), limit - 1)

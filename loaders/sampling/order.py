"""Which clip stands at which position of an epoch: a permutation that is computed, not stored.

`permute` is a keyed bijection of ``range(size)`` in constant memory: an unbalanced Feistel network over the smallest
power of two that holds the range, made exact by cycle walking (Black and Rogaway, "Ciphers with Arbitrary Finite
Domains", CT-RSA 2002, method 2). Its round function is the SplitMix64 finaliser of `loaders.sampling.randomness`. Under
two evaluations an index are needed on average, and any rank can ask for any position at any time.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from loaders.sampling import randomness


def permute(index: NDArray[np.int64], size: int, key: int) -> NDArray[np.int64]:
    """Where a keyed permutation of ``range(size)`` sends each index.

    Args:
        index: any shape, values in [0, size).
        size: 1 … 2⁶².
        key: 64 bits; another key gives another permutation.

    Returns:
        The same shape; over all of ``range(size)`` every value occurs exactly once.

    Raises:
        ValueError: an index or the size is out of range.
    """
    if not 1 <= size <= 1 << 62:
        raise ValueError(f"size must be in 1..2^62 (got {size=})")
    flat = np.asarray(index, np.int64).ravel()
    if flat.size and (flat.min() < 0 or flat.max() >= size):
        raise ValueError(f"indices must be in 0..{size - 1} (got {flat.min()}..{flat.max()})")
    if size == 1:
        return np.zeros(np.shape(index), np.int64)
    width = max(2, (size - 1).bit_length())
    round_keys = _round_keys(key, width)
    limit = np.uint64(size)
    out = _feistel(flat.view(np.uint64), width, round_keys)
    outside = np.flatnonzero(out >= limit)
    while outside.size:
        # An image outside the range is sent on until it falls inside: the walk stays on one cycle of a bijection, so
        # no two indices can meet.
        again = _feistel(out[outside], width, round_keys)
        out[outside] = again
        outside = outside[again >= limit]
    return out.view(np.int64).reshape(np.shape(index))


@lru_cache(maxsize=1024)
def _round_keys(key: int, width: int) -> tuple[int, ...]:
    # Six rounds mix halves of ten bits and more; narrow halves hash to few values, and need more rounds to mix as well.
    return tuple(randomness.key(key, width, r) for r in range(max(6, 26 - width)))


def _feistel(x: NDArray[np.uint64], width: int, round_keys: Sequence[int]) -> NDArray[np.uint64]:
    """A bijection of ``range(2**width)``: each round adds to one side a hash of the other, then swaps them."""
    low = width // 2
    high = width - low
    left, right = x >> np.uint64(low), x & np.uint64((1 << low) - 1)
    for round_key in round_keys:
        mixed = randomness.bits(round_key, right.view(np.int64))
        mixed &= np.uint64((1 << high) - 1)
        mixed ^= left
        left, right = right, mixed
        low, high = high, low
    return (left << np.uint64(low)) | right


def steps_per_epoch(clips: int, global_batch: int, *, drop_remainder: bool) -> int:
    """Steps every rank makes in an epoch; what does not fill a global batch is dropped, or makes a smaller last one."""
    return clips // global_batch if drop_remainder else -(-clips // global_batch)


def rank_positions(step: int, clips: int, global_batch: int, rank: int, world_size: int) -> NDArray[np.int64]:
    """The positions that a rank takes of a step's global batch, in order.

    The ranks' slices laid end to end are the global batch, whatever the number of ranks. A last, smaller global batch
    is shared out as evenly as can be; a rank may then get none.
    """
    first = step * global_batch
    size = min(global_batch, clips - first)
    return np.arange(first + size * rank // world_size, first + size * (rank + 1) // world_size, dtype=np.int64)

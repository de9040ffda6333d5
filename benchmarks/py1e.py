"""Mosaic Streaming's order py1e, from its published description; its own code where that is installed.

The description (docs.mosaicml.com, Streaming, "Shuffling", and the reference of ``get_shuffle_py1e``): the order of the
shards is drawn once for a run and again for each epoch, clips are shuffled within their shard, and then each clip is
moved by a uniform draw so that those of a shard spread over a range of at most one block, whose length varies by a
quarter up and down; nothing leaves the epoch at its ends. Here for one canonical node.
"""

from importlib import import_module
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray


def py1e(shards: NDArray[np.int64], block: int, epoch: int) -> NDArray[np.int64]:
    """An epoch's order.

    Args:
        shards: (S,) clips in each.
        block: clips over which a shard's spread, about.
        epoch: 0, 1, …

    Returns:
        (n,) clips, counted through the shards, in order.
    """
    if find_spec("streaming") is not None:
        order: NDArray[np.int64] = import_module("streaming.base.shuffle").get_shuffle_py1e(shards, 1, 0, epoch, block)
        return order
    return described(shards, block, epoch)


def described(shards: NDArray[np.int64], block: int, epoch: int) -> NDArray[np.int64]:
    """As `py1e`, by the description alone."""
    total = int(shards.sum())
    first = np.cumsum(shards) - shards
    draw = np.random.default_rng(epoch)
    clips, places = [], []
    start = 0
    for shard in np.random.default_rng(epoch).permutation(len(shards)).tolist():
        size = int(shards[shard])
        room = max(0.0, (block * draw.uniform(0.75, 1.25) - size) / 2)
        before, after = min(room, start), min(room, total - start - size)
        clips.append(first[shard] + draw.permutation(size))
        places.append(np.arange(start, start + size) + draw.uniform(-before, after, size))
        start += size
    order: NDArray[np.int64] = np.concatenate(clips)[np.argsort(np.concatenate(places), kind="stable")]
    return order

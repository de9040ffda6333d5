"""WebDataset in a torch DataLoader: shards split over the workers, a shuffle buffer, batches made in the workers.

Set up as in WebDataset's documentation ("Using WebDataset", its WebLoader): ``shardshuffle``, ``shuffle`` of the
encoded samples, ``map``, ``batched``, and a loader with ``batch_size=None``.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import webdataset

from benchmarks.peers.decode import Clip, Decoder, decoder_of, stack
from benchmarks.peers.served import SUFFIXES, Served, Task

_SHUFFLE = 100  # encoded samples


def batches(task: Task, decoder: Decoder) -> Iterator[Served]:
    """The clips, decoded by PyAV or torchcodec."""
    picture, sound = SUFFIXES[task.form]
    decode = decoder_of(task.form, decoder, task.prepared.facts, task.audio)
    dataset = (
        webdataset.WebDataset([str(path) for path in task.prepared.tars(task.form)], shardshuffle=100)
        .repeat()
        .shuffle(_SHUFFLE)
        .to_tuple("__key__", picture, sound)
        .map(partial(_decoded, decode))
        .batched(task.batch_size, collation_fn=_batch, partial=False)
    )
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=task.workers)
    for frames, audio, keys in loader:
        yield Served(frames, audio, keys, keys)


def _decoded(decode: Any, sample: tuple[str, bytes, bytes]) -> tuple[str, Clip]:
    key, picture, sound = sample
    return key, decode(picture, sound)


def _batch(samples: list[tuple[str, Clip]]) -> tuple[torch.Tensor, torch.Tensor | None, list[str]]:
    return *stack([clip for _, clip in samples]), [key for key, _ in samples]

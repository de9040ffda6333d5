"""LitData: chunks written by ``optimize``, read by StreamingDataset in a StreamingDataLoader.

Set up as in LitData's README ("Speed up model training"): ``chunk_bytes="64MB"``, ``shuffle=True``, the decoding in the
dataset's ``transform``.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import litdata
import torch

from benchmarks.peers.decode import Clip, decoder_of, stack
from benchmarks.peers.prepare import samples_of
from benchmarks.peers.served import Form, Prepared, Served, Task


def batches(task: Task) -> Iterator[Served]:
    """The clips, decoded by torchcodec (filmstrips by simplejpeg)."""
    dataset = litdata.StreamingDataset(
        str(task.prepared.of_peer("litdata", task.form)),
        shuffle=True,
        drop_last=True,
        transform=partial(_decoded, decoder_of(task.form, "torchcodec", task.prepared.facts, task.audio)),
    )
    loader = litdata.StreamingDataLoader(
        dataset, batch_size=task.batch_size, num_workers=task.workers, collate_fn=_batch, drop_last=True
    )
    while True:
        for frames, audio, keys in loader:
            yield Served(frames, audio, keys, keys)


def write(prepared: Prepared, form: Form, folder: Path) -> None:
    """A form in LitData's chunks."""
    litdata.optimize(
        fn=_same,
        inputs=list(samples_of(prepared, form)),
        output_dir=str(folder),
        chunk_bytes="64MB",
        num_workers=1,
        reorder_files=False,
        mode="overwrite",
        verbose=False,
    )
    written = len(litdata.StreamingDataset(str(folder)))
    if written != prepared.facts["clips"]:
        raise RuntimeError(f"LitData wrote {written} clips of {prepared.facts['clips']} to {folder}")


def _same(sample: dict[str, Any]) -> dict[str, Any]:
    return sample


def _decoded(decode: Any, sample: dict[str, Any]) -> tuple[str, Clip]:
    return sample["key"], decode(sample["picture"], sample["sound"])


def _batch(samples: list[tuple[str, Clip]]) -> tuple[torch.Tensor, torch.Tensor | None, list[str]]:
    return *stack([clip for _, clip in samples]), [key for key, _ in samples]

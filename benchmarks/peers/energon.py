"""Megatron-Energon: WebDataset shards with its own index, a TaskEncoder with a cooker, its savable loader.

Set up as in its documentation ("Crude Datasets", "Task Encoder", "Programmatic Data Preparation"): the cooker keeps the
encoded bytes, ``encode_sample`` decodes them, ``batch`` stacks, two workers.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from megatron.energon import (
    Cooker,
    DefaultTaskEncoder,
    Sample,
    WorkerConfig,
    basic_sample_keys,
    get_savable_loader,
    get_train_dataset,
    stateless,
)
from megatron.energon.flavors import BaseWebdatasetFactory

from benchmarks.peers.decode import decoder_of, stack
from benchmarks.peers.served import SUFFIXES, Form, Prepared, Served, Task

_SHUFFLE = 100  # encoded samples
_DATASET = """\
__module__: megatron.energon
__class__: CrudeWebdataset
"""


@dataclass
class _Encoded(Sample):
    picture: bytes
    sound: bytes


@dataclass
class _Clip(Sample):
    frames: torch.Tensor
    audio: torch.Tensor | None


class _Encoder(DefaultTaskEncoder):
    """Decodes with torchcodec (filmstrips with simplejpeg)."""

    decoder = None  # the members stay bytes

    def __init__(self, task: Task) -> None:
        super().__init__()
        picture, sound = SUFFIXES[task.form]

        @stateless
        def cook(sample: dict[str, Any]) -> _Encoded:
            return _Encoded(**basic_sample_keys(sample), picture=sample[picture], sound=sample[sound])

        self.cookers = [Cooker(cook)]
        self._decode = decoder_of(task.form, "torchcodec", task.prepared.facts, task.audio)

    @stateless
    def encode_sample(self, sample: _Encoded) -> _Clip:
        frames, audio = self._decode(sample.picture, sample.sound)
        clip: _Clip = _Clip.derive_from(sample, frames=frames, audio=audio)
        return clip

    @stateless
    def batch(self, samples: list[_Clip]) -> tuple[torch.Tensor, torch.Tensor | None, list[str]]:
        keys = [sample.__key__.rsplit("/", 1)[-1] for sample in samples]
        return *stack([(sample.frames, sample.audio) for sample in samples]), keys


def batches(task: Task) -> Iterator[Served]:
    """The clips."""
    workers = WorkerConfig(rank=0, world_size=1, num_workers=task.workers)
    dataset = get_train_dataset(
        str(task.prepared.of_peer("energon", task.form)),
        batch_size=task.batch_size,
        batch_drop_last=True,
        shuffle_buffer_size=_SHUFFLE,
        max_samples_per_sequence=100,
        worker_config=workers,
        task_encoder=_Encoder(task),
    )
    for frames, audio, keys in get_savable_loader(dataset):
        yield Served(frames, audio, keys, keys)


def write(prepared: Prepared, form: Form, folder: Path) -> None:
    """The form's tars, linked, with Energon's index beside them."""
    tars = prepared.tars(form)
    for path in tars:
        os.link(path, folder / path.name)
    BaseWebdatasetFactory.prepare_dataset(
        folder,
        [path.name for path in tars],
        split_parts_ratio=[("train", 1.0), ("val", 0.0), ("test", 0.0)],
        shuffle_seed=None,
        workers=1,
    )
    (folder / ".nv-meta" / "dataset.yaml").write_text(_DATASET)

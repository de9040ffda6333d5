"""Mosaic Streaming: MDS shards in a torch DataLoader.

Set up as in its documentation ("Quick Start"): MDSWriter, a subclass of StreamingDataset whose ``__getitem__`` decodes,
``batch_size`` told to it, ``shuffle=True``.
"""

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from benchmarks.peers.decode import Clip, decoder_of, stack
from benchmarks.peers.prepare import samples_of
from benchmarks.peers.served import Form, Prepared, Served, Task


def _without_torchvision() -> None:
    """Let ``import streaming`` pass where torchvision is built for another torch than there is.

    The package's ready-made picture datasets derive from torchvision's; nothing else does, and none is used here. On
    PyPI torchvision links CUDA, and beside a torch without CUDA its import fails.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, OSError):
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        root, parts = ModuleType("torchvision"), {}
        for part, names in {
            "datasets": ("VisionDataset",),
            "datasets.folder": (),
            "transforms": (),
            "transforms.functional": ("to_tensor",),
        }.items():
            parts[part] = sys.modules[f"torchvision.{part}"] = ModuleType(f"torchvision.{part}")
            for attribute in names:
                setattr(parts[part], attribute, type(attribute, (), {}))
        root.datasets, root.transforms = parts["datasets"], parts["transforms"]  # type: ignore[attr-defined]
        parts["transforms"].functional = parts["transforms.functional"]  # type: ignore[attr-defined]
        root.__spec__ = ModuleSpec("torchvision", None)  # others only ask whether it is there
        sys.modules["torchvision"] = root


_without_torchvision()

import streaming  # noqa: E402


class _Clips(streaming.StreamingDataset):
    def __init__(self, task: Task) -> None:
        folder = task.prepared.of_peer("mosaic", task.form)
        super().__init__(local=str(folder), batch_size=task.batch_size, shuffle=True)
        self._decode = decoder_of(task.form, "torchcodec", task.prepared.facts, task.audio)

    def __getitem__(self, at: int) -> tuple[str, Clip]:
        sample = super().__getitem__(at)
        return sample["key"], self._decode(sample["picture"], sample["sound"])


def batches(task: Task) -> Iterator[Served]:
    """The clips, decoded by torchcodec (filmstrips by simplejpeg)."""
    streaming.base.util.clean_stale_shared_memory()
    loader: Any = torch.utils.data.DataLoader(
        _Clips(task), batch_size=task.batch_size, num_workers=task.workers, collate_fn=_batch, drop_last=True
    )
    while True:
        for frames, audio, keys in loader:
            yield Served(frames, audio, keys, keys)


def write(prepared: Prepared, form: Form, folder: Path) -> None:
    """A form as MDS shards."""
    columns = {"key": "str", "picture": "bytes", "sound": "bytes"}
    with streaming.MDSWriter(out=str(folder), columns=columns, exist_ok=True) as out:
        for sample in samples_of(prepared, form):
            out.write(sample)


def _batch(samples: list[tuple[str, Clip]]) -> tuple[torch.Tensor, torch.Tensor | None, list[Any]]:
    return *stack([clip for _, clip in samples]), [key for key, _ in samples]

"""This project's ClipLoader: shuffled, half of the sounds those of other videos.

On a CPU with ``cpu_decoder`` "auto", the default, or "dali". On a GPU with any ``placement``.
"""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import torch

from benchmarks.peers.served import Served, Task
from loaders import ClipLoader


def batches(task: Task, threads: int | None = None, **options: Any) -> Iterator[Served]:
    """The clips."""
    options = {"device": task.device, "threads": threads or task.workers, **options}
    with ClipLoader(task.prepared.dataset, batch_size=task.batch_size, audio=task.audio, **options) as loader:
        names = loader.catalogs[0].table(["key"])["key"].to_pylist()
        while True:
            for batch in loader:
                audio = batch.audio if task.audio else None
                yield Served(batch.video, audio, _Keys(names, batch.clip), _Keys(names, batch.audio_clip))


class _Keys(Sequence[str]):
    """Of rows that may lie on a GPU: looked at only where somebody asks, for that waits for the GPU."""

    def __init__(self, names: list[str], rows: torch.Tensor) -> None:
        self._names, self._rows = names, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self._names[row] for row in self._rows[index].tolist()]
        return self._names[int(self._rows[index])]

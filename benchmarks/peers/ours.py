"""This project's ClipLoader: shuffled, half of the sounds those of other videos.

With ``cpu_decoder`` "auto", the default, or "dali".
"""

from collections.abc import Iterator

from benchmarks.peers.served import Served, Task
from loaders import ClipLoader


def batches(task: Task, cpu_decoder: str = "auto") -> Iterator[Served]:
    """The clips."""
    with ClipLoader(
        task.prepared.dataset,
        batch_size=task.batch_size,
        threads=task.workers,
        audio=task.audio,
        cpu_decoder=cpu_decoder,
    ) as loader:
        keys = loader.catalogs[0].table(["key"])["key"].to_pylist()
        while True:
            for batch in loader:
                frames, sounds = ([keys[row] for row in rows.tolist()] for rows in (batch.clip, batch.audio_clip))
                yield Served(batch.video, batch.audio if task.audio else None, frames, sounds)

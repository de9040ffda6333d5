"""DALI's own webdataset reader on our shards, in a pipeline as its documentation has it.

``fn.readers.webdataset`` with our .idx files, ``fn.decoders.image`` and ``fn.decoders.audio``, DALIGenericIterator, as
many threads as cores, everything else at its default. Video codecs that its CPU decoder lacks (H.264) are not offered.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.plugin.pytorch import DALIGenericIterator, LastBatchPolicy

from benchmarks.peers.served import Served, Task


def batches(task: Task) -> Iterator[Served]:
    """The clips."""
    facts = task.prepared.facts
    tars = task.prepared.tars(task.form)
    keys = keys_in_order(task)

    on_gpu = task.device == "cuda"

    @pipeline_def(batch_size=task.batch_size, num_threads=task.workers, device_id=0 if on_gpu else None)  # type: ignore[untyped-decorator]
    def graph() -> tuple[object, ...]:
        # The reader does not tell which sample it gives: the description of the clip does.
        read: Any = fn.readers.webdataset(
            paths=[str(path) for path in tars],
            index_paths=[str(path.with_suffix(".idx")) for path in tars],
            ext=["filmstrip.jpg", "audio.wav", "clip.msg"],
            random_shuffle=True,
            initial_fill=4 * task.batch_size,
            missing_component_behavior="error",
            name="reader",
        )
        picture, sound, described = read
        frames = fn.decoders.image(picture, device="mixed" if on_gpu else "cpu", output_type=types.RGB)
        described = fn.pad(described)
        if not task.audio:
            return frames, described
        waveform, _ = fn.decoders.audio(sound, dtype=types.FLOAT, downmix=True)
        return frames, described, waveform.gpu() if on_gpu else waveform

    names = ["frames", "described", *(["audio"] if task.audio else [])]
    shape = (-1, facts["frames"], facts["size"], facts["size"], 3)
    while True:
        loader = DALIGenericIterator(
            [graph()], names, reader_name="reader", last_batch_policy=LastBatchPolicy.DROP, auto_reset=True
        )
        for _ in iter(int, 1):
            for (batch,) in loader:
                found = [keys[_unpadded(row)] for row in batch["described"].numpy()]
                yield Served(batch["frames"].view(shape), batch.get("audio"), found, found)


def keys_in_order(task: Task) -> dict[bytes, str]:
    """Key of each clip by its description's bytes, which are unlike any other's."""
    import tarfile

    found = {}
    for path in task.prepared.tars("filmstrip"):
        with tarfile.open(path) as tar:
            for entry in tar:
                key, suffix = entry.name.split(".", 1)
                if suffix == "clip.msg":
                    found[tar.extractfile(entry).read().rstrip(b"\0")] = key  # type: ignore[union-attr]
    return found


def _unpadded(row: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> bytes:
    return row.tobytes().rstrip(b"\0")

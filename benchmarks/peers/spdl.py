"""SPDL: one process, a pipeline of stages in threads that release the GIL.

Set up as in SPDL's documentation (PipelineBuilder; "Video dataloading"; the tar benchmark): tars parsed by
``iter_tarfile``, clips demuxed and decoded in a thread pool, ``aggregate`` into batches, frames of a batch converted
into one buffer at a time.
"""

import itertools
import json
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import spdl.io
import torch
from spdl.pipeline import PipelineBuilder

from benchmarks.peers.served import SUFFIXES, Served, Task

Sample = tuple[str, bytes, bytes]


def batches(task: Task) -> Iterator[Served]:
    """The clips."""
    facts = task.prepared.facts
    shape = (-1, facts["frames"], facts["size"], facts["size"], 3)

    def decode(sample: Sample) -> tuple[str, Any, Any]:
        key, picture, sound = sample
        if task.form == "source":
            begin = float(json.loads(sound))
            window = (begin, begin + facts["frames"] / facts["fps"])
            packets = spdl.io.demux_video(picture, timestamp=window)
            frames = spdl.io.decode_packets(packets, filter_desc=_on_clock(window, facts))
            audio = None
            if task.audio:
                heard = spdl.io.demux_audio(picture, timestamp=window)
                wanted = spdl.io.get_audio_filter_desc(
                    timestamp=window, sample_rate=facts["sample_rate"], num_channels=1, num_frames=facts["samples"]
                )
                audio = spdl.io.to_numpy(spdl.io.convert_frames(spdl.io.decode_packets(heard, filter_desc=wanted)))
            return key, frames, audio
        demux = spdl.io.demux_image if task.form == "filmstrip" else spdl.io.demux_video
        audio = spdl.io.load_wav(sound) if task.audio else None
        return key, spdl.io.decode_packets(demux(picture)), audio

    def convert(clips: list[tuple[str, Any, Any]]) -> Served:
        keys = [key for key, _, _ in clips]
        video = spdl.io.to_torch(spdl.io.convert_frames([frames for _, frames, _ in clips])).view(shape)
        return Served(video, sounds_of([audio for _, _, audio in clips], facts) if task.audio else None, keys, keys)

    yield from piped(task, decode, convert)


def piped(task: Task, decode: Callable[[Sample], Any], convert: Callable[[list[Any]], Served]) -> Iterator[Served]:
    """The form's samples decoded by ``task.workers`` threads, and made into batches."""
    pipeline = (
        PipelineBuilder()
        .add_source(samples(task))
        .pipe(decode, concurrency=task.workers)
        .aggregate(task.batch_size, drop_last=True)
        .pipe(convert)
        .add_sink(2)
        .build(num_threads=task.workers)
    )
    with pipeline.auto_stop():
        yield from pipeline


def samples(task: Task) -> Iterator[Sample]:
    """The form's samples without end, shards in random order."""
    picture, sound = SUFFIXES[task.form]
    tars = task.prepared.tars(task.form)
    draw = random.Random(0)
    for _ in itertools.count():
        for path in draw.sample(tars, len(tars)):
            with path.open("rb") as file:
                yield from grouped(spdl.io.iter_tarfile(file), picture, sound)


def grouped(files: Iterable[tuple[str, bytes]], picture: str, sound: str) -> Iterator[Sample]:
    """The two wanted members of each sample of a WebDataset shard."""
    found: dict[str, bytes] = {}
    for name, data in files:
        key, suffix = name.split(".", 1)
        if suffix in (picture, sound):
            found[suffix] = data
        if len(found) == 2:
            yield key, found[picture], found[sound]
            found = {}


def _on_clock(window: tuple[float, float], facts: dict[str, Any]) -> str:
    # FFmpeg's fps filter with round=up shows at each tick the last picture that has begun by then.
    begin, end = window
    clock = f"fps=fps={facts['fps']}:round=up:start_time={begin}"
    return f"trim=start={begin}:end={end},{clock},trim=end_frame={facts['frames']},format=pix_fmts=rgb24"


def sounds_of(sounds: list[Any], facts: dict[str, Any]) -> torch.Tensor:
    """A batch of waveforms, (B, samples) float32, of arrays of a clip each."""
    out = torch.zeros(len(sounds), facts["samples"])
    for row, sound in zip(out, sounds, strict=True):
        samples = np.asarray(sound).reshape(-1)[: len(row)]
        row[: len(samples)] = torch.from_numpy(samples.astype(np.float32))
        if samples.dtype == np.int16:
            row /= 32768
    return out

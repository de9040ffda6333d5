r"""Clips a second that are read, without decoding: the order, the pairs, reads, checks and copies.

    python benchmarks/reading.py --data DATA \
        --json benchmarks/results/reading.json --plot benchmarks/results/reading.png

The loader's reader on one and several threads, beside the simple way (`benchmarks.peers.mapped`) on one, in turn:
frames alone, with sound up to its bytes, and with sound up to its samples. Batches are held as long as a loader holds
them. Some sides read beside a consumer that has the interpreter's lock half of the time.

The clips are copies of those of ``data``, written in large blocks and in the page cache: what the disk does is not
measured. How large the pieces are in which the page cache holds a shard decides much: see ``--scattered``.
"""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # not benchmarks/: its loaders.py and train.py would hide the packages of these names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from benchmarks.figures import save, style
from benchmarks.peers.mapped import MappedReader
from benchmarks.peers.prepare import copies_of, read_originals, repeat_dataset
from benchmarks.record import (
    Figures,
    Record,
    machine,
    median_ratio,
    read_settings,
    scratch_folder,
    show_ratios,
    show_rounds,
    take_turns,
    write_record,
)
from loaders.dataset.catalog import Catalog
from loaders.dataset.dataset import Dataset
from loaders.decode.wav import waveforms_into
from loaders.errors import InputError, reported
from loaders.processes.pool import ReadingProcesses
from loaders.reader import Reader
from loaders.sampling.examples import Sampler
from loaders.sampling.order import rank_positions
from loaders.threads.buffers import Buffers
from loaders.threads.handoff import ClosedError
from loaders.threads.turns import Turns

FIGURES = ("clips_a_second", "processor_us_a_clip")
_MEMBERS = ("filmstrip", "audio", "gaze")
_OTHER_VIDEO = {"other_video": 1.0}
_CHUNK = 1 << 22  # bytes
_TURN = 0.001  # seconds that the busy consumer has the lock, or sleeps


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is measured."""

    data: Path
    """A built dataset with WAV sound."""
    split: str = "train"
    """The part of it that is copied."""
    clips: int = 2001
    """Copies at least."""
    batch_size: int = 128
    """Clips a step."""
    frames: int | None = None
    """Of a clip, cut out as for a decoder, a window of so many; by default all, which the mapped sides always read."""
    held: int = 6
    """Batches held at a time: those that are read, in decoding, and decoded."""
    threads: tuple[int, ...] = (1, 2, 4)
    """Threads that read."""
    processes: tuple[int, ...] = (1, 2)
    """Processes that read, for as many threads."""
    rounds: int = 7
    """Turns of every side."""
    seconds: float = 1.0
    """Of a turn."""
    scattered: bool = False
    """Bring the shards into the page cache from the disk, clip by clip, in small pieces; otherwise as was written."""
    folder: Path | None = None
    """Where the copies are made, and removed again; by default the system's folder for temporary files."""
    json: Path | None = None
    """Where the record is written."""
    plot: Path | None = None
    """Where the plot is written (PNG)."""


def main() -> None:
    """The command line."""
    settings = read_settings(Settings, __doc__)
    with reported():
        before = machine()
        with scratch_folder(settings.folder, "reading-") as folder:
            record = measure(settings, folder / "dataset")
        show_rounds("reading", record.rounds, FIGURES)
        show_ratios(record.ratios)
        if settings.json is not None:
            write_record(settings.json, record, before)
        if settings.plot is not None:
            plot(record, settings.plot)


#: what is read → whether there is sound, whether its samples are made
KINDS = {"frames alone": (False, False), "with sound, bytes": (True, False), "with sound, samples": (True, True)}


def measure(settings: Settings, folder: Path) -> Record:
    """Make the copies in ``folder``, which is not there yet, and measure."""
    dataset = Dataset.open(settings.data)
    manifest = dataset.manifest
    sound = manifest.member("audio")
    if sound is None or sound.extension != "wav":
        raise InputError(f"{settings.data}: its audio is no wav: build a dataset with --audio-format wav")
    for name, numbers in (("threads", settings.threads), ("processes", settings.processes)):
        if min(numbers, default=1) < 1:
            raise InputError(f"{name} is {numbers}: use numbers of 1 or more")
    originals = read_originals(dataset, settings.split)
    repeat_dataset(originals, copies_of(len(originals), settings.clips), manifest, folder)
    catalog = Dataset.open(folder).catalog("train", [name for name in _MEMBERS if manifest.member(name) is not None])
    if len(catalog) < settings.batch_size:
        raise InputError(f"clips is {settings.clips}, fewer than batch_size {settings.batch_size}: give more")
    settle(catalog, scattered=settings.scattered)
    sides: dict[str, Side] = {}
    readers = {_several(number, "thread"): partial(Side, threads=number) for number in settings.threads}
    for number in settings.processes:
        readers[_several(number, "process")] = partial(Side, threads=number, processes=True)
    for kind, (audio, samples) in KINDS.items():
        sides[f"mapped, {kind}"] = Side(catalog, settings, mapped=True, audio=audio, samples=samples)
        for name, reader in readers.items():
            sides[f"{name}, {kind}"] = reader(catalog, settings, audio=audio, samples=samples)
    for name, reader in readers.items():
        sides[f"{name}, with sound, bytes, busy consumer"] = reader(catalog, settings, audio=True, busy=True)
    try:
        rounds = take_turns(sides, settings.rounds)
    finally:
        for side in sides.values():
            side.close()
    ratios = {}
    for kind in KINDS:
        for name in readers:
            one, other = f"{name}, {kind}", f"mapped, {kind}"
            for figure in FIGURES:
                ratios[f"{one} / mapped: {figure}"] = median_ratio(rounds, figure, one, other)
    size = sum(int(extent.size.sum()) for extent in catalog.members.values()) / len(catalog)
    facts = {"clips": len(catalog), "bytes_a_clip": size}
    described = {**asdict(settings), "data": settings.data.name}  # where it lies is nobody else's affair
    return Record(benchmark="reading", settings=described, rounds=rounds, ratios=ratios, facts=facts)


def _several(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}{'es' if what.endswith('s') else 's'}"


def settle(catalog: Catalog, *, scattered: bool) -> None:
    """Bring the shards into the page cache: in one piece after the other, or clip by clip, in no order."""
    for number, shard in enumerate(catalog.manifest.splits[catalog.split].shards):
        path = catalog.folder / shard.name
        descriptor = os.open(path, os.O_RDONLY)
        try:
            if scattered:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                extent = catalog.members["filmstrip"]
                for row in np.random.default_rng(0).permutation(np.flatnonzero(catalog.shard == number)).tolist():
                    os.pread(descriptor, int(extent.size[row]), int(extent.offset[row]))
            while os.read(descriptor, _CHUNK):
                pass
        finally:
            os.close(descriptor)


class Side:
    """One way to read, measured for a while at each call."""

    def __init__(
        self,
        catalog: Catalog,
        settings: Settings,
        *,
        mapped: bool = False,
        threads: int = 1,
        processes: bool = False,
        audio: bool,
        samples: bool = False,
        busy: bool = False,
    ) -> None:
        frames = (None if mapped else settings.frames) or catalog.manifest.clip.frames
        sampler = Sampler(catalog, seed=0, training=True, frames=frames, negatives=_OTHER_VIDEO)
        positions = partial(rank_positions, clips=len(catalog), global_batch=settings.batch_size, rank=0, world_size=1)
        self._settings, self._threads, self._busy, self._samples = settings, threads, busy, samples
        self._steps = len(catalog) // settings.batch_size
        self._held: deque[Any] = deque(maxlen=settings.held)
        self._waves = Buffers((catalog.manifest.clip.samples,), np.float32)
        self._place = (0, 0)
        self._mapped = MappedReader(catalog, sampler, positions, audio=audio, waveforms=samples) if mapped else None
        self._processes = ReadingProcesses() if processes else None
        self._reader = Reader([catalog], sampler, positions, 0.0, audio=audio, processes=self._processes)

    def __call__(self) -> Figures:
        """Clips a second, and the processes' time a clip; the busy consumer's own is not counted."""
        done, consumed = threading.Event(), [0.0]
        consumer = threading.Thread(target=_consume, args=(done, consumed), daemon=True)
        if self._busy:
            consumer.start()
        self._read(lambda steps: steps >= self._settings.held + 2 * self._threads)  # until the memory is used again
        before = consumed[0]
        start, processor = time.perf_counter(), self._processor_seconds()
        steps = self._read(lambda done: done > 0 and time.perf_counter() >= start + self._settings.seconds)
        seconds, processor = time.perf_counter() - start, self._processor_seconds() - processor
        done.set()
        if self._busy:
            consumer.join()
            processor -= consumed[0] - before
        self._held.clear()
        clips = steps * self._settings.batch_size
        return {"clips_a_second": clips / seconds, "processor_us_a_clip": 1e6 * processor / clips}

    def close(self) -> None:
        """Let the shards go, and end the processes."""
        self._reader.close()

    def _processor_seconds(self) -> float:
        return time.process_time() + (0.0 if self._processes is None else self._processes.processor_seconds)

    def _next(self) -> tuple[int, int]:
        epoch, step = self._place
        self._place = (epoch, step + 1) if step + 1 < self._steps else (epoch + 1, 0)
        return epoch, step

    def _read(self, enough: Callable[[int], bool]) -> int:
        steps = 0
        if self._mapped is not None:
            while not enough(steps):
                self._held.append(self._mapped.read(*self._next()))
                steps += 1
            return steps
        turns, counted, errors = Turns(), [0], list[BaseException]()
        workers = [
            threading.Thread(target=self._work, args=(turns, enough, counted, errors)) for _ in range(self._threads)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if errors:
            raise errors[0]
        return counted[0]

    def _work(
        self, turns: Turns, enough: Callable[[int], bool], counted: list[int], errors: list[BaseException]
    ) -> None:
        """As the threads of `loaders.stream`, into a queue that never fills."""
        try:
            while not enough(counted[0]):
                with turns.beginning() as number:
                    drawn = self._reader.draw(*self._next(), partial(turns.wait_for, number))
                drawn = self._reader.load(drawn)
                waves = None
                if self._samples and drawn.rows is not None:
                    waves = self._waves.lend(len(drawn.rows))
                    waveforms_into(drawn.rows.samples, np.zeros(len(waves), np.int64), waves)
                turns.wait_for(number)
                self._held.append((self._reader.finish(drawn), waves))
                del drawn, waves
                counted[0] += 1
                turns.done()
        except ClosedError:
            pass
        except BaseException as error:
            errors.append(error)
            turns.end()


def _consume(done: threading.Event, consumed: list[float]) -> None:
    """Hold the interpreter's lock half of the time."""
    while not done.is_set():
        until = time.perf_counter() + _TURN
        while time.perf_counter() < until:
            pass
        consumed[0] = time.thread_time()
        time.sleep(_TURN)


def plot(record: Record, path: Path) -> None:
    """Rates of all sides; PNG."""
    style()
    from matplotlib import pyplot as plt

    names: Sequence[str] = list(record.rounds)[::-1]
    figure, axes = plt.subplots(1, 2, figsize=(9, 0.28 * len(names) + 1.2), sharey=True)
    for axis, name in zip(axes, FIGURES, strict=True):
        axis.barh(names, [record.median(side, name) for side in names])
        axis.set_xlabel(name.replace("_", " "))
        axis.locator_params(axis="x", nbins=4)
    save(figure, path)


if __name__ == "__main__":
    main()

r"""Clips a second of which only some frames are decoded, beside whole clips, with restart markers and without.

    python benchmarks/windows.py --data DATA --unmarked UNMARKED --json benchmarks/results/windows.json

``data`` is built with restart markers, ``unmarked``, which may be left away, of the same source with
``--no-restart-markers``. Both are repeated
until there are enough clips, and lie in the page cache. A side is a loader of its own, made for each turn; the sides
take turns, frames alone and with sound.
"""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

if __name__ == "__main__":  # not benchmarks/: its loaders.py and train.py would hide the packages of these names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from benchmarks.peers.prepare import copies_of, read_originals, repeat_dataset
from benchmarks.peers.processes import cpu_seconds
from benchmarks.reading import settle
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
from loaders import Batch, ClipLoader
from loaders.dataset.dataset import Dataset
from loaders.dataset.manifest import ClipFormat
from loaders.errors import InputError, reported

FIGURES = ("clips_a_second", "processor_us_a_clip")
WHOLE, UNMARKED = "whole", "whole, without markers"
KINDS = {"frames alone": False, "with sound": True}  #: whether there is sound
# Before a turn is timed: as many batches as are read and decoded ahead, and more; and where processes may read, for so
# long that each has had all memory to read to, for at first it has to map it.
_AHEAD, _SECONDS_AHEAD = 8, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is measured."""

    data: Path
    """A built dataset with restart markers."""
    unmarked: Path | None = None
    """The same clips without; where it is not given, sides with markers alone are measured."""
    split: str = "train"
    """The part of them that is repeated."""
    clips: int = 2000
    """Clips of a turn, and copies at least."""
    batch_size: int = 32
    """Clips a batch."""
    device: str = "cpu"
    """Where batches lie: cpu or cuda."""
    placement: Literal["auto", "gpu", "cpu"] = "auto"
    """What decodes for a GPU."""
    threads: int | None = None
    """Threads that decode; by default the cores."""
    reading_threads: int | None = None
    """Threads that read, check and cut; by default as the loader has it."""
    readers: Literal["auto", "threads", "processes"] = "auto"
    """What these are."""
    rounds: int = 5
    """Turns of every side."""
    folder: Path | None = None
    """Where the copies are made, and removed again; by default the system's folder for temporary files."""
    json: Path | None = None
    """Where the record is written."""


def main() -> None:
    """The command line."""
    settings = read_settings(Settings, __doc__)
    with reported():
        before = machine()
        with scratch_folder(settings.folder, "windows-") as folder:
            record = measure(settings, folder)
        show_rounds("windows", record.rounds, FIGURES)
        show_ratios(record.ratios)
        if settings.json is not None:
            write_record(settings.json, record, before)


def sides_of(clip: ClipFormat) -> dict[str, tuple[bool, dict[str, Any]]]:
    """Side → whether its clips have markers, and the loader's options.

    Raises:
        InputError: clips have too few frames.
    """
    frames, half, quarter = clip.frames, clip.frames // 2, clip.frames // 4
    if quarter < 1 or frames % 4:
        raise InputError(f"clips have {frames} frames: use datasets with a multiple of 4")
    return {
        UNMARKED: (False, {}),
        WHOLE: (True, {}),
        f"{half} of {frames}": (True, {"frames": half}),
        f"{half} of {frames}, stride 2": (True, {"frames": half, "stride": 2}),
        f"{half} of {frames}, random": (True, {"frames": half, "sample": "random"}),
        f"{half} of {frames}, without markers": (False, {"frames": half}),
        f"{quarter} of {frames}": (True, {"frames": quarter}),
    }


def measure(settings: Settings, folder: Path) -> Record:
    """Make the copies in ``folder`` and measure.

    Raises:
        InputError: the datasets are not the same clips with markers and without.
    """
    datasets = {True: Dataset.open(settings.data)}
    if settings.unmarked is not None:
        datasets[False] = Dataset.open(settings.unmarked)
    clips = {marked: dataset.manifest.clip for marked, dataset in datasets.items()}
    for marked, dataset in datasets.items():
        if clips[marked].addressable != marked:
            wanted = "--restart-markers" if marked else "--no-restart-markers"
            raise InputError(f"{dataset}: its clips are {clips[marked]}: give a dataset built with {wanted}")
    places, sizes = {}, {}
    for marked, dataset in datasets.items():
        originals = read_originals(dataset, settings.split)
        place = folder / ("marked" if marked else "unmarked")
        repeat_dataset(originals, copies_of(len(originals), settings.clips), dataset.manifest, place)
        catalog = Dataset.open(place).catalog("train", ["filmstrip"])
        settle(catalog, scattered=False)
        places[marked], sizes[marked] = place, int(catalog.members["filmstrip"].size.sum()) / len(catalog)
        keys = catalog.table(["key"])["key"].to_pylist()
        if (
            marked is False
            and keys != Dataset.open(places[True]).catalog("train", []).table(["key"])["key"].to_pylist()
        ):
            raise InputError(f"{settings.unmarked}: not the clips of {settings.data}: build both of one source")
    ways = {name: way for name, way in sides_of(clips[True]).items() if way[0] in datasets}
    sides = {
        f"{name}, {kind}": partial(turn, settings, places[marked], {**options, "audio": audio})
        for kind, audio in KINDS.items()
        for name, (marked, options) in ways.items()
    }
    rounds = take_turns(sides, settings.rounds)
    ratios = {}
    for kind in KINDS:
        pairs = [(WHOLE, UNMARKED)] if UNMARKED in ways else []
        pairs += [(name, WHOLE) for name in ways if name not in (WHOLE, UNMARKED)]
        for one, other in pairs:
            name = f"{one} / {other}, {kind}"
            ratios[name] = median_ratio(rounds, FIGURES[0], f"{one}, {kind}", f"{other}, {kind}")
    facts = {
        **({"bytes a filmstrip, without markers": sizes[False]} if False in sizes else {}),
        "bytes a filmstrip, with": sizes[True],
        "cores": len(os.sched_getaffinity(0)),
    }
    described = {
        **asdict(settings),
        "data": settings.data.name,
        "unmarked": settings.unmarked and settings.unmarked.name,
    }
    name = "windows" if torch.device(settings.device).type == "cpu" else "windows_gpu"
    return Record(benchmark=name, settings=described, rounds=rounds, ratios=ratios, facts=facts)


def turn(settings: Settings, dataset: Path, options: dict[str, Any]) -> Figures:
    """A loader's clips a second once its queues are full, and the time of its process and of those that read a clip."""
    with ClipLoader(
        dataset,
        "train",
        batch_size=settings.batch_size,
        device=settings.device,
        placement=settings.placement,
        threads=settings.threads,
        reading_threads=settings.reading_threads,
        readers=settings.readers,
        **options,
    ) as loader:
        batches = _endless(loader)
        taken, clips = 0, 0
        may_be_processes = loader.device.type == "cuda" or settings.readers == "processes"
        until = time.perf_counter() + (_SECONDS_AHEAD if may_be_processes else 0.0)
        while taken < _AHEAD or time.perf_counter() < until:
            batch = next(batches)
            taken += 1
        _settled(loader)
        start, processor = time.perf_counter(), cpu_seconds()
        while clips < settings.clips:
            batch = next(batches)
            clips += len(batch)
        del batch
        _settled(loader)
        seconds, processor = time.perf_counter() - start, cpu_seconds() - processor
    return {"clips_a_second": clips / seconds, "processor_us_a_clip": 1e6 * processor / clips}


def _endless(loader: ClipLoader) -> Iterator[Batch]:
    while True:
        yield from loader


def _settled(loader: ClipLoader) -> None:
    if loader.device.type == "cuda":
        torch.cuda.synchronize(loader.device)


if __name__ == "__main__":
    main()

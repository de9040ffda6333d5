"""Steps a second of real training: with the loader, and with the same batches already in memory.

    python benchmarks/train.py --data DATASET --preset tiny --device cpu --json FILE --plot FILE

Both sides run the very step that train.py runs (`train.pretrain_step`, `train.advance`) on a network and an optimiser
of their own, in turn. The share of time lost to data is told twice: by the clock, as what a step takes longer with the
loader than without, and by the loader's own count of seconds in which the training waited. The first includes what its
threads take from the training's cores; the second does not.
"""

import itertools
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

if __name__ == "__main__":  # not benchmarks/: its loaders.py and train.py would hide the packages of these names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
import tyro
from accelerate import Accelerator
from accelerate.utils import set_seed

import train
from benchmarks.figures import save, style
from benchmarks.record import Figures, Record, machine, median_ratio, show_ratios, show_rounds, take_turns, write_record
from loaders import Batch, ClipLoader
from loaders.dataset import read_manifest
from loaders.errors import InputError, reported
from models.presets import correspondence_net


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is trained."""

    data: Path
    """A dataset built by sharding/build.py."""
    preset: Literal["full", "tiny"] = "tiny"
    """Sizes of the networks, as for train.py."""
    model: Literal["l3", "ave"] = "l3"
    """Which correspondence network."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where it is trained, and the clips decoded."""
    batch_size: int = 32
    """Clips a step."""
    steps: int = 20
    """Steps a side and round."""
    rounds: int = 5
    """How often each side is measured."""
    in_memory: int = 4
    """Different batches that the side without a loader takes in turn."""
    loader_threads: int | None = None
    """Threads that decode; by default as many as there are cores."""
    json: Path | None = None
    """Where the record is written."""
    plot: Path | None = None
    """Where the plot is written (PNG)."""


FIGURES = ("steps_a_second", "clips_a_second", "waited_percent")


def main() -> None:
    """The command line."""
    settings = tyro.cli(Settings, description=__doc__)
    with reported():
        if settings.device == "cuda" and not torch.cuda.is_available():
            raise InputError("--device is cuda: there is no GPU here that torch can use: use cpu")
        before = machine()
        record = measure(settings)
        show_rounds(f"pre-training, {settings.preset}, {settings.device}", record.rounds, FIGURES)
        show_ratios(record.ratios)
        if settings.json is not None:
            write_record(settings.json, record, before)
        if settings.plot is not None:
            plot(record, settings.plot)


class Trainee:
    """A network in training, as train.py would set it up."""

    def __init__(self, settings: Settings) -> None:
        of_run = train.Settings(
            stage="pretrain", data=(str(settings.data),), preset=settings.preset, model=settings.model
        )
        self.accelerator = Accelerator(cpu=settings.device == "cpu")
        set_seed(0)
        sizes = train.sizes_of(of_run)
        self._front_end = train.front_end_of(sizes, [read_manifest(settings.data)])
        self._front_end.to(self.accelerator.device).train()
        network = correspondence_net(sizes, settings.model)
        self._optimizer = train.put_in_place(of_run, network, self.accelerator.device)
        self._network, self._optimizer = self.accelerator.prepare(network, self._optimizer)
        self._network.train()

    def run(self, batches: Iterator[Batch], steps: int) -> float:
        """Seconds of so many steps."""
        self._wait()
        start = time.perf_counter()
        for batch in itertools.islice(batches, steps):
            train.advance(self.accelerator, self._optimizer, train.pretrain_step, batch, self._network, self._front_end)
        self._wait()
        return time.perf_counter() - start

    def parameters(self) -> int:
        """Of the network."""
        return sum(parameter.numel() for parameter in self._network.parameters())

    def _wait(self) -> None:
        if self.accelerator.device.type == "cuda":
            torch.cuda.synchronize()


def measure(settings: Settings) -> Record:
    """Train both ways, in turn."""
    trainee = Trainee(settings)
    loader = partial(
        ClipLoader,
        settings.data,
        "train",
        batch_size=settings.batch_size,
        device=trainee.accelerator.device,
        threads=settings.loader_threads,
    )
    with loader() as source:
        held = list(itertools.islice(forever(source), settings.in_memory))
    memory = itertools.cycle(held)
    trainee.run(memory, 3)  # what only the first steps cost

    def from_memory() -> Figures:
        return _figures(settings, trainee.run(memory, settings.steps), 0.0)

    def with_loader() -> Figures:
        with loader() as source:
            batches = forever(source)
            next(batches)  # starting up is no part of a long run
            before = source.stats().data_wait
            seconds = trainee.run(batches, settings.steps)
            return _figures(settings, seconds, source.stats().data_wait - before)

    rounds = take_turns({"in memory": from_memory, "with the loader": with_loader}, settings.rounds)
    speed = median_ratio(rounds, "steps_a_second", "with the loader", "in memory")
    waited = statistics.median(figures["waited_percent"] for figures in rounds["with the loader"])
    return Record(
        benchmark="train",
        settings={**asdict(settings), "data": settings.data.name},
        rounds=rounds,
        ratios={
            "with the loader / in memory, steps a second": speed,
            "share of time lost to data, by the clock, %": 100 * (1 - speed),
            "share of time waited for data, %": waited,
        },
        facts={"parameters": trainee.parameters()},
    )


def forever(loader: ClipLoader) -> Iterator[Batch]:
    """Epoch after epoch."""
    while True:
        yield from loader


def _figures(settings: Settings, seconds: float, waited: float) -> Figures:
    return {
        "steps_a_second": settings.steps / seconds,
        "clips_a_second": settings.steps * settings.batch_size / seconds,
        "waited_percent": 100 * waited / seconds,
    }


def plot(record: Record, path: Path) -> None:
    """Steps a second of both sides, every round; PNG."""
    style()
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 3.4))
    for (side, rounds), marker in zip(record.rounds.items(), "os", strict=True):
        values = [round_["steps_a_second"] for round_ in rounds]
        axis.plot(range(1, len(values) + 1), values, marker=marker, label=side)
    fastest = max(round_["steps_a_second"] for rounds in record.rounds.values() for round_ in rounds)
    axis.set(xlabel="round", ylabel="training steps a second", ylim=(0, 1.15 * fastest))
    axis.xaxis.get_major_locator().set_params(integer=True)
    waited = record.ratios["share of time waited for data, %"]
    axis.set_title(f"{record.settings['preset']} on {record.settings['device']}: waited {waited:.2f} %", fontsize=10)
    axis.legend()
    save(figure, path)


if __name__ == "__main__":
    main()

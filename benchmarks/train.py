"""Steps a second of real training: with the loader, and with the same batches already in memory.

    python benchmarks/train.py --data DATASET --preset tiny --device cpu --json FILE --plot FILE
    python benchmarks/train.py --data DATASET --preset full --device cuda --batch-size 0 --mixed-precision bf16 …

Both sides run the very step that train.py runs (`models.training.advance`) on a network and an optimiser of their
own, in turn. The share of time lost to data is told twice: by the clock, as what a step takes longer with the loader
than without, and by the loader's own count of seconds in which the training waited. The first includes what its threads
take from the training's cores; the second does not.

The step's two parts are measured on the same batches too: the front end alone, and the network alone, which is the step
with the front end's answer already there. On a GPU the front end alone is bound by the host that starts its many small
kernels, which in a step it does while the network's run; so its share is told by the kernels' own time, too.

On a GPU also the share of its peak: operations of a step as torch's counter has them (products and convolutions,
forwards and backwards), times steps a second, over what the data sheet says (`benchmarks.gpu`); the memory that torch
held at most; and the kernels of a few steps (`benchmarks.kernels`).
"""

import itertools
import operator
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

if __name__ == "__main__":  # not benchmarks/: its loaders.py and train.py would hide the packages of these names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import kernels
from benchmarks.figures import save, style
from benchmarks.gpu import Precision, Utilisation, largest, peak_flops, require_gpu
from benchmarks.record import (
    Figures,
    Record,
    machine,
    median_ratio,
    read_settings,
    show_ratios,
    show_rounds,
    take_turns,
    write_record,
)
from loaders import Batch, ClipLoader
from loaders.dataset.dataset import Dataset
from loaders.errors import InputError, first_line, reported
from models.frontend.front_end import FrontEnd, Inputs
from models.training.advance import Advance
from models.training.config import CorrespondenceNetworkConfig, OptimizerConfig
from models.training.execution import Tf32, place_front_end, set_tf32, towers
from models.training.loop import put_in_place
from models.training.tasks.correspondence import Correspondence


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
    """Clips a step; 0: as many multiples of 16 as fit in the GPU's memory, the loader's batches beside them."""
    mixed_precision: Precision = "no"
    """As for accelerate."""
    compile: bool = False
    """As for train.py."""
    tf32: Tf32 = "convolutions"
    """As for train.py."""
    steps: int = 20
    """Steps a side and round."""
    rounds: int = 5
    """How often each side is measured."""
    in_memory: int = 4
    """Different batches that the side without a loader takes in turn."""
    pixels: Literal["rgb", "yuv420"] = "rgb"
    """As for train.py."""
    loader_threads: int | None = None
    """Threads that decode; by default as many as there are cores."""
    placement: Literal["auto", "gpu", "cpu"] = "auto"
    """As for train.py; auto tries both anew in every round, which takes seconds."""
    profiled: int = 3
    """Steps whose kernels are looked at; 0: none."""
    json: Path | None = None
    """Where the record is written."""
    plot: Path | None = None
    """Where the plot is written (PNG)."""


MEMORY, LOADER, FRONT_END, NETWORK = "in memory", "with the loader", "front end alone", "network alone"
FIGURES = (
    "ms_a_step",
    "steps_a_second",
    "clips_a_second",
    "waited_percent",
    "gpu_busy_percent",
    "peak_percent",
    "gpu_memory_mb",
)
_MULTIPLE = 16  # clips
_UNTIL_FULL = 4  # steps
_COUNTED = 2  # clips of the step whose operations are counted


def main() -> None:
    """The command line."""
    settings = read_settings(Settings, __doc__)
    with reported():
        require_gpu(settings.device)
        before = machine()
        record = measure(settings)
        show_rounds(f"pre-training, {settings.preset}, {settings.device}", record.rounds, FIGURES)
        show_ratios(record.ratios)
        if settings.json is not None:
            write_record(settings.json, record, before)
        if settings.plot is not None:
            plot(record, settings.plot)


def parts(
    settings: Settings, dataset: Dataset, device: torch.device
) -> tuple[Correspondence, torch.nn.Module, FrontEnd]:
    """What train.py would train, its network not yet in place."""
    task = Correspondence(CorrespondenceNetworkConfig(preset=settings.preset, model=settings.model))
    set_seed(0)
    model = task.model([dataset.catalog("train")])
    place_front_end(model.front_end, device, half=settings.mixed_precision != "no")
    return task, model.network, model.front_end.train()


class Trainee:
    """A network in training, as train.py would set it up."""

    def __init__(self, settings: Settings, dataset: Dataset) -> None:
        self.accelerator = Accelerator(cpu=settings.device == "cpu", mixed_precision=settings.mixed_precision)
        set_tf32(settings.tf32)
        self._task, network, self._front_end = parts(settings, dataset, self.accelerator.device)
        self._optimizer: Any = put_in_place(
            network, self.accelerator.device, OptimizerConfig(), compiled=settings.compile
        )
        self._network, self._optimizer = self.accelerator.prepare(network, self._optimizer)
        self._network.train()
        self._step = Advance(self.accelerator, self._optimizer, self._task.step)

    def run(self, batches: Iterator[Batch], steps: int) -> float:
        """Seconds of so many steps."""
        return self._timed(partial(self._advance, front_end=self._front_end), batches, steps)

    def run_front_end(self, batches: Iterator[Batch], steps: int) -> float:
        """Seconds of so many steps' front ends."""
        return self._timed(self._prepare, batches, steps)

    def run_network(self, batch: Batch, steps: int) -> float:
        """Seconds of so many steps on one batch that the front end has seen before."""
        inputs = self._prepare(batch)
        ready = cast(FrontEnd, lambda *_, **__: inputs)
        return self._timed(partial(self._advance, front_end=ready), itertools.repeat(batch), steps)

    def _advance(self, batch: Batch, front_end: FrontEnd) -> None:
        self._step(batch, self._network, front_end)

    def _prepare(self, batch: Batch) -> Inputs:
        return self._front_end(batch.video, batch.audio, batch.gaze, batch.gaze_valid, batch.seed)  # type: ignore[no-any-return]

    def _timed(self, step: Callable[[Batch], object], batches: Iterator[Batch], steps: int) -> float:
        self._wait()
        start = time.perf_counter()
        for batch in itertools.islice(batches, steps):
            step(batch)
        self._wait()
        return time.perf_counter() - start

    def let_go(self) -> None:
        """Give back the memory that a step left behind, whole or not."""
        self._optimizer.zero_grad()
        torch.cuda.empty_cache()

    def parameters(self) -> int:
        """Of the network."""
        return sum(parameter.numel() for parameter in self._network.parameters())

    def _wait(self) -> None:
        if self.accelerator.device.type == "cuda":
            torch.cuda.synchronize()


def measure(settings: Settings) -> Record:
    """Train both ways, in turn."""
    dataset = Dataset.open(settings.data)
    trainee = Trainee(settings, dataset)
    device = trainee.accelerator.device
    loader = partial(
        ClipLoader,
        dataset,
        "train",
        device=device,
        threads=settings.loader_threads,
        placement=settings.placement,
        pixels=settings.pixels,
    )
    if settings.batch_size == 0:
        settings = replace(settings, batch_size=largest_batch(trainee, loader))
    loader = partial(loader, batch_size=settings.batch_size)
    with loader() as source:
        held = list(itertools.islice(forever(source), settings.in_memory))
        decoded = source.stats().decoder
    memory = itertools.cycle(held)
    operations = operations_a_clip(settings, dataset, held[0])
    began = time.perf_counter()
    trainee.run(memory, 3)  # what only the first steps cost
    first_steps = time.perf_counter() - began
    peak = peak_of(settings, device)

    def figures(seconds: float) -> dict[str, float]:
        steps = settings.steps / seconds
        return {"ms_a_step": 1000 / steps, "steps_a_second": steps, "clips_a_second": steps * settings.batch_size}

    def whole(run: Callable[[], float], waited: Callable[[], float]) -> Figures:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        with Utilisation(device.index or 0) if device.type == "cuda" else nullcontext() as busy:
            before = waited()
            seconds = run()
            share = 100 * (waited() - before) / seconds
        found = figures(seconds) | {"waited_percent": share}
        if busy is not None and busy.percent is not None:
            found["gpu_busy_percent"] = busy.percent
        if peak is not None:
            found["peak_percent"] = 100 * found["clips_a_second"] * operations / peak
        if device.type == "cuda":
            found["gpu_memory_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
        return found

    def from_memory() -> Figures:
        return whole(lambda: trainee.run(memory, settings.steps), lambda: 0.0)

    def with_loader() -> Figures:
        with loader() as source:
            batches = forever(source)
            trainee.run(batches, _UNTIL_FULL)  # starting up, and until its queues are full, is no part of a long run
            return whole(lambda: trainee.run(batches, settings.steps), lambda: source.stats().data_wait)

    def front_end_alone() -> Figures:
        return figures(trainee.run_front_end(memory, settings.steps))

    def network_alone() -> Figures:
        return figures(trainee.run_network(held[0], settings.steps))

    sides = {MEMORY: from_memory, LOADER: with_loader, FRONT_END: front_end_alone, NETWORK: network_alone}
    rounds = take_turns(sides, settings.rounds)
    speed = median_ratio(rounds, "steps_a_second", LOADER, MEMORY)
    waited = statistics.median(figures["waited_percent"] for figures in rounds[LOADER])
    seen: dict[str, Any] = {}
    by_kernels: dict[str, float] = {}
    if settings.profiled:
        steps = settings.profiled
        try:
            whole_step = kernels.profiled(lambda: trainee.run(memory, steps), steps, device)
            seen["kernels"] = kernels.facts(whole_step)
            if device.type == "cuda":
                front_end = kernels.profiled(lambda: trainee.run_front_end(memory, steps), steps, device)
                both = (sum(kernel.ms for kernel in part) for part in (front_end, whole_step))
                by_kernels["front end / step, kernels' time"] = operator.truediv(*both)
        except RuntimeError as error:  # a GPU's counters may be kept from its users: no reason to lose the rest
            seen["not profiled"] = first_line(error)
    return Record(
        benchmark="train" if device.type == "cpu" else "train_gpu",
        settings={**asdict(settings), "data": settings.data.name},
        rounds=rounds,
        ratios={
            f"{LOADER} / {MEMORY}, steps a second": speed,
            "share of time lost to data, by the clock, %": 100 * (1 - speed),
            "share of time waited for data, %": waited,
            "front end / step": median_ratio(rounds, "ms_a_step", FRONT_END, MEMORY),
            "network / step": median_ratio(rounds, "ms_a_step", NETWORK, MEMORY),
            **by_kernels,
            **share_of_peak(rounds[MEMORY]),
        },
        facts={
            "parameters": trainee.parameters(),
            "operations_a_clip": operations,
            "filmstrips decoded by": decoded,
            "seconds of the first three steps": round(first_steps, 2),
            **seen,
            **({} if peak is None else {"peak operations a second": peak}),
        },
    )


def largest_batch(trainee: Trainee, loader: Callable[..., ClipLoader]) -> int:
    """How many clips a step fit in the GPU's memory, with the loader at work.

    Raises:
        InputError: on a CPU, or where not even the fewest do.
    """
    if trainee.accelerator.device.type != "cuda":
        raise InputError("--batch-size is 0 and the device a CPU: give a number, there is no limit to find")
    with loader(batch_size=1) as source:
        clips = len(source.catalogs[0])

    def fits(batch_size: int) -> bool:
        try:
            with loader(batch_size=batch_size) as source:
                trainee.run(forever(source), 3)
        except RuntimeError as error:  # torch's is one, and DALI raises nothing finer
            if "memory" not in str(error).lower():
                raise
            return False
        finally:
            trainee.let_go()
        return True

    found = largest(fits, _MULTIPLE, clips)
    if found == 0:
        raise InputError(f"not even {_MULTIPLE} clips a step fit in the memory of this GPU: use --preset tiny")
    return found


def operations_a_clip(settings: Settings, dataset: Dataset, batch: Batch) -> float:
    """Operations of a step a clip, forwards and backwards, of a network that is neither compiled nor cast."""
    few = batch[:_COUNTED]
    task, network, front_end = parts(settings, dataset, few.video.device)
    front_end.frame_dtype = torch.float32
    for tower in towers(network):
        tower.use_plain_operations()  # the counter does not know other kernels
    with FlopCounterMode(display=False) as counter:
        loss = task.step(few, network.to(few.video.device).train(), front_end).loss
        torch.autograd.backward(loss)
    return float(counter.get_total_flops()) / len(few)


def peak_of(settings: Settings, device: torch.device) -> float | None:
    """Operations a second at most; None on a CPU, or where the GPU's data sheet is not known."""
    if device.type != "cuda":
        return None
    rounded = "tf32" if settings.mixed_precision == "no" and settings.tf32 != "none" else settings.mixed_precision
    return peak_flops(torch.cuda.get_device_name(device), rounded)


def share_of_peak(rounds: Sequence[Figures]) -> dict[str, float]:
    """The median, where the peak is known."""
    found = [figures["peak_percent"] for figures in rounds if "peak_percent" in figures]
    return {"operations / peak of the GPU, %": statistics.median(found)} if found else {}


def forever(loader: ClipLoader) -> Iterator[Batch]:
    """Epoch after epoch."""
    while True:
        yield from loader


def plot(record: Record, path: Path) -> None:
    """Steps a second of both sides, every round; PNG."""
    style()
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    figure, axis = plt.subplots(figsize=(8, 3.4))
    fastest = 0.0
    for side, marker in ((MEMORY, "o"), (LOADER, "s")):
        values = [round_["steps_a_second"] for round_ in record.rounds[side]]
        axis.plot(range(1, len(values) + 1), values, marker=marker, label=side)
        fastest = max(fastest, *values)
    axis.set(xlabel="round", ylabel="training steps a second", ylim=(0, 1.15 * fastest))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    waited = record.ratios["share of time waited for data, %"]
    axis.set_title(f"{record.settings['preset']} on {record.settings['device']}: waited {waited:.2f} %", fontsize=10)
    axis.legend()
    save(figure, path)


if __name__ == "__main__":
    main()

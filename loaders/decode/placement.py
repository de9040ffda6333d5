"""Where filmstrips are decoded: a choice apart from where batches lie.

Batches on a GPU can be made in two ways: nvJPEG decodes there ("gpu"), or libjpeg-turbo decodes on the CPU and DALI
copies the frames over ("cpu"). Which is faster depends on the GPU, some of which have engines for JPEG, on the cores
and on the clips; "auto" tries both on the first batches of the user's own clips, just before they are needed.

The trial knows of decoders alone, not that a network will share the GPU with nvJPEG and other ranks the cores. Where it
matters which of two close ones is taken, or where runs are to be repeated to the bit, name it. The order, the pairs and
the windows do not depend on it, nor does the loader's fingerprint; frames differ by how the two round, see
`loaders.reference`.

A GPU that cannot decode is no reason to stop, but none to be silent either: the CPU decodes instead, and the log and
`LoaderStats` say why.
"""

import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Literal, cast, get_args

import torch

from loaders.dataset.manifest import ClipFormat
from loaders.decode.pipeline import DecodePipeline, Decoder, Encoded, PipelineSettings
from loaders.errors import InputError, as_one_line

_log = logging.getLogger(__name__)

Placement = Literal["gpu", "cpu", "auto"]
CpuDecoder = Literal["auto", "dali", "turbo"]

TRIAL_BATCHES = 4  #: different batches that the trial reads; they are the first ones trained on
_ROUNDS = 3
_SECONDS = 0.5  #: that a round measures, two batches at least
_IN_FLIGHT = 2  #: batches at a time, however many the loader is set to: they would all have to be decoded to no use
_LONGEST_REASON = 300  #: characters


@dataclass(frozen=True, slots=True)
class Choice:
    """What decodes, and why."""

    decoder: Decoder
    reason: str
    cpu: float = 0.0  #: clips/s that the CPU decoded in the trial; 0: it was not tried
    gpu: float = 0.0  #: the same of the GPU


def check_placement(placement: str, device: torch.device) -> Placement:
    """The placement, if batches on ``device`` can be made so.

    Raises:
        InputError: they cannot.
    """
    if placement not in get_args(Placement):
        raise InputError(f"placement is {placement!r}: use gpu, cpu or auto")
    if placement == "gpu" and device.type != "cuda":
        raise InputError(f"placement is 'gpu' and device is {str(device)!r}: use cuda:0, or placement cpu")
    return cast(Placement, placement)


def settled(placement: Placement) -> Choice | None:
    """What decodes for a GPU where nothing has to be tried; None where it has."""
    return Choice("cpu", "as asked for") if placement == "cpu" else None


def on_cpu(cpu_decoder: str, obstacle: str | None) -> Choice:
    """What decodes batches on a CPU.

    Args:
        cpu_decoder: "dali", "turbo", or "auto": libjpeg-turbo without DALI where it can, for the bytes are the same.
        obstacle: why it cannot, see `loaders.decode.turbo`; None where it can.

    Raises:
        InputError: it is asked for, and cannot; or there is no such decoder.
    """
    if cpu_decoder not in get_args(CpuDecoder):
        raise InputError(f"cpu_decoder is {cpu_decoder!r}: use auto, dali or turbo")
    if cpu_decoder == "dali":
        return Choice("cpu", "as asked for")
    if obstacle is None:
        return Choice("turbo", "clips with WAV on a CPU, which it decodes without DALI's copy")
    if cpu_decoder == "turbo":
        raise InputError(f"cpu_decoder is 'turbo', which takes clips with WAV on a CPU, but {obstacle}: use auto")
    return Choice("cpu", f"libjpeg-turbo alone takes clips with WAV, and {obstacle}")


def as_before(decoder: Decoder | None) -> tuple[Placement, Choice | None]:
    """For a run with "auto" that goes on: what to ask for, and what is settled, by what decoded before it stopped."""
    if decoder in ("cpu", "turbo"):  # whose bytes are the same
        return "auto", Choice("cpu", "as before the run was stopped")
    return ("auto" if decoder is None else "gpu"), None


def choose(wanted: Placement, measure: Callable[[Decoder], float], rounds: int = _ROUNDS) -> Choice:
    """Decide what decodes for batches on a GPU.

    Args:
        wanted: "gpu" is tried once, to see that it works; "auto" is measured against the CPU; "cpu" is not questioned.
        measure: clips/s of a decoder; raises where it cannot decode. The sides take turns.
        rounds: how often "auto" measures each.

    Raises:
        Exception: whatever ``measure`` raised for the CPU, where the GPU failed too: then the clips are at fault.
    """
    if wanted == "cpu":
        return Choice("cpu", "as asked for")
    gpu: list[float] = []
    cpu: list[float] = []
    try:
        for _ in range(rounds if wanted == "auto" else 1):
            gpu.append(measure("gpu"))
            if wanted == "auto":
                cpu.append(measure("cpu"))
    except Exception as error:  # DALI raises what its libraries do: whether it is the clips' fault, the CPU will tell
        rate = measure("cpu")
        reason = (
            f"the GPU cannot decode these clips ({as_one_line(str(error) or type(error).__name__, _LONGEST_REASON)})"
        )
        _log.warning("filmstrips are decoded on the CPU: %s", reason)
        return Choice("cpu", reason, cpu=rate)
    if wanted == "gpu":
        choice = Choice("gpu", "as asked for", gpu=gpu[0])
    else:
        choice = faster(cpu=statistics.median(cpu), gpu=statistics.median(gpu))
    _log.info("filmstrips are decoded on the %s: %s", choice.decoder.upper(), choice.reason)
    return choice


def faster(*, cpu: float, gpu: float) -> Choice:
    """The faster of two rates, in clips/s; the CPU where they are equal: it leaves the GPU to the network."""
    decoder: Decoder = "gpu" if gpu > cpu else "cpu"
    return Choice(decoder, f"measured: {gpu:.0f} clips/s on the GPU, {cpu:.0f} on the CPU", cpu, gpu)


class Trial:
    """Measures decoders on batches that are at hand, each round in a pipeline of its own."""

    def __init__(self, clip: ClipFormat, frames: int, settings: PipelineSettings, batches: Sequence[Encoded]) -> None:
        """
        Args:
            clip, frames, settings: as of the pipeline that will be used; the decoder is the trial's to set.
            batches: one at least, none of them empty.
        """
        self._clip, self._frames, self._settings = clip, frames, settings
        self._batches = batches

    def __call__(self, decoder: Decoder) -> float:
        """Clips/s of a pipeline that has run in.

        Raises:
            Exception: it cannot be built, or cannot decode the batches.
        """
        settings = replace(self._settings, decoder=decoder, in_flight=_IN_FLIGHT)
        pipeline = DecodePipeline(self._clip, self._frames, settings, cycle(self._batches).__next__)
        try:
            sizes = cycle(len(batch) for batch in self._batches)
            for _ in range(_IN_FLIGHT + 1):
                pipeline.run()
                next(sizes)
            start = time.perf_counter()
            clips = batches = 0
            # What is decoded ahead is so at both ends.
            while batches < 2 or time.perf_counter() - start < _SECONDS:
                pipeline.run()
                clips += next(sizes)
                batches += 1
            return clips / (time.perf_counter() - start)
        finally:
            pipeline.close()

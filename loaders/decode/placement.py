"""Where filmstrips are decoded: a choice apart from where batches lie.

Batches on a GPU can be made in two ways: nvJPEG decodes there ("gpu"), or libjpeg-turbo decodes on the CPU and DALI
copies the frames over ("cpu"). Which is faster depends on the GPU, some of which have engines for JPEG, on the cores
and on the clips; "auto" tries both on the first batches of the user's own clips, just before they are needed.

But nvJPEG converts colours by the multiprocessors that the network wants, and waits for them: on an H100 it decoded
twelve times what a full-size step takes, and cost the step 8 % and waits, where sixteen cores cost it 1.5 % and none
(docs/gpu.md). So with "auto" the CPU decodes, be the GPU faster or not, until it does not keep up: where batches are
waited for (`Demand`), a faster GPU takes over, once and for all; a run that is resumed keeps to what decoded before.
Where runs are to be repeated to the bit, name the placement. The order, the pairs and the windows do not depend on it,
nor does the loader's fingerprint; frames differ by how the two round, see `loaders.reference`.

A GPU that cannot decode is no reason to stop, but none to be silent either: the CPU decodes instead, and the log and
`LoaderStats` say why. Without DALI, which is an extra, libjpeg-turbo alone decodes, for a GPU too: torch copies.
"""

import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
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
_JUDGED_BATCHES, _JUDGED_SECONDS = 16, 3.0  #: at least, after which it is asked whether the decoder keeps up
_TOO_LONG = 0.02  #: share of the time that may be waited for batches; below, the decoder that shares the GPU costs more


@dataclass(frozen=True, slots=True)
class Choice:
    """What decodes, and why."""

    decoder: Decoder
    reason: str
    cpu: float = 0.0  #: clips/s that the CPU decoded in the trial; 0: it was not tried
    gpu: float = 0.0  #: the same of the GPU
    instead: Decoder | None = None  #: what takes over where this does not keep up, see `Demand`


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


def without_dali(placement: Placement, obstacle: str | None, mend: str) -> Choice:
    """What decodes where DALI, which would have, is not installed.

    Args:
        placement: as it was asked for.
        obstacle: why libjpeg-turbo alone cannot; None where it can: then batches lie on a GPU.
        mend: what installs DALI.

    Raises:
        InputError: nothing can, or DALI is asked for.
    """
    if placement == "gpu":
        obstacle, mend = "placement is 'gpu'", f"{mend}, or use placement cpu"
    if obstacle is not None:
        raise InputError(f"{obstacle}, which needs DALI, and that is not installed: {mend}")
    reason = f"without DALI ({mend}) the GPU does not decode, and torch copies the batches to it"
    _say_once(f"filmstrips are decoded on the CPU: {reason}")
    return Choice("turbo", reason)


@cache
def _say_once(line: str) -> None:
    """For what every loader of a process would say again."""
    _log.warning("%s", line)


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
        choice = first_choice(cpu=statistics.median(cpu), gpu=statistics.median(gpu))
    _log.info("filmstrips are decoded on the %s: %s", choice.decoder.upper(), choice.reason)
    return choice


def first_choice(*, cpu: float, gpu: float) -> Choice:
    """By two rates, in clips/s: the CPU, and a GPU that is faster where it does not keep up."""
    measured = f"measured: {gpu:.0f} clips/s on the GPU, {cpu:.0f} on the CPU"
    if gpu <= cpu:
        return Choice("cpu", measured, cpu, gpu)
    return Choice("cpu", f"{measured}, which leaves the GPU to the network while it keeps up", cpu, gpu, instead="gpu")


class Demand:
    """Whether what decodes keeps up with who takes the batches, judged anew every so many of them."""

    def __init__(self) -> None:
        self._batches = 0
        self._since = self._waited = self._starved = 0.0

    def told(self, now: float, waited: float, starved: float) -> float | None:
        """Tell of a batch that was handed over; tells the share of the time that was waited, where that is too much.

        Args:
            now: the time, in seconds of a clock.
            waited: seconds that batches were waited for, all in all.
            starved: seconds that the decoder waited for something to decode, all in all: where that is most of the
                time, another decoder would wait as well.
        """
        if self._batches == 0:
            self._since, self._waited, self._starved = now, waited, starved
        self._batches += 1
        seconds = now - self._since
        if self._batches <= _JUDGED_BATCHES or seconds < _JUDGED_SECONDS:
            return None
        self._batches = 0
        share = (waited - self._waited) / seconds
        is_late = share > _TOO_LONG and (starved - self._starved) / seconds < 1 / 2
        return share if is_late else None


def turned(choice: Choice, share: float) -> Choice:
    """What takes over from a choice that made training wait for a share of the time."""
    if choice.instead is None:
        raise ValueError("nothing is there to take over")
    was = "GPU" if choice.decoder == "gpu" else "CPU"
    reason = f"the {was} did not keep up: batches were waited for {share:.0%} of the time ({choice.reason})"
    _log.info("filmstrips are decoded on the %s from now on: %s", choice.instead.upper(), reason)
    return replace(choice, decoder=choice.instead, reason=reason, instead=None)


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

"""Runs sides, each in a process of its own, measures them, and compares what they hand out with what it should be.

``python -m benchmarks.peers.measure`` reads orders, a line of JSON each, see `serve`. A side that is kept from one
order to the next is stopped in between with all its workers (SIGSTOP), as it was in the middle of its work: when it
goes on, its queues are as full as they were, so that many short turns measure what one long one would.
"""

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers.decode import rgb_of_planes, wav
from benchmarks.peers.processes import cpu_seconds, memory_mb
from benchmarks.peers.served import Device, Form, Prepared, Served, Task
from sharding.media.filmstrip import decode_filmstrip

ANSWER, AT_REST = "figures: ", "at rest\n"
PATIENCE = 600  # seconds

LEAST_PSNR = 28.0  # dB, of the worst clip: other frames, or frames a tick off, stay far below where anything moves
LEAST_LIKENESS = 0.9  # correlation with the right sound, of the worst clip that is not silent
_MEMORY_EVERY = 0.1  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to run."""

    prepared: str  #: the folder
    module: str
    options: dict[str, Any]
    form: Form
    batch_size: int
    workers: int
    audio: bool
    seconds: float
    part: int
    device: Device = "cpu"
    warm_up: float = 0.7  #: seconds, and at least a batch a worker
    keep: bool = False  #: whether the next such order goes on with the same process


def measure(order: Order) -> Iterator[dict[str, float]]:
    """The side's figures, again and again. It is started, checked and warmed up once.

    Raises:
        ValueError: it hands out other clips, see `check`.
    """
    torch.set_num_threads(order.workers)
    task = Task(
        prepared=Prepared(Path(order.prepared)),
        form=order.form,
        batch_size=order.batch_size,
        workers=order.workers,
        audio=order.audio,
        seconds=order.seconds,
        device=order.device,
        part=order.part,
    )
    began = time.perf_counter()
    serving: Iterator[Served] = import_module(f"benchmarks.peers.{order.module}").batches(task, **order.options)
    first = next(serving)
    first_batch = time.perf_counter() - began
    once = {"first_batch_seconds": first_batch, **check(first, task)}
    del first
    once |= _warm_up(serving, order)
    while True:
        yield {**_rates(serving, order, task.prepared.facts["frames"]), **once}


def _rates(serving: Iterator[Served], order: Order, frames: int) -> dict[str, float]:
    cpu, start, clips = cpu_seconds(), time.perf_counter(), 0
    # Workers finish side by side: whole turns, or where a slow side is cut off would decide its figure.
    elapsed, batches = 0.0, 0
    while elapsed < order.seconds or batches % order.workers:
        clips += len(next(serving).frames)
        batches += 1
        elapsed = time.perf_counter() - start
    if order.device == "cuda":
        torch.cuda.synchronize()  # what was handed out may still be in the making
        elapsed = time.perf_counter() - start
    cpu = cpu_seconds() - cpu
    return {
        "clips_per_second": clips / elapsed,
        "frames_per_second": clips * frames / elapsed,
        "cpu_ms_a_clip": 1000 * cpu / clips,
    }


def _warm_up(serving: Iterator[Served], order: Order) -> dict[str, float]:
    """The memory that it takes: looked at here, for a look costs every side time, the large ones more."""
    peak, began, batches = _Peak(), time.perf_counter(), 0
    while batches % order.workers or batches == 0 or time.perf_counter() < began + order.warm_up:
        next(serving)
        batches += 1
    found = {"memory_mb": peak.stop()}
    if order.device == "cuda":
        free, total = torch.cuda.mem_get_info()
        found["gpu_memory_mb"] = (total - free) / 1e6
    return found


class _Peak:
    """The most memory held at a time, looked at now and then: a look costs a millisecond a process."""

    def __init__(self) -> None:
        self._most = memory_mb()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._ended.set()
        self._thread.join()
        return max(self._most, memory_mb())

    def _look(self) -> None:
        while not self._ended.wait(_MEMORY_EVERY):
            self._most = max(self._most, memory_mb())


def check(served: Served, task: Task) -> dict[str, float]:
    """How close a batch is to the filmstrips and WAVs of its clips: PSNR in dB and correlation, of the worst clip.

    Raises:
        ValueError: it has another shape or type, or other frames or sounds.
    """
    facts = task.prepared.facts
    frames = served.frames if isinstance(served.frames, torch.Tensor) else torch.stack(list(served.frames))
    frames, audio = frames.cpu(), None if served.audio is None else served.audio.cpu()
    shape = (task.batch_size, facts["frames"], facts["size"], facts["size"], 3)
    if frames.ndim == 4:
        frames = rgb_of_planes(frames)
    if frames.shape == (*shape[:2], 3, *shape[2:4]):
        frames = frames.permute(0, 1, 3, 4, 2)
    if frames.shape != shape or frames.dtype != torch.uint8:
        raise ValueError(f"frames are {tuple(frames.shape)} {frames.dtype}, not {shape} uint8")
    psnr, alike = 99.0, 1.0
    for row, key in enumerate(served.keys):
        strip, _ = task.prepared.reference(facts["originals"][str(key)])
        right = decode_filmstrip(strip, facts["frames"])
        psnr = min(psnr, psnr_of(frames[row].numpy(), right))
    if psnr < LEAST_PSNR:
        raise ValueError(f"the frames of a clip are not its own: {psnr:.1f} dB")
    if task.audio:
        if audio is None or audio.shape != (task.batch_size, facts["samples"]) or audio.dtype != torch.float32:
            raise ValueError("the sound is missing, or of another shape or type")
        for row, key in enumerate(served.audio_keys):
            _, sound = task.prepared.reference(facts["originals"][str(key)])
            alike = min(alike, likeness_of(audio[row].numpy(), wav(sound).numpy()))
        if alike < LEAST_LIKENESS:
            raise ValueError(f"the sound of a clip is not its own: correlation {alike:.2f}")
    return {"psnr_db": psnr, "sound_likeness": alike}


def psnr_of(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB; 99 where nothing differs."""
    difference = np.subtract(one, other, dtype=np.int16)
    error = float(np.square(difference, dtype=np.float32).mean())
    return min(99.0, 10 * float(np.log10(255**2 / error))) if error else 99.0


def likeness_of(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Correlation, 1 where the right sound is silent."""
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / norm if norm > 1e-3 else 1.0


def serve() -> None:
    """Measure the orders on the lines of stdin, each in a fork of this process that has imported torch and no side.

    An answer is a line of `ANSWER` and JSON: the figures, or ``error``; the line `AT_REST` follows when the side stands
    still or has ended, and whatever it has started with it. Those that are kept end with the orders.
    """
    kept: dict[str, int] = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of the end below: what stands still heeds no signal
    try:
        for line in sys.stdin:
            child = kept.pop(line, None)
            if child is None:
                child = os.fork()
                if not child:
                    _answer(line)
            else:
                os.killpg(child, signal.SIGCONT)
            kept[line] = child
            _, status = os.waitpid(child, os.WUNTRACED)  # it stops when it has answered
            if not (os.WIFSTOPPED(status) and json.loads(line)["keep"]):
                _end(kept.pop(line), reap=os.WIFSTOPPED(status))
            if not os.WIFSTOPPED(status) and status:
                print(ANSWER + json.dumps({"error": f"ended with {os.waitstatus_to_exitcode(status)}"}), flush=True)
            print(AT_REST, end="", flush=True)
    finally:
        for child in kept.values():
            _end(child, reap=True)


def _end(child: int, *, reap: bool) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # also workers, which would notice after seconds that they are alone
    if reap:
        os.waitpid(child, 0)


def _answer(line: str) -> NoReturn:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        signal.alarm(PATIENCE)  # which ends it
        for figures in measure(Order(**json.loads(line))):
            print(ANSWER + json.dumps(figures), flush=True)
            signal.alarm(0)
            os.killpg(0, signal.SIGSTOP)
            signal.alarm(PATIENCE)
    except BaseException as error:
        traceback.print_exc()
        last = (str(error).strip().splitlines() or [""])[-1]
        print(ANSWER + json.dumps({"error": f"{type(error).__name__}: {last}"}), flush=True)
    os._exit(0)  # the answer is out: workers, threads and their queues need not be wound up one by one


if __name__ == "__main__":
    serve()

"""Works are done one after another, each in a process of its own; a killed one is gone on with.

What is finished is not done again: a run's settings, and the weights that it started from, are compared with what is
asked for. How long each took stands in ``seconds.json``, of all attempts but those that were killed.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.thesis.grid import Work, asked
from benchmarks.thesis.recipes import ROOT
from loaders.errors import InputError
from loaders.storage.atomic import write_atomically
from models.training.config import as_data
from models.training.provenance import CONFIG, as_json
from models.training.runs import RESULTS, RUN, model_sha256, read_run

SECONDS = "seconds.json"
#: What a run may have otherwise and be the same: where it lies and how it is kept, and what changes rounding at most.
_FREE = ("run", "loader", "precision")


def launcher(cores: int) -> tuple[str, ...]:
    """As the Makefile's: one process."""
    script = Path(sys.executable).with_name("accelerate")
    return (
        *(str(script), "launch", "--quiet", "--num_processes", "1", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", str(cores)),
    )


def is_done(work: Work) -> bool:
    """Whether there is nothing left to do.

    Raises:
        InputError: it was done with other settings, or from other weights.
    """
    if not work.trains:
        return work.output.exists()
    if not (work.output / RESULTS).is_file():
        return False
    run = read_run(work.output)
    before, now = _decisive(run.get(CONFIG, {})), _decisive(as_json(as_data(asked(work.arguments))))
    differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if differing:
        told = ", ".join(f"{name} was {before.get(name)} and is {now.get(name)}" for name in differing)
        raise InputError(f"{work.output}: {told}: give what it was trained with, or another --output")
    if work.init is not None and (run.get("init") or {}).get("model_sha256") != model_sha256(work.init):
        raise InputError(f"{work.output}: started from other weights than {work.init} has now: give another --output")
    return True


def do(works: Sequence[Work], folder: Path, launch: Sequence[str], say: Callable[[str], None]) -> dict[str, float]:
    """Do all works, and say before each how long the rest may take.

    Args:
        works: in order.
        folder: for `SECONDS`; the processes' output is a file beside each work's.
        launch: what train.py is started with.
        say: prints a line.

    Returns:
        Seconds of each work by name, as far as known.

    Raises:
        InputError: one was done otherwise, or fails.
    """
    for work in works:
        asked(work.arguments)  # what is no option is refused now, and not after hours
    for number, work in enumerate(works, 1):
        place = f"[{number}/{len(works)}] {work.name}"
        if is_done(work):
            say(f"{place}: is there")
            continue
        begun = work.trains and (work.output / RUN).exists()
        left = time_left(works, number - 1, seconds_of(folder))
        rest = "" if left is None else f", about {max(1, round(left / 60))} min left"
        say(f"{place}{': goes on' if begun else ''}{rest}")
        with timed(folder, work.name):
            log = work.output.with_suffix(".log")
            command = [*launch, str(ROOT / "train.py"), *work.arguments, *(["--resume"] if begun else [])]
            start(command, log)
    return seconds_of(folder)


def start(command: Sequence[str], log: Path) -> None:
    """Run a program to its end; what it prints is added to a file.

    Raises:
        InputError: it fails. Its last line of error is told.
    """
    with log.open("ab") as file:
        file.write(f"$ {shlex.join(command)}\n".encode())
        file.flush()
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        with _ended_with(process):
            status = process.wait()
    if status:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        why = (errors or lines)[-1] if status > 0 else f"ended by {signal.Signals(-status).name}"
        raise InputError(f"{log.stem}: {why}: see {log}; the same command goes on from here")


def seconds_of(folder: Path) -> dict[str, float]:
    """What each stage took, in the order in which they ended."""
    path = folder / SECONDS
    if not path.is_file():
        return {}
    try:
        found = {str(name): float(value) for name, value in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not what stages took ({error}): remove it") from error
    return found


@contextmanager
def timed(folder: Path, name: str) -> Iterator[None]:
    """Within it a stage is done; what it takes is added to what it took in attempts before that failed."""
    began = time.monotonic()
    try:
        yield
    finally:
        known = seconds_of(folder)
        known[name] = round(known.pop(name, 0.0) + time.monotonic() - began, 1)
        write_atomically(folder / SECONDS, (json.dumps(known, indent=1) + "\n").encode())


@contextmanager
def _ended_with(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Within it a process that is told to end takes this one with it, after its checkpoint."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if process.poll() is None:
            # A launcher that is told to end does not tell its own process.
            of_launcher = psutil.Process(process.pid).children(recursive=True)
            for one in (*of_launcher, process):
                with suppress(psutil.NoSuchProcess):
                    one.terminate()
            psutil.wait_procs(of_launcher, timeout=60)
            process.wait()
        signal.signal(signal.SIGTERM, before)


def time_left(works: Sequence[Work], place: int, seconds: Mapping[str, float]) -> float | None:
    """Seconds that works from a place on may take: each as those of its kind did, or of any where none of its kind did.

    None where nothing is known.
    """
    by_kind: dict[str, list[float]] = {}
    for work in works[:place]:
        if work.name in seconds:
            by_kind.setdefault(work.kind, []).append(seconds[work.name])
    means = {kind: sum(of) / len(of) for kind, of in by_kind.items()}
    if not means:
        return None
    of_any = sum(means.values()) / len(means)
    return sum(means.get(work.kind, of_any) for work in works[place:])


def _decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide what comes of a run, by their names."""
    found: dict[str, Any] = {}
    for group, values in config.items():
        if group not in _FREE:
            found |= values if isinstance(values, dict) else {group: values}
    return found


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))

"""Processes that are forked from one that has imported what ``train.py`` imports.

They are processes of their own, to be killed, signalled and awaited as those that somebody starts; each is there at
once, and not after the five seconds of a core in which torch and the rest are imported.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
#: One thread: sums have one order, so that runs can be compared bit by bit.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
_IMPORTED = ["train", "torch._dynamo", "torch.utils.tensorboard", "pytest", "hypothesis"]


@cache
def context() -> ForkServerContext:
    """One server for all tests of a process: it is started with the first process that is asked of it."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(_IMPORTED)
    return found


class Forked:
    """A running process, used as `subprocess.Popen` is with pipes of text."""

    def __init__(self, function: Callable[..., object], *given: object, environment: Mapping[str, str]) -> None:
        """Calls a function of a module's top level with what can be pickled."""
        self._folder = tempfile.TemporaryDirectory()
        self._said = [Path(self._folder.name) / name for name in ("out", "err")]
        for path in self._said:
            path.touch()
        arguments = (function, given, dict(environment), *map(str, self._said))
        self._process: ForkServerProcess = context().Process(target=_run, args=arguments, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None as long as it runs; −9 where it was killed."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """To it, if it still runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """As by ``kill -9``."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; returns what it has said on its standard output and error."""
        self._process.join(timeout)
        if self.returncode is None:
            assert timeout is not None
            self.kill()
            raise subprocess.TimeoutExpired("forked process", timeout)
        out, err = (path.read_text() for path in self._said)
        return out, err


def train(arguments: Sequence[object], environment: Mapping[str, str] = ENVIRONMENT) -> Forked:
    """``train.py`` with these arguments."""
    return Forked(_train, list(map(str, arguments)), environment=environment)


def rank_environments(ranks: int) -> list[dict[str, str]]:
    """What torchrun says to so many processes of one training."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    return [
        {**ENVIRONMENT, **{name: str(value) for name, value in (shared | {"RANK": rank, "LOCAL_RANK": rank}).items()}}
        for rank in range(ranks)
    ]


def execute(source: str, *arguments: object, environment: Mapping[str, str] = ENVIRONMENT) -> Forked:
    """A script, with its arguments from ``sys.argv[1]`` on."""
    return Forked(_execute, source, list(map(str, arguments)), environment=environment)


def _run(
    function: Callable[..., object], given: Sequence[Any], environment: dict[str, str], out: str, err: str
) -> None:
    import torch

    for path, descriptor in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path not in sys.path]
    torch.set_num_threads(1)
    function(*given)


def _train(arguments: list[str]) -> None:
    import train

    sys.argv = ["train.py", *arguments]
    train.main()


def _execute(source: str, arguments: list[str]) -> None:
    sys.argv = ["-c", *arguments]
    exec(source, {"__name__": "__main__"})

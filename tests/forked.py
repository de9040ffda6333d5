"""Processes that are forked from one that has imported what ``train.py`` imports.

They are processes of their own, to be killed, signalled and awaited as those that somebody starts; each is there at
once, and not after the five seconds of a core in which torch and the rest are imported.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[1]
#: One thread: sums have one order, so that runs can be compared bit by bit.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
_IMPORTED = ["train", "torch._dynamo", "torch.utils.tensorboard", "pytest", "hypothesis", "sharding.build", "s3fs"]
_OURS = {"loaders", "models", "sharding", "train"}
_PATIENCE = 60.0  # seconds until something that should be said counts as missing


@cache
def context() -> ForkServerContext:
    """One server for all tests of a process: it is started with the first process that is asked of it."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(_IMPORTED)
    return found


class Forked:
    """A running process, used as `subprocess.Popen` is with pipes of text."""

    def __init__(
        self, function: Callable[..., object], *given: object, environment: Mapping[str, str], session: bool = False
    ) -> None:
        """Calls a function of a module's top level with what can be pickled.

        With ``session`` in a session of its own, which ends with it where it is killed.
        """
        self._session = session
        self._folder = tempfile.TemporaryDirectory()
        self._said = [Path(self._folder.name) / name for name in ("out", "err")]
        for path in self._said:
            path.touch()
        arguments = (function, given, dict(environment), *map(str, self._said), session)
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
            with suppress(ProcessLookupError):  # it has ended, and whoever has awaited it has not said so yet
                os.kill(self.pid, number)

    def kill(self) -> None:
        """As by ``kill -9``; of all of its session where it has one."""
        if self._session and self.returncode is None:
            with suppress(ProcessLookupError):  # it has not come to that yet
                os.killpg(self.pid, signal.SIGKILL)
        self.send_signal(signal.SIGKILL)

    def lines(self, count: int) -> list[str]:
        """The first so many lines that it says on its standard output, when it has said them."""
        until = time.monotonic() + _PATIENCE
        while True:
            ended = self.returncode is not None
            whole = self._said[0].read_text().split("\n")[:-1]
            if len(whole) >= count:
                return whole[:count]
            assert not ended, self._said[1].read_text()
            assert time.monotonic() < until, f"{len(whole)} lines of {count} were said"
            time.sleep(0.01)

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


def script(command: Sequence[object], environment: Mapping[str, str] = ENVIRONMENT, *, session: bool = False) -> Forked:
    """``python`` with a script of this folder and its arguments."""
    return Forked(_script, list(map(str, command)), environment=environment, session=session)


def launched(arguments: Sequence[object], environment: Mapping[str, str] = ENVIRONMENT) -> Forked:
    """``accelerate launch train.py`` with these arguments, by one process in float32 that the launcher forks."""
    command = [*("--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")]
    return Forked(_launch, [*command, "train.py", *map(str, arguments)], environment=environment)


def torchrun(command: Sequence[object], environment: Mapping[str, str] = ENVIRONMENT, ranks: int = 2) -> Forked:
    """``torchrun --standalone`` with this script and its arguments, by so many processes that it forks."""
    given = (list(map(str, command)), dict(environment), ranks)
    return Forked(_torchrun, *given, environment=environment, session=True)


def elsewhere(house: Path, command: Sequence[object], environment: Mapping[str, str]) -> Forked:
    """``python`` with a script or ``-c``, in a folder that has packages of our names: it finds those, and not ours."""
    return Forked(_elsewhere, str(house), list(map(str, command)), environment=environment)


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


def of_two_ranks(source: str, meet: Path, *arguments: object, patience: float = 120.0) -> list[tuple[str, str]]:
    """What a script says, and complains of, in each of two processes that end well within so many seconds.

    ``sys.argv`` has the file by which they find each other, the rank, and the arguments.
    """
    said = []
    for each in [execute(source, meet, rank, *arguments) for rank in range(2)]:
        out, err = each.communicate(timeout=patience)
        assert each.returncode == 0, err
        said.append((out, err))
    return said


def _run(
    function: Callable[..., object],
    given: Sequence[Any],
    environment: dict[str, str],
    out: str,
    err: str,
    session: bool,
) -> None:
    if session:
        os.setsid()
    # Ctrl-C and a hang-up are heard, also where these tests run by nohup or in a shell's background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    multiprocessing.current_process().daemon = False  # one that is may start no others
    multiprocessing.set_start_method(None, force=True)  # it starts them as any process does
    _settle(environment, out, err)
    function(*given)


def _settle(environment: Mapping[str, str], out: str, err: str) -> None:
    """As a process that was started so begins; of what the server has nothing is left."""
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


def _train(arguments: list[str]) -> None:
    import train

    sys.argv = ["train.py", *arguments]
    train.main()


def _execute(source: str, arguments: list[str]) -> None:
    sys.argv = ["-c", *arguments]
    exec(source, {"__name__": "__main__"})


def _script(command: list[str]) -> None:
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")


def _launch(arguments: list[str]) -> None:
    from accelerate.commands import launch

    def here(args: Any) -> None:
        """In place of `launch.simple_launcher`: what it would start, with the environment that it would give."""
        command, environment = launch.prepare_simple_launcher_cmd_env(args)
        assert command[0] == sys.executable
        os.environ.update(environment)
        _script(command[1:])

    with mock.patch.object(launch, "simple_launcher", here):
        launch.launch_command(launch.launch_command_parser().parse_args(arguments))


def _torchrun(command: list[str], environment: dict[str, str], ranks: int) -> None:
    from torch.distributed import run

    launch = run.elastic_launch
    said = [str(Path(f"/proc/self/fd/{descriptor}").readlink()) for descriptor in (1, 2)]

    def forking(config: Any, entrypoint: object) -> Callable[..., object]:
        """In place of `run.elastic_launch`: a function instead of a program."""
        return lambda *_: launch(config, _rank)(command, environment, *said)

    with mock.patch.object(run, "elastic_launch", forking):
        run.main(["--standalone", f"--nproc-per-node={ranks}", "--start-method=fork", *command])


def _rank(command: list[str], environment: dict[str, str], out: str, err: str) -> None:
    announced = {name: os.environ[name] for name in os.environ if name not in environment}
    _settle(announced | environment, out, err)
    _script(command)


def _elsewhere(house: str, command: list[str]) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] in _OURS:
            del sys.modules[name]
    os.chdir(house)
    sys.path[:] = [house, *(path for path in sys.path if path not in ("", str(ROOT)))]
    if command[0] == "-c":
        _execute(command[1], command[2:])
    else:
        _script(command)

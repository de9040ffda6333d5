"""Where the work of a build runs: an engine does jobs; the one of this file, in processes on this machine.

No worker outlives the process that started it, however that ends: the kernel kills it then. Who stops early, for an
error, Ctrl-C or SIGTERM, kills its workers at once: whatever they write is whole or absent.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Protocol, TypeVar

J = TypeVar("J")
R = TypeVar("R")

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_OWN_SIGNAL = 0.3  # seconds in which a signal that was sent to workers and to this process reaches this one too


class WorkerDiedError(Exception):
    """A worker process ended without an answer: killed, or out of memory."""


class Engine(Protocol):
    """Runs jobs somewhere. What a job does, and how its results are used, is the same for every engine."""

    def run(self, function: Callable[[J], R], jobs: Sequence[J]) -> Iterator[R]:
        """The results of ``function`` over ``jobs``, in the order in which they are done.

        Args:
            function: importable by name, as are its argument's and result's types; a job that is done twice, because
                its worker died, must end as if it were done once.
            jobs: one call each.

        Raises:
            WorkerDiedError: a process was killed, and the engine gave up. Whatever ``function`` raises is raised here.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEngine:
    """Processes on this machine."""

    workers: int  #: 1 runs the jobs in this process

    def run(self, function: Callable[[J], R], jobs: Sequence[J]) -> Iterator[R]:
        """See `Engine.run`."""
        return run(function, jobs, workers=self.workers)


def run(function: Callable[[J], R], jobs: Sequence[J], *, workers: int) -> Iterator[R]:
    """The results of ``function`` over ``jobs``, in the order in which they are done.

    Args:
        function: importable by name, as are its argument's and result's types.
        jobs: one call each.
        workers: processes; 1 runs them in this one. With more, the thread that asks for the first result must live
            until the last one: the kernel ties the workers to it.

    Raises:
        WorkerDiedError: a process was killed. Whatever ``function`` raises is raised here.
    """
    if workers == 1 or len(jobs) <= 1:
        yield from map(function, jobs)
        return
    started = _Recorded()
    # What is held back here the processes that are started inherit: Ctrl-C and a closed terminal reach all of them, and
    # to end them is this process' affair. (Of Ctrl-C, multiprocessing's tracker of resources takes care itself.)
    with _held_back(signal.SIGHUP):
        pool = ProcessPoolExecutor(
            min(workers, len(jobs)), mp_context=started, initializer=end_with_parent, initargs=(os.getpid(),)
        )
    try:
        with _held_back(signal.SIGINT, signal.SIGHUP):
            waiting: set[Future[R]] = {pool.submit(function, job) for job in jobs}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BaseException as error:
        for process in started.processes:
            if process.pid is not None:
                process.kill()  # a worker that is stopped would not mind less
        if isinstance(error, BrokenProcessPool):
            time.sleep(_OWN_SIGNAL)  # a scheduler signals all processes of a job: then this one ends by the signal
            raise WorkerDiedError("a worker process died: was it killed, or is the memory used up?") from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class _Recorded(SpawnContext):
    """Starts processes, and knows them. They are not forked: a copy of a process that has threads may hold their locks
    for ever."""

    def __init__(self) -> None:
        self.processes: list[SpawnProcess] = []

    def Process(self, *args: Any, **options: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        process = SpawnProcess(*args, **options)
        self.processes.append(process)
        return process


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process when the thread that started it ends, or its process does; at once if it has.

    Args:
        parent: number of the process that started this one.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != parent:  # it ended before this one asked
        os._exit(1)


@contextmanager
def _held_back(*numbers: signal.Signals) -> Iterator[None]:
    """Hold signals back from this thread, and from the processes that it starts meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def default_workers() -> int:
    """As many as this process may use cores."""
    return len(os.sched_getaffinity(0))

"""Where the work of a build runs: an engine does jobs; the one of this file, in processes on this machine."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Protocol, TypeVar

J = TypeVar("J")
R = TypeVar("R")


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
        workers: processes; 1 runs them in this one.

    Raises:
        WorkerDiedError: a process was killed. Whatever ``function`` raises is raised here.
    """
    if workers == 1 or len(jobs) <= 1:
        yield from map(function, jobs)
        return
    # Not forked: a copy of a process that has threads may hold their locks for ever.
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(function, job) for job in jobs}
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise WorkerDiedError("a worker process died: was it killed, or is the memory used up?") from error
        finally:
            for future in waiting:
                future.cancel()


def default_workers() -> int:
    """As many as this process may use cores."""
    return len(os.sched_getaffinity(0))

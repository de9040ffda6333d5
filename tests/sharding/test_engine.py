"""Where work runs: every job once, in any number of processes."""

import math
import os

import pytest

from sharding.engine import WorkerDiedError, default_workers, run


def die(code: int) -> None:
    os._exit(code)


@pytest.mark.parametrize(("workers", "jobs"), [(1, 5), (2, 5), (8, 2), (2, 1), (2, 0), (1, 0)])
def test_every_job_is_done_once(workers: int, jobs: int) -> None:
    assert sorted(run(math.sqrt, [n * n for n in range(jobs)], workers=workers)) == list(map(float, range(jobs)))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_job_raises_is_raised(workers: int) -> None:
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        list(run(math.sqrt, [1.0, -1.0, 4.0], workers=workers))


def test_a_worker_that_is_killed_is_told() -> None:
    with pytest.raises(WorkerDiedError, match="killed"):
        list(run(die, [1, 1, 1], workers=2))


def test_as_many_workers_as_cores() -> None:
    assert 1 <= default_workers() <= (os.cpu_count() or 1)

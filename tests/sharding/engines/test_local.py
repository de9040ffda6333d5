"""Where work runs: every job once, in any number of processes."""

import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sharding.engines.local import WorkerDiedError, default_workers, run
from tests.processes import children, ended

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


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


def fall_asleep(folder: Path) -> None:
    """Tell one's number, then take long; a thread works on meanwhile, as a decoder's does."""
    threading.Thread(target=time.sleep, args=(60,)).start()
    (folder / str(os.getpid())).touch()
    time.sleep(60)


def asleep(folder: Path, count: int) -> set[int]:
    """The workers, when so many of them are at work."""
    until = time.monotonic() + 20
    while len(found := {int(path.name) for path in folder.iterdir()}) < count:
        assert time.monotonic() < until
        time.sleep(0.01)
    return found


PARENT = """
import sys
from pathlib import Path
from sharding.engines.local import run
from tests.sharding.engines.test_local import fall_asleep
if __name__ == "__main__":
    list(run(fall_asleep, [Path(sys.argv[1])] * 3, workers=2))
"""


@pytest.mark.parametrize("before", [False, True], ids=["at work", "starting"])
def test_no_worker_outlives_a_parent_that_is_killed(tmp_path: Path, before: bool) -> None:
    """With -9, alone, of which it can tell nobody: workers at work, and workers that have not come to it."""
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "pids").mkdir()
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py", tmp_path / "pids"], env=ENVIRONMENT)
    if before:
        until = time.monotonic() + 20
        while len(children(parent.pid)) < 3:  # two workers and multiprocessing's tracker of resources
            assert time.monotonic() < until
    else:
        asleep(tmp_path / "pids", 2)
    there = children(parent.pid)
    assert len(there) >= 3
    parent.kill()
    parent.wait()
    ended(there)


def test_who_stops_early_ends_its_workers_at_once(tmp_path: Path) -> None:
    """A job that fails, and a consumer that has enough: nobody waits for jobs that take long."""
    began = time.monotonic()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(FileNotFoundError):
        list(run(fail_beside_a_sleeper, [(tmp_path / "a", False), (tmp_path / "a", True)], workers=2))
    ended(asleep(tmp_path / "a", 1))
    results = run(fall_asleep_unless_first, [(tmp_path / "b", n) for n in range(2)], workers=2)
    next(results)
    results.close()
    ended(asleep(tmp_path / "b", 1))
    assert time.monotonic() - began < 30


def fail_beside_a_sleeper(job: tuple[Path, bool]) -> None:
    folder, fails = job
    if not fails:
        fall_asleep(folder)
    asleep(folder, 1)
    raise FileNotFoundError(2, "No such file or directory", "x")


def fall_asleep_unless_first(job: tuple[Path, int]) -> int:
    folder, number = job
    if number:
        fall_asleep(folder)
    asleep(folder, 1)
    return number

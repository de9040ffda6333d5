"""Named pipes among sources: whoever opens one waits for a writer, and none comes."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")


def pipe(path: Path) -> Path:
    """A named pipe in the place of whatever is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def without_waiting(pipes: list[Path], call: Callable[[], T], patience: float = 20.0) -> T:
    """What ``call`` returns; a failure where it waits for one of the pipes."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(call)
        try:
            return future.result(patience)
        except TimeoutError:
            writers = []
            while not future.done():  # let it go, so that the test ends
                writers += [os.open(path, os.O_RDWR | os.O_NONBLOCK) for path in pipes]
                for writer in writers:
                    os.close(writer)
                writers.clear()
            pytest.fail("it waits for somebody to write into a pipe")

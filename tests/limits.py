"""What a process may have, set lower than usual, so that a small test meets the limits of a large run."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def open_files() -> list[Path]:
    """What this process holds open: files by their paths, the rest by what /proc calls it."""
    # One of them was the folder itself, and is closed by now.
    return [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]


@contextmanager
def at_most_open_files(count: int) -> Iterator[None]:
    """Within the block, opening more files fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def unprivileged() -> Iterator[None]:
    """Within the block, root may do no more than others."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)

"""Processes that a test waits for: that they have started, that they have ended."""

import time
from collections.abc import Iterable
from pathlib import Path

_PATIENCE = 20.0


def started(told: Path) -> list[int]:
    """The process numbers that something writes into a file, when it has."""
    until = time.monotonic() + _PATIENCE
    while not told.exists() or not told.read_text():
        assert time.monotonic() < until, f"{told}: nothing was told"
        time.sleep(0.01)
    return [int(number) for number in told.read_text().split()]


def is_running(process: int) -> bool:
    """Whether a process is there, and not only waiting to be reaped."""
    try:
        return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def children(process: int) -> set[int]:
    """The processes that a process has started and that are running, its children's children too."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                parents[int(folder.name)] = int(fields[1])
            except OSError:
                continue
    found: set[int] = set()
    new = {process}
    while new:
        new = {child for child, parent in parents.items() if parent in new and child not in found}
        found |= new
    return {child for child in found if is_running(child)}


def ended(processes: Iterable[int], seconds: float = 5.0) -> None:
    """Fail where one of the processes is running still after so many seconds."""
    until = time.monotonic() + seconds
    left = set(processes)
    while left := {process for process in left if is_running(process)}:
        assert time.monotonic() < until, f"processes {sorted(left)} are running still"
        time.sleep(0.01)

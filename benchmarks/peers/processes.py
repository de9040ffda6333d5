"""Time on the processor and memory of a process with all that it started, from Linux's /proc."""

import os
import resource
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int | None = None) -> list[int]:
    """A process, by default this one, and all below it."""
    pid = os.getpid() if pid is None else pid
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            children = (task / "children").read_text().split()
        except OSError:  # the thread has ended
            continue
        for child in children:
            found += tree(int(child))
    return found


def cpu_seconds() -> float:
    """Of this process and those below it, also of such as have ended and were waited for."""
    # Of this one to the microsecond: the others' are told in hundredths of a second.
    own = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    ticks = 0
    for pid in tree()[1:]:
        try:
            # The name may hold blanks and brackets: what follows its last bracket is plain.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return sum(usage.ru_utime + usage.ru_stime for usage in own) + ticks / _TICKS


def memory_mb() -> float:
    """10⁶ bytes that this process and those below it hold now, what they share counted once.

    Pages of files are left out: the kernel takes those back when it needs room.
    """
    total = 0
    for pid in tree():
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return total * 1024 / 1e6

"""One build at a time into one URL: a lock object, put on the condition that there is none.

S3 and what follows it decide such a put atomically. On a store that ignores the condition two builds that start in the
same moment may both believe in their lock; each asks again before every upload, so that the one whose lock was
overwritten stops. A build that is killed leaves its lock behind: on the same machine it is seen that its process is
gone, and the lock is taken over; from elsewhere it must be broken by the holder's name.
"""

import json
import os
import re
import secrets
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from loaders.errors import InputError
from sharding.packing.writer import WORK_FOLDER
from sharding.sources.store import Store

LOCK = f"{WORK_FOLDER}/lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The build that holds a lock."""

    host: str
    machine: str  #: tells boots and containers apart: process numbers are of one of them
    process: int
    started: str  #: of the process, in ticks since the boot: numbers come again
    since: str
    token: str  #: unlike any other lock's

    @property
    def name(self) -> str:
        """By which people call it."""
        return f"{self.host}-{self.process}-{self.token[:8]}"

    @classmethod
    def this_process(cls) -> "Holder":
        """This one, with a token of its own."""
        return cls(
            host=socket.gethostname(),
            machine=_machine(),
            process=os.getpid(),
            started=_started(os.getpid()) or "",
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            token=secrets.token_hex(16),
        )

    @property
    def is_gone(self) -> bool:
        """Whether it was a process of this machine that has ended. False where that cannot be known from here."""
        return self.machine == _machine() != "" and _started(self.process) != self.started


def acquire(store: Store, break_lock: str | None = None) -> tuple[Holder, Holder | None]:
    """Take the lock.

    Args:
        store: the dataset's.
        break_lock: name of a holder that is known to be dead.

    Returns:
        This build as the holder, and the dead one whose place it takes, if any.

    Raises:
        InputError: another build holds it.
    """
    own = Holder.this_process()
    dead: Holder | None = None
    for _ in range(8):  # whoever is faster may take what was let go
        store.put_new(json.dumps(asdict(own)).encode(), LOCK)
        holder = holder_of(store)
        if holder == own:
            return own, dead
        if holder is None:
            continue
        if not holder.is_gone and holder.name != break_lock:
            break
        dead = holder
        store.remove([LOCK])
    name = "another build" if holder is None else f"{holder.name}, since {holder.since},"
    mend = "" if holder is None else f"; if it is dead, run again with --break-lock {holder.name}"
    raise InputError(
        store.url, f"{name} is at work there", f"wait for it, or give another --output{mend}", try_again=True
    )


def holder_of(store: Store) -> Holder | None:
    """Who holds the lock; None where nobody does.

    Raises:
        InputError: the lock is not to be understood.
    """
    data = store.get(LOCK)
    if data is None:
        return None
    try:
        holder = Holder(**json.loads(data))
        # Folders are removed by it: whoever wrote the lock must not lead them anywhere.
        if not (isinstance(holder.token, str) and re.fullmatch(r"[0-9a-f]{32}", holder.token)):
            raise ValueError("no token of a lock")
        return holder
    except (ValueError, TypeError) as error:
        raise InputError(f"{store.url}/{LOCK}: no lock of a build: see what it is, and remove it") from error


def require_held(store: Store, token: str) -> None:
    """Raise InputError where the lock is no longer the one with this token."""
    holder = holder_of(store)
    if holder is None or holder.token != token:
        by = "is gone" if holder is None else f"was taken by {holder.name}"
        mend = "let one build alone work there, and run it again"
        raise InputError(store.url, f"this build's lock {by}", mend, try_again=True)


def release(store: Store, token: str) -> None:
    """Let the lock go, if it is still the one with this token."""
    holder = holder_of(store)
    if holder is not None and holder.token == token:
        store.remove([LOCK])


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(process: int) -> str | None:
    """When a process began; None where there is none, or it is only waiting to be reaped."""
    try:
        # The name stands in brackets and may hold anything; the state follows it, and 19 fields on the start time.
        fields = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]

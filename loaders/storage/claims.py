"""Who may use how much of a folder of shards that loaders and processes share.

Every cache on the folder is a *holder*. Two files tell the others of it, and both die with its process, for what counts
is that they are locked (flock), not that they are there:

    filmstrip.holders/<token>.holder   locked while the holder lives: what it needs, and whether its claim holds
    filmstrip.holders/<token>.step     locked while a step's shards are being read

A *claim* is on all the shards that a step is read from, at once: it is granted where the claims that hold leave room
for it, or not at all. So nobody waits with a part of what it needs in its hands, and as long as every one of them fits
by itself, all of them are served. A claim goes on holding between steps, and a loader that is paused keeps its shards;
but who needs the room takes it: without asking where no step is being read, and otherwise at that step's end. Who waits
longest comes first.

Changes are made under ``filmstrip.lock`` alone; only its own holder reads a claim's first byte without that.
"""

import fcntl
import json
import os
import re
import socket
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from loaders.errors import InputError

#: Files of shards are the cache's own where they are named so; whatever else lies in the folder is none of its affair.
OWN = re.compile(r"([0-9a-f]{64})\.filmstrip\.(tar|part|lock)")
_GRANTED, _ASKED, _NONE = b"A", b"W", b"R"  # the claim holds; it does, and another waits for it; it does not
_ALIVE = 5.0  # seconds: who waits and has not said so for longer is stopped, and does not hold up others
_LOCK_SECONDS = 60.0  # for which the folder's lock is waited for: it is held for milliseconds
_NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """What a holder says of itself."""

    token: str
    pid: int
    host: str
    program: str
    capacity: int  #: bytes that it lets the folder take
    now: Mapping[str, int]  #: shards of the step that is read or waited for: SHA-256 → bytes
    soon: Mapping[str, int]  #: shards of the steps after that: a hint, which never keeps room from anybody's `now`
    ticket: int | None = None  #: its number among those that wait for a claim
    granted: bool = False  #: whether its claim holds
    waits: bool = False  #: whether it said within the last seconds that it waits

    def __str__(self) -> str:
        here = f"process {self.pid}" + (f" on {self.host}" if self.host != socket.gethostname() else "")
        return f"{here} ({self.program}): {len(self.now)} shards, {sum(self.now.values())} bytes"


def together(*claims: Mapping[str, int]) -> int:
    """Bytes that shards of several claims take, each counted once."""
    shards: dict[str, int] = {}
    for claim in claims:
        shards |= claim
    return sum(shards.values())


class Claims:
    """This holder's claim, and what is known of the others'. One thread reads steps; any may ask the rest."""

    def __init__(self, folder: Path, capacity: int) -> None:
        """
        Args:
            folder: on a local disk; made if it is not there.
            capacity: bytes that shards in the folder may take.

        Raises:
            InputError: it cannot be made or written.
        """
        self._folder = folder
        token = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._said = Holder(
            token=token,
            pid=os.getpid(),
            host=socket.gethostname(),
            program=Path(sys.argv[0] or "python").name,
            capacity=capacity,
            now=_NOTHING,
            soon=_NOTHING,
        )
        self._holders = folder / "filmstrip.holders"
        self._path, self._step_path = (self._holders / f"{token}.{kind}" for kind in ("holder", "step"))
        self._in_step = False
        try:
            self._holders.mkdir(parents=True, exist_ok=True)
            with self.locked():
                self._step = self._step_path.open("wb")
                self._file = self._path.open("w+b", buffering=0)
                fcntl.flock(self._file, fcntl.LOCK_EX)
                self._write(_NONE)
        except OSError as error:
            raise InputError(
                f"{folder}: {error.strerror}: give a cache folder that can be written, on a disk with room"
            ) from error

    # -- the folder's lock

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder: nobody else reserves room, evicts, or changes a claim.

        Raises:
            InputError: another process has held it for a minute.
        """
        with (self._folder / "filmstrip.lock").open("ab") as file:
            began, pause = time.monotonic(), 0.0005
            while not _try_lock(file):
                if time.monotonic() - began > _LOCK_SECONDS:
                    raise InputError(
                        f"{file.name}: another process has held it for {_LOCK_SECONDS:.0f} s: end the one that is "
                        "stopped (fuser tells which), or give another cache folder",
                        try_again=True,
                    )
                time.sleep(pause)
                pause = min(2 * pause, 0.02)
            yield

    # -- this holder's claim

    @property
    def holds(self) -> bool:
        """Whether the claim on `now` holds."""
        return self._state() != _NONE

    @property
    def is_asked_for(self) -> bool:
        """Whether another holder waits for this one's room."""
        return self._state() == _ASKED

    def say(self, now: Mapping[str, int], soon: Mapping[str, int]) -> None:
        """Publish what is needed, and claim it if there is room for it; otherwise `begin` will. Ends a step."""
        self.end()
        with self.locked():
            self._said = replace(self._said, now=dict(now), soon=dict(soon), ticket=None)
            self._write(_NONE)
            self._grant(ask=False)

    def begin(self) -> list[Holder]:
        """Begin to read a step, if the claim holds or can be granted; otherwise those that are in the way, or []."""
        if self._in_step:
            return []
        if self._state() == _GRANTED and _try_lock(self._step):
            # Between the look and the lock it may have been taken away, and from here on it cannot.
            if self._state() == _GRANTED:
                self._in_step = True
                return []
            fcntl.flock(self._step, fcntl.LOCK_UN)
        with self.locked():
            blockers = self._grant(ask=True)
            if not blockers:
                fcntl.flock(self._step, fcntl.LOCK_EX)  # others only try it, and only while they hold the folder
                self._in_step = True
            return blockers

    def end(self) -> None:
        """The step has been read: others may take the room."""
        if self._in_step:
            self._in_step = False
            fcntl.flock(self._step, fcntl.LOCK_UN)

    @property
    def in_step(self) -> bool:
        """Whether a step is being read."""
        return self._in_step

    def give_up(self) -> None:
        """No longer wait for a claim."""
        with self.locked():
            self._said = replace(self._said, ticket=None)
            self._write(self._state())

    def close(self) -> None:
        """Say nothing any more."""
        if not self._file.closed:
            self.end()
            for path in (self._path, self._step_path):
                path.unlink(missing_ok=True)
            self._file.close()
            self._step.close()

    # -- under the folder's lock

    def others(self) -> list[Holder]:
        """The other holders that live; what dead ones left is removed. The folder must be locked."""
        found = []
        for path in self._holders.glob("*.holder"):
            if path == self._path:
                continue
            with suppress(FileNotFoundError), path.open("rb") as file:
                if _try_lock(file):
                    path.unlink()
                    path.with_suffix(".step").unlink(missing_ok=True)
                    continue
                said, beat = file.read(), os.fstat(file.fileno()).st_mtime
                try:
                    found.append(_parse(said, path.stem, waits=abs(time.time() - beat) < _ALIVE))
                except (ValueError, KeyError, TypeError):
                    continue  # of another version: its files are taken for nobody's
        return found

    def mine(self) -> Holder:
        """What this holder says."""
        return replace(self._said, granted=self.holds)

    def _grant(self, *, ask: bool) -> list[Holder]:
        """Grant the claim, or name what is in the way. The folder must be locked.

        Args:
            ask: take a number, and have others make way.
        """
        me, others = self._said, self.others()
        if ask and me.ticket is None:
            numbers = [holder.ticket for holder in others if holder.ticket is not None]
            me = self._said = replace(me, ticket=max(numbers, default=0) + 1)
        earlier = [
            holder
            for holder in others
            if holder.ticket is not None
            and holder.waits
            and (me.ticket is None or (holder.ticket, holder.token) < (me.ticket, me.token))
        ]
        holding = {holder.token: holder for holder in others if holder.granted}
        ahead = [holder.now for holder in earlier]
        limit = min(me.capacity, *(holder.capacity for holder in earlier), me.capacity)
        # Who waits longer must find as much room afterwards as before. The first of the queue has others make way.
        for holder in sorted(holding.values(), key=lambda holder: holder.token) if ask and not earlier else ():
            if together(me.now, *(other.now for other in holding.values())) <= limit:
                break
            if self._take_from(holder):
                del holding[holder.token]
        if together(me.now, *ahead, *(other.now for other in holding.values())) <= limit:
            self._said = replace(me, ticket=None)
            self._write(_GRANTED)
            return []
        if ask:
            self._write(_NONE)
        return earlier or list(holding.values())

    def _take_from(self, holder: Holder) -> bool:
        """End another's claim, unless a step of it is being read: then it is asked to."""
        path = self._holders / f"{holder.token}.holder"
        with suppress(FileNotFoundError), path.with_suffix(".step").open("rb") as step:
            is_idle = _try_lock(step)
            with path.open("r+b", buffering=0) as file:
                os.pwrite(file.fileno(), _NONE if is_idle else _ASKED, 0)
            return is_idle
        return True

    def _state(self) -> bytes:
        return os.pread(self._file.fileno(), 1, 0)

    def _write(self, state: bytes) -> None:
        me = self._said
        body: dict[str, Any] = {
            "pid": me.pid,
            "host": me.host,
            "program": me.program,
            "capacity": me.capacity,
            "now": dict(me.now),
            "soon": dict(me.soon),
            "ticket": me.ticket,
        }
        data = state + json.dumps(body).encode()
        os.pwrite(self._file.fileno(), data, 0)  # first, for this holder's threads look at the first byte at any time
        os.ftruncate(self._file.fileno(), len(data))


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _parse(said: bytes, token: str, *, waits: bool) -> Holder:
    body = json.loads(said[1:])
    return Holder(
        token=token,
        pid=int(body["pid"]),
        host=str(body["host"]),
        program=str(body["program"]),
        capacity=int(body["capacity"]),
        now={str(sha256): int(size) for sha256, size in body["now"].items()},
        soon={str(sha256): int(size) for sha256, size in body["soon"].items()},
        ticket=None if body["ticket"] is None else int(body["ticket"]),
        granted=said[:1] in (_GRANTED, _ASKED),
        waits=waits,
    )

"""Shards of a remote dataset on a local disk: fetched whole before they are needed, checked, and evicted again.

Files are named by their SHA-256, so several datasets, loaders and processes of one machine may share a folder. All that
processes have to agree on is said with file locks, which the kernel lets go when a process dies:

    cache.lock        held while room is made and reserved, and while a .part becomes a .tar
    <sha256>.lock     held by the one process that fetches the shard; others wait for it
    <sha256>.part     a shard on its way; as long as the shard from the start, which reserves its room
    <sha256>.tar      a whole, checked shard; share-locked while open, and then never evicted
"""

import fcntl
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from loaders.errors import InputError
from loaders.eviction import fitting, make_room, next_to_fetch, room_for
from loaders.handoff import ClosedError
from loaders.shardfile import ShardFile

_log = logging.getLogger(__name__)
_STRAY = ""  # owner of shards that were opened without being wanted
_PATIENCE = 5.0  # seconds that `close` waits for requests under way
BLOCK = 8 << 20  #: bytes asked for at a time: a lying server cannot send more into memory
THREADS, ATTEMPTS, BACKOFF = 4, 8, 0.5  #: that fetch; for each shard; seconds before the second attempt
_LONGEST = 30.0  # seconds between attempts


@dataclass(frozen=True, slots=True)
class RemoteShard:
    """One shard: where it lies, and what its bytes are."""

    path: str  #: as the file system names it
    bytes: int
    sha256: str


class FileSystem(Protocol):
    """What is asked of an fsspec file system, by several threads."""

    # By keyword alone: s3fs has another argument in the place where other file systems have the start.
    def cat_file(self, path: str, *, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes of a range."""


@dataclass(slots=True)
class CacheCounts:
    """What a cache did, in this process."""

    hits: int = 0  #: shards opened that were on the disk already
    fetched: int = 0  #: shards fetched
    fetched_bytes: int = 0  #: bytes of these
    retries: int = 0  #: attempts that failed: refused, reset, stalled, cut short, or other bytes than declared
    wait: float = 0.0  #: seconds the reading thread waited for a shard: high means that the network is the slow side


def pause(attempt: int, backoff: float = BACKOFF) -> float:
    """Seconds to wait after the failure of attempt 0, 1, …: each time twice as long, up to a limit."""
    return min(_LONGEST, backoff * float(2**attempt))


class ShardCache:
    """A folder of shards with a size cap; the least recently used go first."""

    def __init__(
        self,
        file_system: FileSystem,
        folder: Path,
        capacity: int,
        *,
        threads: int = THREADS,
        attempts: int = ATTEMPTS,
        backoff: float = BACKOFF,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            file_system: where the shards are; used by several threads.
            folder: on a local disk; made if it is not there.
            capacity: bytes that shards in the folder may take, those on their way included.
            threads: that fetch.
            attempts: for each shard before giving up.
            backoff: seconds before the second attempt; doubled for each further one, at most 30.
            sleep: for tests.
        """
        self._file_system = file_system
        self._folder = folder
        self._capacity = capacity
        self._attempts, self._backoff, self._sleep = attempts, backoff, sleep
        folder.mkdir(parents=True, exist_ok=True)
        self._changed = threading.Condition()
        self._now: dict[str, list[RemoteShard]] = {}
        self._soon: dict[str, list[RemoteShard]] = {}
        self._fetching: set[str] = set()
        self._failed: dict[str, BaseException] = {}
        self._cancelled = False
        self._closed = False
        self._pins: dict[str, ShardFile] = {}
        self.counts = CacheCounts()
        self._threads: list[threading.Thread] = []
        self._number_of_threads = threads

    def want(self, owner: str, now: Sequence[RemoteShard], soon: Sequence[RemoteShard] = ()) -> None:
        """Say what an owner, a dataset say, needs now and after that; replaces what it said before.

        What it no longer wants is let go. Fetched is what fits: first what any owner needs now.

        Raises:
            InputError: what is needed now, by all owners, exceeds the capacity.
        """
        with self._changed:
            self._now.pop(_STRAY, None)
            self._now[owner], self._soon[owner] = list(now), list(soon)
            self._require_room()
            keep = {shard.sha256 for shards in self._now.values() for shard in shards}
            for sha256 in self._pins.keys() - keep:
                del self._pins[sha256]  # who still reads from it keeps it open, and locked
            # A shard that is here from an earlier cycle must not be the first to go.
            for shard in (*now, *soon):
                with suppress(OSError):
                    os.utime(self._path(shard, "tar"))
            self._start_threads()

    def open(self, shard: RemoteShard) -> ShardFile:
        """A shard to read from; waits until it is there.

        It is kept from eviction as long as an owner wants it; one that none does until the next `want`.

        Raises:
            InputError: it cannot be fetched, or there is no room for it beside what is wanted now.
            ClosedError: `cancel` or `close` was called.
        """
        if shard.sha256 in self._pins:
            return self._pins[shard.sha256]
        start = time.perf_counter()
        missed = False
        with self._changed:
            if not any(shard in shards for shards in self._now.values()):
                self._now[_STRAY] = [*self._now.get(_STRAY, []), shard]
                self._require_room()
                self._start_threads()
            while (pinned := self._pin(shard)) is None:
                missed = True
                error = self._failed.pop(shard.sha256, None)
                if error is not None:
                    why = str(error).splitlines()[0] if str(error) else type(error).__name__
                    raise InputError(f"{shard.path}: cannot be fetched ({why}): see to the store and resume") from error
                if self._cancelled or self._closed:
                    raise ClosedError
                self._changed.wait(0.1)  # another process may have fetched it
            self._pins[shard.sha256] = pinned
        self.counts.wait += time.perf_counter() - start
        self.counts.hits += not missed
        return pinned

    def cancel(self) -> None:
        """End a wait in `open`, now and until `go_on`."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def go_on(self) -> None:
        """After `cancel`: waits are allowed again."""
        with self._changed:
            self._cancelled = False

    def close(self) -> None:
        """Stop fetching and release everything; what is on the disk stays for the next run.

        A request that the store leaves without an answer for longer is not waited for: its thread ends with it.
        """
        with self._changed:
            self._closed = True
            self._now, self._soon = {}, {}
            self._changed.notify_all()
        until = time.monotonic() + _PATIENCE
        for thread in self._threads:
            # The collector of cycles may find the loader in one of these very threads.
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))
        self._pins.clear()

    def _require_room(self) -> None:
        needed = room_for(self._needed_now())
        if needed > self._capacity:
            raise InputError(
                f"cache_bytes is {self._capacity}, and shards of {needed} bytes are drawn from at a time: "
                "raise it, or lower shard_window"
            )

    def _needed_now(self) -> list[RemoteShard]:
        return [shard for shards in self._now.values() for shard in shards]

    def _needed_soon(self) -> list[RemoteShard]:
        return [shard for shards in self._soon.values() for shard in shards]

    def _start_threads(self) -> None:
        while len(self._threads) < self._number_of_threads and not self._closed:
            name = f"filmstrip-fetch-{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
            self._threads[-1].start()
        self._changed.notify_all()

    # -- on the disk

    def _path(self, shard: RemoteShard, suffix: str) -> Path:
        return self._folder / f"{shard.sha256}.{suffix}"

    def _pin(self, shard: RemoteShard) -> ShardFile | None:
        """Open the shard and keep it from eviction; None where it is not there."""
        path = self._path(shard, "tar")
        try:
            file = ShardFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            return None
        fcntl.flock(file, fcntl.LOCK_SH)
        # Between opening and locking, another process may have evicted it: the name is what counts.
        if not path.exists() or os.fstat(file.fileno()).st_size != shard.bytes:
            return None
        os.utime(path)
        return file

    @contextmanager
    def _locked(self, path: Path, *, wait: bool) -> Iterator[bool]:
        """Hold a lock file; yields whether it is held."""
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True

    def _reserve(self, shard: RemoteShard) -> bool:
        """Make room for a shard and reserve it as a .part file; False where all the room is in use."""
        with self._locked(self._folder / "cache.lock", wait=True):
            files: list[tuple[Path, os.stat_result]] = []
            for path in self._folder.iterdir():
                # A fetch that fails takes its .part away without the lock: that only leaves more room.
                with suppress(FileNotFoundError):
                    if path.suffix in (".tar", ".part"):
                        files.append((path, path.stat()))
            files.sort(key=lambda file: file[1].st_mtime)
            held = [(path, status.st_size) for path, status in files]
            if not make_room(held, size=shard.bytes, capacity=self._capacity, evict=self._evict):
                return False
            with self._path(shard, "part").open("wb") as part:
                part.truncate(shard.bytes)
            return True

    def _evict(self, path: Path) -> bool:
        """Remove a shard that nobody has open, or a part whose fetcher is dead."""
        if path.suffix == ".part":
            with self._locked(path.with_suffix(".lock"), wait=False) as held:
                if held:
                    path.unlink(missing_ok=True)
                return held
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            path.unlink()  # not its .lock: who waits for that must wait for the same file as who comes next
        return True

    # -- fetching

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and self._next() is None:
                    self._changed.wait()
                shard = self._next()
                if self._closed or shard is None:
                    return
                self._fetching.add(shard.sha256)
            failure: BaseException | None = None
            try:
                self._fetch(shard)
            except Exception as error:  # of any library that a file system is made of
                failure = error
            with self._changed:
                self._fetching.discard(shard.sha256)
                if failure is not None:
                    self._failed[shard.sha256] = failure
                self._changed.notify_all()

    def _next(self) -> RemoteShard | None:
        """The soonest wanted shard that is not there, that nobody here is fetching, and that did not fail."""
        return next_to_fetch(
            self._needed_now(),
            self._needed_soon(),
            self._capacity,
            lambda shard: (
                shard.sha256 in self._fetching or shard.sha256 in self._failed or self._path(shard, "tar").exists()
            ),
        )

    def _is_wanted(self, shard: RemoteShard) -> bool:
        with self._changed:
            wanted = fitting(self._needed_now(), self._needed_soon(), self._capacity)
            return not self._closed and any(other.sha256 == shard.sha256 for other in wanted)

    def _fetch(self, shard: RemoteShard) -> None:
        """Bring a shard to the disk, unless another process does."""
        lock = self._path(shard, "lock")
        for attempt in range(self._attempts):
            tried = False
            while not tried:
                if not self._is_wanted(shard):
                    return
                with self._locked(lock, wait=False) as held:
                    if self._path(shard, "tar").exists():
                        return
                    if held and self._reserve(shard):
                        tried = True
                        try:
                            self._download(shard)
                            return
                        except Exception as error:
                            with self._changed:
                                self.counts.retries += 1
                            if attempt == self._attempts - 1 or isinstance(error, FileNotFoundError):
                                raise
                            _log.info("%s: attempt %d failed: %s", shard.path, attempt + 1, error)
                        finally:
                            self._path(shard, "part").unlink(missing_ok=True)
                if not tried:
                    self._sleep(0.05)  # another process fetches it, or all the room is in use
            self._sleep(pause(attempt, self._backoff))

    def _download(self, shard: RemoteShard) -> None:
        part = self._path(shard, "part")
        digest = hashlib.sha256()
        with part.open("r+b") as target:
            for start in range(0, shard.bytes, BLOCK):
                if self._closed:
                    raise ClosedError
                end = min(start + BLOCK, shard.bytes)
                block = self._file_system.cat_file(shard.path, start=start, end=end)
                if len(block) != end - start:
                    raise OSError(f"{len(block)} bytes came where {end - start} were asked for")
                digest.update(block)
                target.write(block)
            target.flush()
            os.fsync(target.fileno())
        if digest.hexdigest() != shard.sha256:
            raise OSError("other bytes came than dataset.json declares")
        # Under the lock, for a file that is renamed while the folder is listed may be in the list under neither name.
        with self._locked(self._folder / "cache.lock", wait=True):
            part.replace(self._path(shard, "tar"))
        with self._changed:
            self.counts.fetched += 1
            self.counts.fetched_bytes += shard.bytes

"""Shards of a remote dataset on a local disk: fetched whole before they are needed, checked, and evicted again.

Files are named by their SHA-256, so several datasets, loaders and processes of one machine may share a folder. All that
processes have to agree on is said with file locks, which the kernel lets go when a process dies:

    cache.lock        held while room is made and reserved
    <sha256>.lock     held by the one process that fetches the shard; others wait for it
    <sha256>.part     a shard on its way; as long as the shard from the start, which reserves its room
    <sha256>.tar      a whole, checked shard; share-locked while mapped, and then never evicted
"""

import fcntl
import hashlib
import logging
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from loaders.errors import InputError

_log = logging.getLogger(__name__)
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class RemoteShard:
    """One shard: where it lies, and what its bytes are."""

    path: str  #: as the file system names it
    bytes: int
    sha256: str


class FileSystem(Protocol):
    """What is asked of an fsspec file system."""

    def open(self, path: str, mode: str, **options: Any) -> Any:
        """A file to read from."""


@dataclass(slots=True)
class CacheCounts:
    """What a cache did, in this process."""

    hits: int = 0  #: shards opened that were on the disk already
    fetched: int = 0  #: shards fetched
    fetched_bytes: int = 0  #: bytes of these
    retries: int = 0  #: attempts that failed: refused, reset, stalled, cut short, or other bytes than declared
    wait: float = 0.0  #: seconds the reading thread waited for a shard: high means that the network is the slow side


class ShardCache:
    """A folder of shards with a size cap; the least recently used go first."""

    def __init__(
        self,
        file_system: FileSystem,
        folder: Path,
        capacity: int,
        *,
        threads: int = 4,
        attempts: int = 8,
        backoff: float = 0.5,
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
        self._wanted: list[RemoteShard] = []
        self._fetching: set[str] = set()
        self._failed: dict[str, BaseException] = {}
        self._closed = False
        self._pins: dict[str, tuple[NDArray[np.uint8], BinaryIO]] = {}
        self.counts = CacheCounts()
        self._threads = [
            threading.Thread(target=self._work, name=f"filmstrip-fetch-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def want(self, shards: Sequence[RemoteShard]) -> None:
        """Say which shards will be needed, soonest first; replaces what was said before."""
        with self._changed:
            self._wanted = list(shards)
            self._changed.notify_all()

    def open(self, shard: RemoteShard) -> NDArray[np.uint8]:
        """The shard's bytes, mapped; waits until they are there. Until `release` the shard is not evicted.

        Raises:
            InputError: it cannot be fetched, or the cap is too small for what is in use.
        """
        if shard.sha256 in self._pins:
            return self._pins[shard.sha256][0]
        in_use = sum(len(mapped) for mapped, _ in self._pins.values()) + shard.bytes
        if in_use > self._capacity:
            raise InputError(f"cache_bytes is {self._capacity}, and {in_use} are in use at a time: raise it")
        start = time.perf_counter()
        missed = False
        while (pinned := self._pin(shard)) is None:
            missed = True
            with self._changed:
                if shard not in self._wanted:
                    self._wanted.insert(0, shard)
                    self._changed.notify_all()
                self._changed.wait(0.1)
                error = self._failed.pop(shard.sha256, None)
            if error is not None:
                raise InputError(f"{shard.path}: cannot be fetched ({error}): see to the network and resume") from error
        self.counts.wait += time.perf_counter() - start
        self.counts.hits += not missed
        self._pins[shard.sha256] = pinned
        return pinned[0]

    def release(self, shard: RemoteShard) -> None:
        """The shard is not needed any more, for now. Arrays that view it stay valid."""
        pinned = self._pins.pop(shard.sha256, None)
        if pinned is not None:
            pinned[1].close()

    def close(self) -> None:
        """Stop fetching and release everything; what is on the disk stays for the next run."""
        with self._changed:
            self._closed = True
            self._wanted = []
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for _, file in self._pins.values():
            file.close()
        self._pins.clear()

    # -- on the disk

    def _path(self, shard: RemoteShard, suffix: str) -> Path:
        return self._folder / f"{shard.sha256}.{suffix}"

    def _pin(self, shard: RemoteShard) -> tuple[NDArray[np.uint8], BinaryIO] | None:
        """Map the shard and keep it from eviction; None where it is not there."""
        path = self._path(shard, "tar")
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        fcntl.flock(file, fcntl.LOCK_SH)
        # Between opening and locking, another process may have evicted it: the name is what counts.
        if not path.exists() or os.fstat(file.fileno()).st_size != shard.bytes:
            file.close()
            return None
        os.utime(path)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8), file

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
            files = {path: path.stat() for path in self._folder.iterdir() if path.suffix in (".tar", ".part")}
            used = sum(status.st_size for status in files.values())
            for path, status in sorted(files.items(), key=lambda item: item[1].st_mtime):
                if used + shard.bytes <= self._capacity:
                    break
                if self._evict(path):
                    used -= status.st_size
            if used + shard.bytes > self._capacity:
                return False
            with self._path(shard, "part").open("wb") as part:
                part.truncate(shard.bytes)
            return True

    def _evict(self, path: Path) -> bool:
        """Remove a shard that nobody has mapped, or a part whose fetcher is dead."""
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
                while not self._closed and not self._next():
                    self._changed.wait()
                if self._closed:
                    return
                shard = self._next()
                assert shard is not None
                self._fetching.add(shard.sha256)
            failure: BaseException | None = None
            try:
                self._fetch(shard)
            except Exception as error:  # of any library that a file system is made of
                failure = error
            with self._changed:
                self._fetching.discard(shard.sha256)
                self._wanted = [wanted for wanted in self._wanted if wanted.sha256 != shard.sha256]
                if failure is not None and not self._closed:
                    self._failed[shard.sha256] = failure
                self._changed.notify_all()

    def _next(self) -> RemoteShard | None:
        """The soonest needed shard that nobody here is fetching and that is not there."""
        while self._wanted and self._path(self._wanted[0], "tar").exists():
            self._wanted.pop(0)
        return next(
            (s for s in self._wanted if s.sha256 not in self._fetching and not self._path(s, "tar").exists()), None
        )

    def _fetch(self, shard: RemoteShard) -> None:
        """Bring a shard to the disk, unless another process does."""
        if shard.bytes > self._capacity:
            raise InputError(f"the cache holds {self._capacity} bytes, the shard has {shard.bytes}: raise cache_bytes")
        lock = self._path(shard, "lock")
        for attempt in range(self._attempts):
            while not self._closed:
                with self._locked(lock, wait=False) as held:
                    if self._path(shard, "tar").exists():
                        return
                    if held and self._reserve(shard):
                        try:
                            self._download(shard)
                            return
                        except Exception as error:
                            self.counts.retries += 1
                            if attempt == self._attempts - 1:
                                raise
                            _log.info("%s: attempt %d failed: %s", shard.path, attempt + 1, error)
                            break
                        finally:
                            self._path(shard, "part").unlink(missing_ok=True)
                self._sleep(0.05)  # another process fetches it, or all the room is in use
            if self._closed:
                return
            self._sleep(min(30.0, self._backoff * 2**attempt))

    def _download(self, shard: RemoteShard) -> None:
        part = self._path(shard, "part")
        digest = hashlib.sha256()
        size = 0
        remote = self._file_system.open(shard.path, "rb", block_size=_BLOCK, cache_type="none")
        with remote as source, part.open("r+b") as target:
            while block := source.read(_BLOCK):
                size += len(block)
                if size > shard.bytes or self._closed:
                    break
                digest.update(block)
                target.write(block)
            target.flush()
            os.fsync(target.fileno())
        if size != shard.bytes or digest.hexdigest() != shard.sha256:
            raise OSError(f"{size} bytes came where {shard.bytes} were declared, or others than declared")
        part.replace(self._path(shard, "tar"))
        self.counts.fetched += 1
        self.counts.fetched_bytes += size

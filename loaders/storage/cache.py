"""Shards of a remote dataset on a local disk: fetched whole before they are needed, checked, and evicted again.

Files are named by their SHA-256, so several datasets, loaders and processes of one machine may share a folder:

    <sha256>.filmstrip.tar    a whole shard
    <sha256>.filmstrip.part   a shard on its way; as long as the shard from the start, which reserves its room
    <sha256>.filmstrip.lock   locked by the one thread that fetches the shard
    filmstrip.lock            locked while room is reserved, shards are evicted, and claims are made

Other files are not looked at. Who may use how much of the folder, `loaders.storage.claims` says; what is fetched and
evicted first, `loaders.storage.eviction`; when a request is made again, `loaders.storage.retry`. A shard that was
evicted while its file is open can still be read, but what is open takes up the disk: files are closed when another
holder takes the room.

Nothing here waits for ever: after ``patience`` seconds without progress, what is waited for and who is in the way is
the text of an InputError; a warning says it long before.
"""

import copy
import fcntl
import hashlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from loaders.errors import InputError, first_line
from loaders.storage.claims import OWN, Claims
from loaders.storage.eviction import fitting, make_room, room_for
from loaders.storage.retry import ATTEMPTS, LONGEST, PAUSE, is_lasting, pause
from loaders.storage.shardfile import ShardFile
from loaders.threads.handoff import ClosedError

_log = logging.getLogger(__name__)
_STRAY = ""  # owner of shards that were opened without being wanted
_CLOSING = 5.0  # seconds that `close` waits for requests under way
BLOCK = 8 << 20  #: bytes asked for at a time: a lying server cannot send more into memory
THREADS = 4  #: that fetch
PATIENCE = 600.0  #: seconds without progress after which who waits gives up
_FIRST_WORD, _NEXT_WORD = 5.0, 60.0  # seconds of waiting for room until it is said, and said again
_FIRST_WORD_OF_FETCHING = 30.0
_POLL = 0.05  # seconds
_TIDY = 0.5  # seconds between looks whether another holder has taken the room
_WANTED = 1.0  # seconds for which a request that others make room stands
_SWEEPS = 4  # over a step's shards: frames, sounds, gaze. More, and the capacity is too small for what is drawn from
_SPOILED = 3  # times that a shard may be damaged while it is waited for: more, and the disk is no place for it


@dataclass(frozen=True, slots=True)
class RemoteShard:
    """One shard: where it lies, and what its bytes are."""

    path: str  #: as the file system names it
    bytes: int
    sha256: str
    file_system: "FileSystem | None" = field(default=None, compare=False, repr=False)  #: None: the cache's


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
    damaged: int = 0  #: shards thrown away because their file was cut short or its bytes had changed
    wait: float = 0.0  #: seconds that reading threads waited for a shard: high means that the network is the slow side


@dataclass(slots=True)
class _Trouble:
    """A shard that could not be fetched so far."""

    failures: int = 0
    due: float = 0.0  #: not asked for again before
    why: str = ""  #: the last one failed, in a line
    error: Exception | None = None  #: the last one, where it is given up


class _SpoiledError(OSError):
    """What the store says is not what it should be."""


class ShardCache:
    """A folder of shards with a size cap; the least recently used go first.

    One thread at a time opens shards, those of a step within `step`; several steps may be read at once.
    """

    def __init__(
        self,
        file_system: FileSystem | None,
        folder: Path,
        capacity: int,
        *,
        threads: int = THREADS,
        attempts: int = ATTEMPTS,
        backoff: float = PAUSE,
        patience: float = PATIENCE,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        """
        Args:
            file_system: where the shards are that do not name one themselves; used by several threads.
            folder: on a local disk; made if it is not there. Files that are not of this program's naming stay.
            capacity: bytes that shards in the folder may take, those on their way included.
            threads: that fetch.
            attempts: for each shard before giving up.
            backoff: seconds before the second attempt, see `loaders.storage.retry.pause`.
            patience: seconds without progress after which a wait for a shard, or for room, ends with an error.
            sleep: for tests: waits between attempts, in pieces; where it is quicker than it should be, time flies.

        Raises:
            InputError: the folder cannot be written.
        """
        self._file_system = file_system
        self._folder = folder
        self._capacity = capacity
        self._attempts, self._backoff, self._patience, self._sleep = attempts, backoff, patience, sleep
        self._claims = Claims(folder, capacity)
        self._changed = threading.Condition()
        self._now: dict[str, list[RemoteShard]] = {}
        self._soon: dict[str, list[RemoteShard]] = {}
        self._part: dict[str, RemoteShard] = {}  # what is claimed of what is needed now: all of it, where it fits
        self._left: Counter[str] = Counter()  # what has left that part since `want` or in this step, and how often
        self._gone: set[str] = set()  # what has left it since `want`, in whatever step
        self._fetching: set[str] = set()
        self._trouble: dict[str, _Trouble] = {}
        self._postponed: dict[str, float] = {}  # no room, or another holder fetches it: until when
        self._verified: set[str] = set()  # whose bytes were looked at again while they were open
        self._cancelled = False
        self._closed = False
        self._steps = 0  # that are being read
        self._pins: dict[str, ShardFile] = {}
        self._due = float("inf")  # when the next wanted shard can be asked for, by `_clock`
        self._blocks = 0  # that came: a sign of progress
        self._flown = 0.0  # seconds that ``sleep`` did not take
        self._told_of_capacity = self._told_of_parts = False
        self.counts = CacheCounts()
        self._threads: list[threading.Thread] = []
        self._number_of_threads = threads

    def want(self, owner: str, now: Sequence[RemoteShard], soon: Sequence[RemoteShard] = ()) -> None:
        """Say what an owner, a dataset say, needs now and after that; replaces what it said before.

        What it no longer wants is let go. Fetched is what fits: first what any owner needs now.

        Where what is needed now, by all owners, exceeds the capacity, a part of it is claimed at a time, in its order,
        and another when that is opened: a step may draw from several windows, one after the other.

        Raises:
            InputError: the first shard alone exceeds the capacity.
        """
        with self._changed:
            self._now.pop(_STRAY, None)
            self._now[owner], self._soon[owner] = list(now), list(soon)
            self._left.clear()
            self._gone.clear()
            self._claim_from(None)
            for shard in now:
                # What could not be fetched ahead may have been so in an outage that is over.
                self._trouble.pop(shard.sha256, None)
            self._postponed.clear()
            # A shard that is here from an earlier cycle must not be the first to go.
            for shard in (*now, *soon):
                with suppress(OSError):
                    os.utime(self._path(shard.sha256, "tar"))
            self._start_threads()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Within the block, what is wanted now is kept from eviction, from the first `open` on.

        Several threads may be in it, unless another holder waits for the room, or only a part of what is needed fits.
        """
        with self._changed:
            # Each step ends by its own limits.
            while self._steps and (self._claims.is_asked_for or self._is_partial()) and not self._cancelled:
                self._changed.wait(_POLL)
            self._steps += 1
        try:
            yield
        finally:
            self._end_step()

    def open(self, shard: RemoteShard) -> ShardFile:
        """A shard to read from, at its declared length; waits until it is there.

        Who holds what is returned can read from it, whatever becomes of the cache; as long as it is held, it takes up
        the disk.

        Raises:
            InputError: it cannot be fetched, or there is no room for it and what is opened in turn with it, or nothing
                has moved for ``patience`` seconds.
            ClosedError: `cancel` or `close` was called.
        """
        if self._claims.in_step and shard.sha256 in self._pins:
            return self._pins[shard.sha256]
        start = time.perf_counter()
        missed = False
        with self._changed:
            self._steps += 1  # at least of this shard
        try:
            with self._changed:
                if not any(shard in shards for shards in self._now.values()):
                    self._now[_STRAY] = [*self._now.get(_STRAY, []), shard]
                if shard.sha256 not in self._part:
                    self._claim_from(shard)
                    self._start_threads()
            self._begin_step(shard)
            wait = _Wait(self._patience, _FIRST_WORD_OF_FETCHING)
            with self._changed:
                pinned = self._pins.get(shard.sha256)
                was_pinned, damaged = pinned is not None, self.counts.damaged
                while pinned is None and (pinned := self._pin(shard)) is None:
                    if self.counts.damaged - damaged >= _SPOILED:
                        path = self._path(shard.sha256, "tar")
                        raise InputError(f"{path}: damaged {_SPOILED} times in a row: see to the disk")
                    trouble = self._trouble.get(shard.sha256)
                    if not missed:
                        missed = True
                        # A failure of long ago, or while it was not needed, is no answer.
                        self._trouble.pop(shard.sha256, None)
                        self._postponed.pop(shard.sha256, None)
                        self._changed.notify_all()
                    elif trouble is not None and trouble.error is not None:
                        self._trouble.pop(shard.sha256)
                        raise self._given_up(shard, trouble.error) from trouble.error
                    if self._cancelled or self._closed:
                        raise ClosedError
                    word = wait.look(self._progress(shard), lambda: f"for {shard.path}, {self._where(shard)}")
                    if word is not None:
                        raise InputError(shard.path, word, "see to the store and the disk, and resume", try_again=True)
                    self._changed.notify_all()  # it may have been damaged, or evicted, since they looked
                    self._changed.wait(2 * _POLL)  # another process may have fetched it
                self._pins[shard.sha256] = pinned
        except OSError as error:
            raise InputError(f"{self._folder}: {first_line(error)}: see to the cache folder, and resume") from error
        finally:
            self._end_step(strays=False)
        self.counts.wait += time.perf_counter() - start
        self.counts.hits += not missed and not was_pinned
        return pinned

    def recheck(self, shard: RemoteShard) -> bool:
        """Whether the cached file of a shard, a part of which had not its checksum, was damaged; it is then gone.

        So a true answer means: open it again, it will be fetched; a false one, that the store has it so. The answer
        costs a look at all its bytes, once as long as the shard is open.
        """
        with self._changed:
            file = self._pins.get(shard.sha256) or self._pin(shard)
        if file is None:
            return True
        if shard.sha256 in self._verified:
            return False
        digest, at = hashlib.sha256(), 0
        while block := os.pread(file.fileno(), BLOCK, at):
            digest.update(block)
            at += len(block)
        if digest.hexdigest() == shard.sha256:
            self._verified.add(shard.sha256)
            return False
        self._throw_away(shard, file, "its bytes are no longer those that were fetched")
        with self._changed:
            if shard.sha256 in self._pins:
                self._unpin(shard.sha256)
        return True

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
            self._now, self._soon, self._part = {}, {}, {}
            self._changed.notify_all()
        until = time.monotonic() + _CLOSING
        for thread in self._threads:
            # The collector of cycles may find the loader in one of these very threads.
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))
        for sha256 in [*self._pins]:
            self._unpin(sha256)
        self._claims.close()

    # -- what is wanted

    def _claim_from(self, first: RemoteShard | None) -> None:
        """Claim what is needed now, or as much of it as fits from this shard on. Held: `_changed`."""
        needed = self._needed_now()
        start = 0 if first is None else needed.index(first)
        part = {shard.sha256: shard for shard in fitting([*needed[start:], *needed[:start]], (), self._capacity)}
        if (needed and not part) or (first is not None and self._left[first.sha256] > _SWEEPS):
            raise InputError(
                f"cache_bytes is {self._capacity}, and shards of {room_for(needed)} bytes are drawn from at a time: "
                "raise it, or lower shard_window"
            )
        if first is not None and first.sha256 in self._gone and not self._told_of_parts:
            self._told_of_parts = True
            _log.warning(
                "cache_bytes is %d, and shards of %d bytes are drawn from at a time: they are fetched again and again, "
                "which takes time and many requests: raise it, or lower shard_window",
                self._capacity,
                room_for(needed),
            )
        self._part = part
        gone = self._pins.keys() - part.keys()
        if self._is_partial():
            self._left.update(gone)
            self._gone |= gone
        for sha256 in gone:
            self._unpin(sha256)
        self._say()

    def _needed_now(self) -> list[RemoteShard]:
        return [shard for shards in self._now.values() for shard in shards]

    def _needed_soon(self) -> list[RemoteShard]:
        return [shard for shards in self._soon.values() for shard in shards]

    def _say(self) -> None:
        """Tell the other holders."""
        self._claims.say(
            {shard.sha256: shard.bytes for shard in self._part.values()},
            {shard.sha256: shard.bytes for shard in self._needed_soon()},
        )

    def _start_threads(self) -> None:
        while len(self._threads) < self._number_of_threads and not self._closed:
            name = f"filmstrip-fetch-{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
            self._threads[-1].start()
        self._changed.notify_all()

    # -- steps

    def _begin_step(self, shard: RemoteShard) -> None:
        """Wait until the claim holds."""
        wait = _Wait(self._patience, _FIRST_WORD)
        try:
            while blockers := self._claims.begin():
                with self._changed:
                    if self._cancelled or self._closed:
                        raise ClosedError
                names = "; ".join(map(str, blockers))
                word = wait.look(
                    tuple(holder.token for holder in blockers),
                    lambda: (
                        f"for room in {self._folder} for {shard.path} and what is read with it: of its "
                        f"{self._capacity} bytes hold or claim: {names}"  # noqa: B023 (called at once)
                    ),
                )
                if word is not None:
                    raise InputError(f"{word}: raise cache_bytes, or give each its own cache folder", try_again=True)
                time.sleep(_POLL / 2)
        except BaseException:
            with suppress(InputError, OSError):
                self._claims.give_up()
            raise
        with self._changed:
            # What lost its name to another holder still takes up the disk as long as it is open.
            for sha256 in [sha256 for sha256 in self._pins if not self._path(sha256, "tar").exists()]:
                self._unpin(sha256)
            self._changed.notify_all()

    def _is_partial(self) -> bool:
        return len(self._part) < len({shard.sha256 for shard in self._needed_now()})

    def _end_step(self, *, strays: bool = True) -> None:
        """A step has been read, or a shard alone, which then stays wanted."""
        with self._changed:
            self._steps -= 1
            if self._steps:
                return
            self._claims.end()
            self._changed.notify_all()
            if strays:
                self._left.clear()
                if self._now.pop(_STRAY, None) is not None and not self._closed:
                    self._claim_from(None)

    def _tidy(self) -> None:
        """Between steps, close what another holder has taken the room of."""
        if self._pins and not self._steps and not self._claims.holds:
            for sha256 in [*self._pins]:
                self._unpin(sha256)

    # -- on the disk

    def _path(self, sha256: str, suffix: str) -> Path:
        return self._folder / f"{sha256}.filmstrip.{suffix}"

    def _pin(self, shard: RemoteShard) -> ShardFile | None:
        """Open the shard; None where it is not there, or not whole and therefore thrown away."""
        path = self._path(shard.sha256, "tar")
        try:
            file = ShardFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            return None
        if file.nbytes != shard.bytes:
            self._throw_away(shard, file, f"{file.nbytes} of {shard.bytes} bytes are there")
            return None
        with suppress(OSError):
            os.utime(path)
        return file

    def _unpin(self, sha256: str) -> None:
        self._verified.discard(sha256)
        del self._pins[sha256]  # who still reads from it keeps it open

    def _throw_away(self, shard: RemoteShard, file: ShardFile, why: str) -> None:
        """Remove a damaged file, so that it is fetched again."""
        path = self._path(shard.sha256, "tar")
        with self._claims.locked(), suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):  # and not a better one in its place
                path.unlink()
        self.counts.damaged += 1
        _log.warning("%s: damaged (%s): thrown away and fetched again", path, why)

    @contextmanager
    def _locked(self, path: Path) -> Iterator[bool]:
        """Hold a lock file, if nobody else does; yields whether it is held."""
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def _reserve(self, shard: RemoteShard, *, needed: bool) -> bool:
        """Make room for a shard and reserve it as a .part file; False where there is none for it.

        What is not needed at once only takes the place of what no holder has named.
        """
        with self._claims.locked():
            if not needed and self._is_room_wanted():
                return False
            self._path(shard.sha256, "part").unlink(missing_ok=True)  # of a fetcher that died: its lock is this one's
            holders = [self._claims.mine(), *self._claims.others()]
            self._tell_of_capacity([holder.capacity for holder in holders])
            claimed = {sha256 for holder in holders if holder.granted for sha256 in holder.now}
            now = {sha256 for holder in holders for sha256 in holder.now}
            soon = {sha256 for holder in holders for sha256 in holder.soon}
            files: list[tuple[int, float, Path, int]] = []
            for path in self._folder.iterdir():
                match = OWN.fullmatch(path.name)
                if match is None or match[2] == "lock":
                    continue
                # A fetch that fails takes its .part away without the lock: that only leaves more room.
                with suppress(FileNotFoundError):
                    status = path.stat()
                    rank = 3 if match[1] in claimed else 2 if match[1] in now else 1 if match[1] in soon else 0
                    files.append((0 if match[2] == "part" else rank, status.st_mtime, path, status.st_size))
            files.sort()
            needed = needed and holders[0].granted  # it may have been taken away meanwhile
            last = 2 if needed else 0
            ranks = {path: rank for rank, _, path, _ in files}
            made = make_room(
                [(path, size) for _, _, path, size in files],
                size=shard.bytes,
                capacity=self._capacity,
                evict=lambda path: ranks[path] <= last and self._evict(path),
            )
            if not made:
                if needed:
                    (self._folder / "filmstrip.wanted").touch()
                return False
            with self._path(shard.sha256, "part").open("wb") as part:
                part.truncate(shard.bytes)
            return True

    def _evict(self, path: Path) -> bool:
        """Remove a shard, or a part whose fetcher is dead."""
        if path.suffix == ".part":
            with self._locked(path.with_suffix(".lock")) as held:
                if held:
                    path.unlink(missing_ok=True)
                return held
        path.unlink(missing_ok=True)  # not its .lock: who waits for that must wait for the same file as who comes next
        return True

    def _tell_of_capacity(self, capacities: Sequence[int]) -> None:
        if max(capacities) > self._capacity and not self._told_of_capacity:
            self._told_of_capacity = True
            _log.warning(
                "%s: another process lets it take %d bytes, this one %d, to which it is brought down again and again: "
                "give all the same cache_bytes",
                self._folder,
                max(capacities),
                self._capacity,
            )

    # -- fetching

    def _clock(self) -> float:
        return time.monotonic() + self._flown

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (found := self._next()) is None:
                    self._idle()
                if self._closed or found is None:
                    return
                shard, needed = found
                self._fetching.add(shard.sha256)
            failure: Exception | None = None
            try:
                postponed = not self._fetch(shard, needed=needed)
            except Exception as error:  # of any library that a file system is made of
                failure, postponed = error, False
            with self._changed:
                self._fetching.discard(shard.sha256)
                if failure is not None:
                    self._failed(shard, failure)
                elif postponed:
                    self._postponed[shard.sha256] = self._clock() + (_POLL if needed else 4 * _POLL)
                else:
                    self._trouble.pop(shard.sha256, None)
                self._changed.notify_all()

    def _idle(self) -> None:
        """Wait until something changes, or something is due; meanwhile, one of the threads keeps the folder tidy."""
        while not self._closed and (left := self._due - self._clock()) > 0:
            if self._sleep is not None and left < float("inf"):
                self._fly(self._sleep, min(left, _TIDY))
                return
            if threading.current_thread() is not self._threads[0]:
                self._changed.wait(min(left, LONGEST))
                return
            if self._changed.wait(min(left, _TIDY)):
                return
            self._tidy()

    def _fly(self, sleep: Callable[[float], None], wait: float) -> None:
        """Sleep as the test has it."""
        began = time.monotonic()
        self._changed.release()
        try:
            sleep(wait)
        finally:
            self._changed.acquire()
        self._flown += max(0.0, wait - (time.monotonic() - began))

    def _next(self) -> tuple[RemoteShard, bool] | None:
        """The soonest wanted shard that can be fetched, and whether it is needed at once."""
        needed = self._part.keys() if self._claims.holds else frozenset[str]()
        moment, self._due = self._clock(), float("inf")
        for shard in fitting(self._part.values(), self._needed_soon(), self._capacity):
            trouble = self._trouble.get(shard.sha256)
            given_up = trouble is not None and trouble.error is not None
            if shard.sha256 in self._fetching or given_up or self._path(shard.sha256, "tar").exists():
                continue
            due = max(self._postponed.get(shard.sha256, 0.0), 0.0 if trouble is None else trouble.due)
            if due <= moment:
                return shard, shard.sha256 in needed
            self._due = min(self._due, due)
        return None

    def _failed(self, shard: RemoteShard, error: Exception) -> None:
        """Decide when a shard is asked for again. Held: `_changed`."""
        if self._closed or isinstance(error, ClosedError):
            return
        trouble = self._trouble.setdefault(shard.sha256, _Trouble())
        trouble.failures, trouble.why = trouble.failures + 1, first_line(error)
        is_needed = any(shard.sha256 == other.sha256 for other in self._needed_now())
        if not isinstance(error, InputError):
            self.counts.retries += 1
        if trouble.failures < self._attempts and not is_lasting(error):
            trouble.due = self._clock() + pause(trouble.failures - 1, self._backoff)
            level = logging.WARNING if is_needed else logging.INFO  # a batch waits for it
            _log.log(level, "%s: attempt %d failed: %s", shard.path, trouble.failures, trouble.why)
        elif is_needed:
            trouble.error = error
        else:
            trouble.failures, trouble.due = 0, self._clock() + LONGEST
            _log.warning("%s: cannot be fetched ahead (%s): will be tried again", shard.path, first_line(error))

    def _is_needed(self, shard: RemoteShard) -> bool:
        return self._claims.holds and shard.sha256 in self._part

    def _fetch(self, shard: RemoteShard, *, needed: bool) -> bool:
        """Bring a shard to the disk; False where another holder does that, or there is no room for it now."""
        with self._locked(self._path(shard.sha256, "lock")) as held:
            if not held:
                return False
            if self._path(shard.sha256, "tar").exists():
                return True
            try:
                if not self._reserve(shard, needed=needed):
                    return False
                return self._download(shard)
            finally:
                self._path(shard.sha256, "part").unlink(missing_ok=True)

    def _download(self, shard: RemoteShard) -> bool:
        """False where it was broken off, for others need the room."""
        part = self._path(shard.sha256, "part")
        store = shard.file_system or self._file_system
        if store is None:
            raise InputError(f"{shard.path}: of no file system: give the cache or the shard one")
        digest = hashlib.sha256()
        with part.open("r+b") as target:
            for start in range(0, shard.bytes, BLOCK):
                if self._closed:
                    raise ClosedError
                with self._changed:
                    if not self._is_needed(shard) and self._is_room_wanted():
                        return False
                end = min(start + BLOCK, shard.bytes)
                block = store.cat_file(shard.path, start=start, end=end)
                if len(block) != end - start:
                    raise _SpoiledError(f"{len(block)} bytes came where {end - start} were asked for")
                digest.update(block)
                with self._disk():
                    target.write(block)
                self._blocks += 1
            with self._disk():
                target.flush()
                os.fsync(target.fileno())
        if digest.hexdigest() != shard.sha256:
            raise _SpoiledError("other bytes came than dataset.json declares")
        # Under the lock, for a file that is renamed while the folder is listed may be in the list under neither name.
        with self._claims.locked():
            part.replace(self._path(shard.sha256, "tar"))
        with self._changed:
            self.counts.fetched += 1
            self.counts.fetched_bytes += shard.bytes
        return True

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Say whose fault it is that nothing can be written."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self._folder}: {error.strerror}: make room on its disk, or lower cache_bytes"
            ) from error

    def _is_room_wanted(self) -> bool:
        """Whether a holder that needs a shard at once finds no room for it."""
        try:
            return abs(time.time() - (self._folder / "filmstrip.wanted").stat().st_mtime) < _WANTED
        except FileNotFoundError:
            return False

    # -- words

    def _progress(self, shard: RemoteShard) -> object:
        """Something that differs from what it was when anything has moved."""
        trouble = self._trouble.get(shard.sha256)
        part = None
        with suppress(OSError):
            part = self._path(shard.sha256, "part").stat().st_mtime_ns
        return self._blocks, part, None if trouble is None else trouble.failures, self.counts.damaged

    def _where(self, shard: RemoteShard) -> str:
        if shard.sha256 in self._fetching:
            return "which is on its way"
        trouble = self._trouble.get(shard.sha256)
        if trouble is not None:
            return f"of which {trouble.failures} attempts failed, at last with: {trouble.why}"
        return f"which another process fetches into {self._folder}, or for which there is no room yet"

    def _given_up(self, shard: RemoteShard, error: Exception) -> InputError:
        if isinstance(error, InputError):
            return copy.copy(error)  # without its traceback, which is another thread's
        why = f"cannot be fetched ({first_line(error)})"
        return InputError(shard.path, why, "see to the store and resume", try_again=not is_lasting(error))


class _Wait:
    """The patience of one wait: says after a while what it is for, and ends it."""

    def __init__(self, patience: float, first_word: float) -> None:
        self._patience = patience
        self._began = self._moved = time.monotonic()
        self._word = self._began + first_word
        self._progress: object = None

    def look(self, progress: object, what: Callable[[], str]) -> str | None:
        """What to say where it has been too long, otherwise None.

        Args:
            progress: equal to what it was before as long as nothing moves.
            what: is waited for.
        """
        moment = time.monotonic()
        if progress != self._progress:
            self._progress, self._moved = progress, moment
        if moment - self._moved > self._patience:
            return f"waited {moment - self._moved:.0f} s without any progress {what()}"
        if moment > self._word:
            self._word = moment + _NEXT_WORD
            _log.warning("waiting since %.0f s %s", moment - self._began, what())
        return None

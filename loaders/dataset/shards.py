"""A clip's bytes, from shards on a local disk, or from remote ones in a cache.

Members are read into the memory that they are used from, and checked there: what is used is what was checked, whatever
becomes of the shard meanwhile.
"""

import errno
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from loaders.dataset.catalog import Catalog
from loaders.errors import InputError
from loaders.processes.members import MOST_SHARDS
from loaders.processes.reading import ReadAndCheck, by_this_thread
from loaders.storage.cache import FileSystem, RemoteShard, ShardCache
from loaders.storage.shardfile import ShardFile, read_into

_log = logging.getLogger(__name__)

_OPEN = 256  # shards kept open, beside MOST_SHARDS of each thread: of files a process may have a thousand
_PATIENCE, _PAUSE = 10.0, 0.02  # seconds: that a shard's being written is waited for; between looks
_RECHECKS = 2  # times that a shard with a wrong member may turn out a damaged copy, and is fetched again


class CorruptMemberError(Exception):
    """A member's bytes are not those that were written, or cannot be read."""

    def __init__(self, clip: int, member: str, shard: str, why: str) -> None:
        super().__init__(f"clip {clip}: {member} in {shard} {why}")
        self.clip = clip


class ShardSource(Protocol):
    """Where the shards of a split are. One thread at a time asks; files that were handed out, any may read."""

    def open(self, shard: int) -> ShardFile:
        """A shard to read from."""

    def name(self, shard: int) -> str:
        """For messages."""

    def hold(self, now: Sequence[int], soon: Sequence[int]) -> None:
        """Say which shards are drawn from now, and which after them."""

    def recheck(self, shard: int) -> bool:
        """After a member without its checksum: whether the shard was a damaged copy, and reading it again may help."""

    def close(self) -> None:
        """Let the files go; those in use are closed when they no longer are."""


class Shards:
    """The members of one split's clips, one at a time. One thread at a time may use it."""

    def __init__(self, catalog: Catalog, source: ShardSource | None = None) -> None:
        """``source``: by default the catalog's own folder."""
        self._catalog = catalog
        self.source: ShardSource = source or LocalShards(catalog)

    def read(self, member: str, clip: int) -> NDArray[np.uint8] | None:
        """A member's bytes, checked, in memory of their own. None where the clip has no such member.

        Of a shard that is being written to in place, they are waited for.

        Raises:
            CorruptMemberError: the bytes do not have the checksum in the catalog, or cannot be read.
            InputError: the shard is missing, not as long as dataset.json says, or cannot be fetched.
        """
        extent = self._catalog.members[member]
        size = int(extent.size[clip])
        if size == 0:
            return None
        shard = int(self._catalog.shard[clip])
        data = np.empty(size, np.uint8)
        for attempt in range(_RECHECKS + 1):
            why = self._read_patiently(shard, data, int(extent.offset[clip]), int(extent.xxh3[clip]))
            if not why:
                return data
            if attempt == _RECHECKS or not self.source.recheck(shard):
                break
        raise CorruptMemberError(clip, member, self.source.name(shard), why)

    def _read_patiently(self, shard: int, data: NDArray[np.uint8], offset: int, xxh3: int) -> str:
        """Read a member, of a shard that is being written to when that is done; what is wrong with it, or nothing."""
        file = self.source.open(shard)
        until, waited = time.perf_counter() + _PATIENCE, False
        while why := _fault(file, data, offset, xxh3):
            if time.perf_counter() > until or not file.being_written():
                break
            if not waited:
                _log.warning("%s is being written to: waiting %g s at most", self.source.name(shard), _PATIENCE)
            waited = True
            time.sleep(_PAUSE)
        return why

    def close(self) -> None:
        """Let the shards go."""
        self.source.close()


def _fault(file: ShardFile, data: NDArray[np.uint8], offset: int, xxh3: int) -> str:
    """Read a member; what is wrong with it, or nothing."""
    try:
        found = read_into(file, data.data, offset)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if found < data.size:
        return f"ends {data.size - found} bytes early: the shard was cut short"
    return "" if xxhash.xxh3_64_intdigest(data.data) == xxh3 else "does not have its checksum"


@dataclass(frozen=True, slots=True)
class Places:
    """Where members lie, and where they are to go: (N,) each, of int64 but for the checksums, which are uint64."""

    dataset: NDArray[np.int64]
    shard: NDArray[np.int64]  #: in the dataset
    offset: NDArray[np.int64]  #: in the shard
    size: NDArray[np.int64]
    xxh3: NDArray[np.uint64]
    start: NDArray[np.int64]  #: in the memory

    def moved(self, by: int) -> "Places":
        """The same, to go so many bytes further on."""
        return replace(self, start=self.start + by)

    @staticmethod
    def joined(parts: Sequence["Places"]) -> "Places":
        """One after the other."""
        return Places(*(np.concatenate([getattr(part, name) for part in parts]) for name in Places.__slots__))


OpenShard = Callable[[tuple[int, int]], ShardFile]


def read_members(
    places: Places, open_shard: OpenShard, memory: NDArray[np.uint8], read: ReadAndCheck = by_this_thread
) -> list[int]:
    """Read members to where they are to go, and check them there. Any thread.

    Returns:
        Which of them could not be read whole or do not have their checksum, ascending. Why, `Shards.read` says.

    Raises:
        Exception: whatever ``open_shard`` or ``read`` raises.
    """
    bad: list[int] = []
    for group, which, files in _groups(places, open_shard):
        columns = (places.offset, places.size, places.xxh3, places.start)
        descriptors = [file.fileno() for file in files]
        found = read(descriptors, [which, *(column[group] for column in columns)], memory)
        bad += [group.start + index for index in found]
    return bad


def _groups(places: Places, open_shard: OpenShard) -> Iterator[tuple[slice, NDArray[np.int64], list[ShardFile]]]:
    """Members one after the other that are of no more shards than may be open.

    Yields:
        Which members, the file that each of them is in, and the files.
    """
    shards = places.dataset << 32 | places.shard
    begin = 0
    while begin < len(shards):
        some, first, which = np.unique(shards[begin:], return_index=True, return_inverse=True)
        count = len(shards) - begin
        if len(some) > MOST_SHARDS:  # up to where the first shard too many comes
            count = int(np.sort(first)[MOST_SHARDS])
            some, which = np.unique(shards[begin : begin + count], return_inverse=True)
        files = [open_shard((shard >> 32, shard & 0xFFFFFFFF)) for shard in some.tolist()]
        yield slice(begin, begin + count), which, files
        begin += count


class LocalShards:
    """Shards beside their catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._folder = catalog.folder
        self._shards = catalog.manifest.splits[catalog.split].shards
        self._open: OrderedDict[int, ShardFile] = OrderedDict()  # least recently used first

    def name(self, shard: int) -> str:
        """The path."""
        return str(self._folder / self._shards[shard].name)

    def hold(self, now: Sequence[int], soon: Sequence[int]) -> None:
        """All are at hand."""

    def recheck(self, shard: int) -> bool:
        """No: it is the only one."""
        return False

    def close(self) -> None:
        """Let the files go."""
        self._open.clear()

    def open(self, shard: int) -> ShardFile:
        """The file."""
        file = self._open.get(shard)
        if file is not None:
            self._open.move_to_end(shard)
            return file
        path = self._folder / self._shards[shard].name
        try:
            file = ShardFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            size = os.fstat(file.fileno()).st_size
        except OSError as error:
            mend = "run sharding/verify.py --repair"
            if isinstance(error, PermissionError):
                mend = "make it readable"
            if error.errno in (errno.EMFILE, errno.ENFILE):
                mend = "allow this process more of them (ulimit -n), or give a smaller prefetch"
            raise InputError(f"{path}: {error.strerror}: {mend}") from error
        if size != self._shards[shard].bytes:
            raise InputError(
                f"{path}: {size} bytes where dataset.json says {self._shards[shard].bytes}: "
                "run sharding/verify.py --repair"
            )
        self._open[shard] = file
        if len(self._open) > _OPEN:
            self._open.popitem(last=False)
        return file


class CachedShards:
    """Shards in an object store, by way of a cache on the local disk."""

    def __init__(self, catalog: Catalog, folder: str, cache: ShardCache, file_system: FileSystem | None = None) -> None:
        """
        Args:
            catalog: of the split, a local copy.
            folder: of the split, as the file system names it.
            cache: which several splits and datasets may share.
            file_system: of the shards; None: the cache's.
        """
        self._owner = folder
        self._cache = cache
        self._shards = [
            RemoteShard(f"{folder}/{shard.name}", shard.bytes, shard.sha256, file_system)
            for shard in catalog.manifest.splits[catalog.split].shards
        ]

    def name(self, shard: int) -> str:
        """The path in the store."""
        return self._shards[shard].path

    def hold(self, now: Sequence[int], soon: Sequence[int]) -> None:
        """Have them fetched, and let go of all others."""
        self._cache.want(self._owner, [self._shards[n] for n in now], [self._shards[n] for n in soon])

    def recheck(self, shard: int) -> bool:
        """Whether the cached copy was damaged; it is then fetched again."""
        return self._cache.recheck(self._shards[shard])

    def close(self) -> None:
        """Nothing: the cache outlives its sources, and who made it closes it."""

    def open(self, shard: int) -> ShardFile:
        """The cached file; waits until it is there."""
        return self._cache.open(self._shards[shard])

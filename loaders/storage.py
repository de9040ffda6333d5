"""A clip's bytes, from shards on a local disk, or from remote ones in a cache.

Shards are mapped into memory: the page cache is shared by all processes of a machine, and nothing is read but what is
asked for. Who reads copies a member out of the map as soon as it is checked, so that no batch holds files open.
"""

import mmap
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from loaders.cache import FileSystem, RemoteShard, ShardCache
from loaders.catalog import Catalog
from loaders.errors import InputError

_RECHECKS = 2  # times that a shard with a wrong member may turn out to be a damaged copy, and is fetched again
_MAPPED = 256  # shards mapped at a time: each map holds a file open, of which a process may have a thousand


class CorruptMemberError(Exception):
    """A member's bytes are not those that were written."""

    def __init__(self, clip: int, member: str, shard: str) -> None:
        super().__init__(f"clip {clip}: {member} in {shard} does not have its checksum")
        self.clip = clip


class ShardSource(Protocol):
    """Where the shards of a split are. One thread asks."""

    def map(self, shard: int) -> NDArray[np.uint8]:
        """A shard's bytes, (bytes,)."""

    def name(self, shard: int) -> str:
        """For messages."""

    def hold(self, now: Sequence[int], soon: Sequence[int]) -> None:
        """Say which shards are drawn from now, and which after them."""

    def recheck(self, shard: int) -> bool:
        """After a member without its checksum: whether the shard was a damaged copy, and reading it again may help."""

    def close(self) -> None:
        """Let the maps go."""


class Shards:
    """The members of one split's clips. One thread may read."""

    def __init__(self, catalog: Catalog, source: ShardSource | None = None) -> None:
        """``source``: by default the catalog's own folder."""
        self._catalog = catalog
        self.source: ShardSource = source or LocalShards(catalog)
        self.check_seconds = 0.0  #: spent on checksums; the first touch of a byte, so waiting for the disk is in it

    def read(self, member: str, clip: int) -> NDArray[np.uint8] | None:
        """A copy of a member's bytes, checked; otherwise as `view`."""
        view = self.view(member, clip)
        return None if view is None else view.copy()

    def view(self, member: str, clip: int) -> NDArray[np.uint8] | None:
        """A member's bytes where they lie in the mapped shard, checked. None where the clip has no such member.

        Raises:
            CorruptMemberError: the bytes do not have the checksum in the catalog.
            InputError: the shard is missing, not as long as dataset.json says, or cannot be fetched.
        """
        extent = self._catalog.members[member]
        size = int(extent.size[clip])
        if size == 0:
            return None
        shard = int(self._catalog.shard[clip])
        offset = int(extent.offset[clip])
        for attempt in range(_RECHECKS + 1):
            data = self.source.map(shard)[offset : offset + size]
            start = time.perf_counter()
            whole = xxhash.xxh3_64_intdigest(data.data) == int(extent.xxh3[clip])
            self.check_seconds += time.perf_counter() - start
            if whole:
                return data
            if attempt == _RECHECKS or not self.source.recheck(shard):
                break
        raise CorruptMemberError(clip, member, self.source.name(shard))

    def close(self) -> None:
        """Let the shards go."""
        self.source.close()


class LocalShards:
    """Shards beside their catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._folder = catalog.folder
        self._shards = catalog.manifest.splits[catalog.split].shards
        self._mapped: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()  # least recently used first

    def name(self, shard: int) -> str:
        """The path."""
        return str(self._folder / self._shards[shard].name)

    def hold(self, now: Sequence[int], soon: Sequence[int]) -> None:
        """All are at hand."""

    def recheck(self, shard: int) -> bool:
        """No: it is the only one."""
        return False

    def close(self) -> None:
        """Let the maps go."""
        self._mapped.clear()

    def map(self, shard: int) -> NDArray[np.uint8]:
        """The file, mapped."""
        mapped = self._mapped.get(shard)
        if mapped is None:
            path = self._folder / self._shards[shard].name
            try:
                with path.open("rb") as file:
                    # Reading past a mapped file's end is a signal, not an exception: never map a short one.
                    size = path.stat().st_size
                    if size != self._shards[shard].bytes:
                        raise InputError(
                            f"{path}: {size} bytes where dataset.json says {self._shards[shard].bytes}: "
                            "run sharding/verify.py --repair"
                        )
                    mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
            except OSError as error:
                raise InputError(f"{path}: {error.strerror}: run sharding/verify.py --repair") from error
            self._mapped[shard] = mapped
            if len(self._mapped) > _MAPPED:
                self._mapped.popitem(last=False)
        else:
            self._mapped.move_to_end(shard)
        return mapped


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

    def map(self, shard: int) -> NDArray[np.uint8]:
        """The cached file, mapped; waits until it is there."""
        return self._cache.open(self._shards[shard])

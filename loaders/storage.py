"""A clip's bytes, from shards on a local disk.

Shards are mapped into memory: the page cache is shared by all processes of a machine, and nothing is read but what is
asked for. A member is copied out as it is checked: microseconds, after which no batch holds its shards' files open.
"""

import mmap
from collections import OrderedDict
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from loaders.catalog import Catalog
from loaders.errors import InputError

_MAPPED = 256  # shards mapped at a time: each map holds a file open, of which a process may have a thousand


class CorruptMemberError(Exception):
    """A member's bytes are not those that were written."""

    def __init__(self, clip: int, member: str, shard: Path) -> None:
        super().__init__(f"clip {clip}: {member} in {shard} does not have its checksum")
        self.clip = clip


class Shards:
    """The shards of one split. One thread may read."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._shards = catalog.manifest.splits[catalog.split].shards
        self._mapped: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()  # least recently used first

    def read(self, member: str, clip: int) -> NDArray[np.uint8] | None:
        """A member's bytes, checked. None where the clip has no such member.

        Raises:
            CorruptMemberError: the bytes do not have the checksum in the catalog.
            InputError: the shard is missing or not as long as dataset.json says.
        """
        extent = self._catalog.members[member]
        size = int(extent.size[clip])
        if size == 0:
            return None
        shard = int(self._catalog.shard[clip])
        offset = int(extent.offset[clip])
        data = self._map(shard)[offset : offset + size]
        if xxhash.xxh3_64_intdigest(data.data) != int(extent.xxh3[clip]):
            raise CorruptMemberError(clip, member, self._path(shard))
        return data.copy()

    def close(self) -> None:
        """Let the maps go."""
        self._mapped.clear()

    def _path(self, shard: int) -> Path:
        return self._catalog.folder / self._shards[shard].name

    def _map(self, shard: int) -> NDArray[np.uint8]:
        mapped = self._mapped.get(shard)
        if mapped is None:
            path = self._path(shard)
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

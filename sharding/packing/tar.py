"""A shard's tar read front to back, trusting nothing that it says.

Python's own reader skips what it does not understand, follows long-name and sparse extensions, and ends at the first
empty block: right for unpacking, wrong for finding out whether a file is what the build wrote. This one knows only
plain files with plain names, and looks at every byte once.
"""

import hashlib
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import xxhash

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1 << 20
_PLAIN = re.compile(r"[^./\\\0][^/\\\0]*\.[^/\\\0]+")


class TarError(Exception):
    """From ``offset`` on, the file cannot be read as a tar."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(what)
        self.offset = offset
        self.what = what


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the tar."""

    name: str
    offset: int  #: of its first byte
    size: int
    xxh3: int
    data: bytes | None  #: None where it is larger than the reader was told to keep


class TarReader:
    """Reads one tar, and takes the SHA-256 of all of it on the way."""

    def __init__(self, file: BinaryIO, size: int, keep: int) -> None:
        """
        Args:
            file: at its start.
            size: of the file, bytes.
            keep: entries up to this many bytes are handed out with their data; this bounds the memory.
        """
        self._file = file
        self._size = size
        self._keep = keep
        self._sha256 = hashlib.sha256()
        self._offset = 0
        self.irregular: list[tuple[int, str]] = []  #: what is wrong beside the entries: offset, description

    def entries(self) -> Iterator[Entry]:
        """The plain files, in order.

        Raises:
            TarError: there is no telling what follows; what could be read was.
        """
        while True:
            start = self._offset
            header = self._read(_BLOCK, "the tar has no end: it is cut off")
            if not any(header):
                self._require_end(start)
                return
            try:
                info = tarfile.TarInfo.frombuf(header, "utf-8", "backslashreplace")
            except tarfile.HeaderError as error:
                raise TarError(start, f"no header of a tar entry ({error})") from error
            if not 0 <= info.size <= self._size - self._offset:
                raise TarError(start, f"{info.name!r} claims {info.size} bytes, more than the file has")
            plain = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and _PLAIN.fullmatch(info.name)
            if plain:
                yield self._entry(info)
            else:
                what = "a link" if info.issym() or info.islnk() else "an entry that is no plain file with a plain name"
                self.irregular.append((start, f"{info.name!r} is {what}"))
                self._skip(info.size)
            padding = self._offset
            if any(self._read(-info.size % _BLOCK, f"{info.name!r} is cut off")):
                self.irregular.append((padding, f"bytes after {info.name!r} that belong to nothing"))

    def sha256(self) -> str:
        """Of the whole file: reads what is left of it."""
        while block := self._file.read(_CHUNK):
            self._sha256.update(block)
        return self._sha256.hexdigest()

    def _entry(self, info: tarfile.TarInfo) -> Entry:
        offset = self._offset
        digest = xxhash.xxh3_64()
        data = None
        if info.size <= self._keep:
            data = self._read(info.size, f"{info.name!r} is cut off")
            digest.update(data)
        else:
            left = info.size
            while left:
                block = self._read(min(left, _CHUNK), f"{info.name!r} is cut off")
                digest.update(block)
                left -= len(block)
        return Entry(info.name, offset, info.size, digest.intdigest(), data)

    def _require_end(self, start: int) -> None:
        """After the first empty block: at least one more, and nothing else."""
        while self._offset < self._size:
            offset = self._offset
            if any(self._read(min(self._size - offset, _CHUNK), "the file became shorter")):
                self.irregular.append((offset, "bytes after the end of the tar"))
        if self._offset - start < 2 * _BLOCK or self._offset % _BLOCK:
            raise TarError(start, "the tar has no end: it is cut off")

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._read(min(size, _CHUNK), "an entry is cut off"))

    def _read(self, size: int, otherwise: str) -> bytes:
        data = self._file.read(size)
        self._sha256.update(data)
        self._offset += len(data)
        if len(data) < size:
            raise TarError(self._offset, otherwise)
        return data


def index_path(tar: str) -> str:
    """Of DALI's index of a tar."""
    return tar.removesuffix(".tar") + ".idx"

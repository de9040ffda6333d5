"""What lies in a tar, and where: one pass over its headers, which seeks over what the files hold.

A tar on this machine is read where it lies; of one in a store the headers are asked for by their ranges, with what
stands near them. Nothing is unpacked.
"""

import tarfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from loaders.errors import InputError, first_line
from loaders.storage.urls import url_of
from sharding.sources.copies import looked_into
from sharding.sources.packed import Packed
from sharding.sources.read_errors import failures_named
from sharding.sources.regular import open_regular
from sharding.utterance import readable

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
_MOST_TEXT = 64 << 20  # bytes of a text or description


@dataclass(frozen=True, slots=True, kw_only=True)
class TarFile:
    """A file in a tar."""

    name: str  #: with its folders, as text that can be stored
    packed: Packed
    content: bytes | None  #: where it was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a tar holds."""

    files: tuple[TarFile, ...]  #: in the tar's order
    others: Mapping[str, int]  #: what is no file and no folder, by kind


def list_tar(path: Path, wants_content: Callable[[str], bool] = lambda _: False) -> Listing:
    """The files in a tar.

    Args:
        path: of the tar: here, or a URL.
        wants_content: of which files, by their names, what they hold is wanted too.

    Raises:
        InputError: there is no such tar, it is compressed, cut off or damaged, or a store fails.
        SourceError: its file system fails.
    """

    def look(file: BinaryIO) -> Listing | str:
        return _listed(path, file, wants_content)

    where = readable(path)
    try:
        with failures_named(path):
            if url_of(path) is not None:
                found = looked_into(path, look)
            else:
                with open_regular(path) as file:
                    found = look(file)
    except FileNotFoundError:
        found = None
    except OSError as error:
        raise InputError(f"{where}: cannot be read: {error.strerror}: make it readable") from error
    if found is None:
        raise InputError(f"{where}: no such tar: mend the list of shards")
    if isinstance(found, str):
        raise InputError(f"{where}: {found}")
    return found


def _listed(path: Path, file: BinaryIO, wants_content: Callable[[str], bool]) -> Listing | str:
    """The listing, or what is wrong with the tar; the file's own errors pass."""
    begins = file.read(8)
    for magic, name in _COMPRESSED.items():
        if begins.startswith(magic):
            return f"is compressed ({name}), so that no video in it can be read where it lies: decompress it"
    file.seek(0)
    files: list[TarFile] = []
    others: Counter[str] = Counter()
    try:
        with tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as tar:
            while (found := tar.next()) is not None:
                cast(Any, tar).members.clear()  # it keeps them all, and a tar may hold a million
                if found.isdir():
                    continue
                if not found.isreg() or found.issparse():
                    others["sparse files" if found.issparse() else "links and devices"] += 1
                    continue
                name = readable(found.name)
                wanted = wants_content(name)
                if wanted and found.size > _MOST_TEXT:
                    return f"its {name} has {found.size} bytes, and is no description: leave it out"
                plain = PurePosixPath(name).name
                packed = Packed(archive=path, offset=found.offset_data, size=found.size, name=plain)
                content = None
                if wanted:
                    file.seek(found.offset_data)
                    content = file.read(found.size)
                files.append(TarFile(name=name, packed=packed, content=content))
            end = tar.offset
    except tarfile.ReadError as error:
        return f"is cut off, or no tar ({first_line(error)}): copy it again"
    # To tarfile a header that is damaged is the end.
    file.seek(end)
    if any(file.read(tarfile.BLOCKSIZE)):
        return f"is damaged at byte {end}: copy it again"
    return Listing(files=tuple(files), others=others)

"""Parquet files, opened by us and held against their SHA-256.

pyarrow takes a path such as ``vox:1/ds/clips.parquet`` for a URI, so it is given open files. A Parquet file has no
checksum of its own: a flipped bit is another label or another order, and nothing says so.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from loaders.errors import InputError

_BLOCK = 1 << 20  # bytes
_SETTLED = 2.0  # seconds: a file written to more recently may change again without its times telling
_REMEMBERED = 64

Identity = tuple[int, int, int, int, int]
_checked: dict[tuple[Identity, str], None] = {}  # what this process has checked, the latest last


class ChangedFileError(InputError):
    """A file's bytes are not those that were written, or are being written to."""


@contextmanager
def opened(path: Path, sha256: str | None = None) -> Iterator[pa.NativeFile]:
    """A file, open at its start, whose bytes are checked before any of them is used.

    It is Arrow's own file over the descriptor that was checked: Arrow reads in threads, and one that still holds a
    file of Python's when the interpreter ends takes the whole process down ("terminate called …", by SIGABRT).

    Args:
        path: of the file; never taken for a URI.
        sha256: that it must have; None: any.

    Raises:
        ChangedFileError: it has another, or was written to before the block ended.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        before = _identity(file)
        if sha256 is not None and (before, sha256) not in _checked:
            settled = time.time() - max(before[3], before[4]) * 1e-9 > _SETTLED
            if _sha256(file) != sha256:
                raise ChangedFileError(f"{path}: its SHA-256 is not the one in dataset.json: {_MEND}")
            if settled:
                _remember(before, sha256)
        with pa.OSFile(f"/proc/self/fd/{file.fileno()}", "rb") as native:
            yield native
        if sha256 is not None and _identity(file, before) != before:
            raise ChangedFileError(f"{path}: was written to while it was read: {_MEND}")


_MEND = "restore it from a copy, or run sharding/verify.py --repair"


def read_table(path: Path, columns: Sequence[str] | None = None, *, sha256: str | None = None) -> pa.Table:
    """A Parquet file, or some of its columns. Arguments and errors as of `opened`, and pyarrow's."""
    with opened(path, sha256) as file:
        return pq.read_table(file, columns=None if columns is None else list(columns))


def read_schema(path: Path) -> pa.Schema:
    """The columns of a Parquet file."""
    with opened(path) as file:
        return pq.read_schema(file)


def read_metadata(path: Path) -> pq.FileMetaData:
    """What a Parquet file says of itself."""
    with opened(path) as file:
        return pq.read_metadata(file)


def forget() -> None:
    """Check every file again: for measuring what that costs."""
    _checked.clear()


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    file.seek(0)
    return digest.hexdigest()


def _identity(file: BinaryIO, before: Identity | None = None) -> Identity:
    """Of a file; ``before`` is what it was, where it was open since."""
    status = os.fstat(file.fileno())
    changed = status.st_ctime_ns
    if before is not None and status.st_nlink == 0:
        changed = before[4]  # that another file has taken its place is told there, and is no change of its bytes
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, changed


def _remember(identity: Identity, sha256: str) -> None:
    _checked[identity, sha256] = None
    while len(_checked) > _REMEMBERED:
        _checked.pop(next(iter(_checked)), None)

"""Files that appear under their names only when they are whole, and on the disk."""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_BLOCK = 1 << 20
_BUFFER = 2 << 20  # bytes written at a time: the page cache then holds them in large pieces, and reads cost half


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its place when the block ends without an error; otherwise nothing is left behind.

    Raises:
        OSError: it cannot be written; ``filename`` says which.
    """
    temporary = beside(path)
    try:
        with temporary.open("wb", buffering=_BUFFER) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename is None:  # a write that failed does not say where: the disk is full, or gone
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """A whole file's content; see `atomic_write`."""
    with atomic_write(path) as file:
        file.write(data)


def beside(path: Path) -> Path:
    """A name beside a file's for what is to become it, unlike any other process'."""
    # A process' number alone would not do: on two machines of a cluster two processes may have the same.
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()

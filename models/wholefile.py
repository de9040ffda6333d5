"""Files that appear under their names when they are whole, and on the disk."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place and put it there; whatever stops it, a half-written one is never seen.

    Raises:
        OSError: it cannot be written; ``filename`` is the path. Nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename is None:  # a write that failed does not say where: the disk is full, or gone
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)

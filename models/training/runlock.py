"""One training at a time in a run's folder: the kernel holds the lock, and lets it go however its process ends."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from loaders.errors import InputError

LOCK = ".lock"
_LONGEST_NAME = 200  # characters of the holder's
_log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder, which exists. The file stays there; it is the lock on it that counts.

    Raises:
        InputError: another process holds it.
        OSError: the folder cannot be written.
    """
    # Not through a link: what is written into must be a file of the run.
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "r+", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = "".join(c for c in file.read(_LONGEST_NAME) if c.isprintable()) or "another process"
            raise InputError(folder, f"{holder} is training there", "wait for it, or end it", try_again=True) from error
        except OSError as error:  # some network file systems have no locks
            _log.warning("%s: cannot be locked (%s): see that no other process trains there", folder, error.strerror)
        else:
            since = datetime.now(UTC).isoformat(timespec="seconds")
            file.truncate()
            file.write(f"process {os.getpid()} on {socket.gethostname()}, since {since},")
            file.flush()
        yield

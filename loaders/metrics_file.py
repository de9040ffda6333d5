"""A file of figures that whoever watches reads: ``--metrics FILE``.

    with MetricsFile(Path("/var/lib/node_exporter/filmstrip.prom"), lambda: loader_metrics(loader.stats())):
        ...

FILE.prom is Prometheus' text format, replaced as a whole every few seconds and at the end: what the node exporter's
textfile collector reads. FILE.jsonl gets lines appended instead. A file that cannot be written is said once, and what
is being counted goes on.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from loaders.errors import InputError
from loaders.exposition import PREFIX, Metric, as_json_lines, as_text
from loaders.storage.atomic import write_atomically

EVERY = 5.0  #: seconds from one writing to the next

_PROM, _JSONL = ".prom", ".jsonl"
_OURS = {_PROM: f"# HELP {PREFIX}".encode(), _JSONL: b'{"time": '}  # what a file of ours begins with
_ENDING = 10.0  # seconds that the end waits for a write in progress

_log = logging.getLogger(__name__)


class MetricsFile:
    """Keeps a file of figures, within a ``with``."""

    def __init__(self, path: Path, figures: Callable[[], Sequence[Metric]], *, every: float = EVERY) -> None:
        """
        Args:
            path: of the file; its suffix, .prom or .jsonl, says what is written.
            figures: what there is now; called by a thread of the file's own, and in the end by that of the ``with``.
            every: seconds from one writing to the next.

        Raises:
            InputError: see `require_metrics_file`.
        """
        require_metrics_file(path)
        self._path, self._figures, self._every = path, figures, every
        self._ended = threading.Event()
        self._failed = False
        self._thread = threading.Thread(target=self._go_on, name="filmstrip-metrics", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(_ENDING)
        if self._thread.is_alive():
            _log.warning("%s: is still being written after %.0f s: it is left behind", self._path, _ENDING)
        else:
            self.write()

    def write(self) -> None:
        """Write what there is now."""
        metrics = self._figures()
        try:
            if self._path.suffix == _PROM:
                # Half a surrogate pair can stand in a file's name, not in UTF-8.
                write_atomically(self._path, as_text(metrics).encode("utf-8", "replace"))
            else:
                _append(self._path, as_json_lines(metrics, time.time()).encode())
        except OSError as failed:
            if not self._failed:
                _log.warning("%s: %s: the figures are not written", self._path, failed.strerror)
            self._failed = True
        else:
            self._failed = False

    def _go_on(self) -> None:
        self.write()
        while not self._ended.wait(self._every):
            self.write()


def require_metrics_file(path: Path) -> None:
    """Raise InputError where figures cannot be written there.

    That is: the name ends neither in .prom nor in .jsonl, there is no such folder, or another file is there.
    """
    if path.suffix not in _OURS:
        raise InputError(
            f"--metrics {path}: give a name that ends in {_PROM} (Prometheus' text) or {_JSONL} (JSON lines)"
        )
    if not path.parent.is_dir():
        raise InputError(f"--metrics {path}: there is no folder {path.parent}: make it first")
    try:
        with path.open("rb") as file:
            begins = file.read(len(_OURS[path.suffix]))
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"--metrics {path}: {error.strerror}: give another name") from error
    if begins and begins != _OURS[path.suffix]:
        raise InputError(f"--metrics {path}: another file is there: give another name")


def of_rank(path: Path, rank: int, ranks: int) -> Path:
    """The file of one process of several: metrics.prom of rank 1 of 2 is metrics.rank1.prom."""
    return path if ranks == 1 else path.with_name(f"{path.stem}.rank{rank}{path.suffix}")


def _append(path: Path, data: bytes) -> None:
    """Append whole lines: after what a process left that was killed in the middle of one, on a line of their own."""
    with path.open("a+b", buffering=0) as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                data = b"\n" + data
        while data:  # a disk that is nearly full takes a part of it, and says so at the next try
            data = data[file.write(data) :]

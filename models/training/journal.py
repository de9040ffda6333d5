"""metrics.jsonl: what a run's curves are made of, a JSON object a line, whichever trackers there are.

    {"step": 20, "epoch": 0, "loss": 0.69, "parts": {}, "learning_rate": 0.0001, "clips_per_second": 812.4,
     "data_wait_share": 0.002}

    {"step": 20, "validation": {"accuracy": 0.71}}

Loss and its parts are means over the steps since the line before. A validation has a line of its own, behind that of
its step, with the scores that weights can be chosen by. Lines are appended. A process that was killed leaves
lines behind its last checkpoint: a resumed run takes them away and writes them again, so that no step is there twice
and none is missing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from loaders.errors import InputError
from loaders.storage.atomic import write_atomically

METRICS = "metrics.jsonl"


class Journal:
    """Appends lines to a run's metrics.jsonl, from what is there up to a step."""

    def __init__(self, folder: Path, step: int, *, validated_anew: bool = False) -> None:
        """
        Args:
            folder: of the run.
            step: of the checkpoint that training goes on from: later lines are taken away; −1: all of them.
            validated_anew: of that step it is validated once more: the line that there is of it is taken away, too.

        Raises:
            OSError: it cannot be read or written.
        """
        self._path = folder / METRICS
        lines = [
            line
            for line in _lines(self._path)
            if line["step"] < step or (line["step"] == step and not (validated_anew and "validation" in line))
        ]
        write_atomically(self._path, b"".join(map(_encoded, lines)))
        self._file = self._path.open("ab", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line, which has its ``step``; what is not finite becomes null.

        Raises:
            OSError: there is no room; ``filename`` says where.
        """
        data = _encoded(line)
        try:
            written = 0
            while written < len(data):  # a disk that is nearly full takes a part of it, and says so at the next try
                written += self._file.write(data[written:])
        except OSError as error:
            error.filename = str(self._path)
            raise

    def keep(self) -> None:
        """Have the lines on the disk: before a checkpoint that they belong to."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            error.filename = str(self._path)
            raise


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, in the order of their steps.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    path = folder / METRICS
    try:
        if not path.is_file():
            raise InputError(f"{path}: not there: give the --output of a run that has begun")
        return _lines(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}: make it readable") from error


def _lines(path: Path) -> list[dict[str, Any]]:
    """Of a run that is being written the last line may be there in part: it is left out, as it was never whole."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    found: list[dict[str, Any]] = []
    for number, text in enumerate(data.split(b"\n")[:-1], 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict) or type(line.get("step")) is not int:
            raise InputError(f"{path}: line {number} is none of a run's: put the file aside, curves then begin anew")
        found.append(line)
    return found


def _encoded(line: Mapping[str, Any]) -> bytes:
    return (json.dumps(_finite(line), allow_nan=False) + "\n").encode()


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value

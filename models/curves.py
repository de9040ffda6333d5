"""Curves of one run or several as a picture: ``python -m models.curves RUN [RUN …] [--output curves.png]``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path
from typing import Annotated

import tyro

from loaders.arguments import cli
from loaders.errors import InputError, reported
from models.training.journal import read_metrics
from models.training.picture import PICTURE, draw_curves


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Draw the curves of runs, finished or not: with several, a line each in the same plots."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs."""
    output: Path | None = None
    """The picture; by default curves.png in the run, or here where there are several."""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m models.curves") -> None:
    """The command line, of a program that is called so."""
    with reported():
        config = cli(Curves, args=arguments, prog=prog, description=__doc__)
        path = draw(config)
        print(path)


def draw(config: Curves) -> Path:
    """Draw the picture; returns where it lies.

    Raises:
        InputError: something is no run, or named twice; matplotlib is missing; the picture cannot be written.
    """
    if not config.runs:
        raise InputError("no run: give the --output of one or several")
    runs = [run.resolve() for run in config.runs]
    if len(set(runs)) < len(runs):
        raise InputError("a run is named twice: once is enough")
    path = config.output or (runs[0] if len(runs) == 1 else Path()) / PICTURE
    lines = {name: read_metrics(run) for name, run in zip(_names(runs), runs, strict=True)}
    try:
        draw_curves(lines, path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}: give an --output that can be written") from error
    return path


def _names(runs: Sequence[Path]) -> list[str]:
    """What tells them apart: their paths without what they share."""
    if len(runs) == 1:
        return [runs[0].name]
    shared = Path(commonpath(run.parent for run in runs))
    return [str(run.relative_to(shared)) for run in runs]


if __name__ == "__main__":
    main()

"""Curves of runs as a picture: a small plot for each thing that metrics.jsonl has, a line in it for each run."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loaders.errors import InputError, printable
from loaders.storage.atomic import write_atomically

PICTURE = "curves.png"
_COLUMNS = 3
_STYLES = ("-", "--", ":", "-.")  # told apart without colours
_TITLES = {
    "learning_rate": "learning rate",
    "clips_per_second": "clips/s",
    "data_wait_share": "waiting for data, share of the time",
}
_NO_CURVES = ("step", "epoch")


def draw_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Write a PNG, whole or not at all.

    Args:
        runs: lines of `models.training.journal`, by the name of the run.
        path: of the picture.

    Raises:
        InputError: matplotlib is not installed, or no run has a line.
        OSError: it cannot be written.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("curves need matplotlib: pip install '.[plots]'") from error
    curves = {name: series(lines) for name, lines in runs.items()}
    titles = list(dict.fromkeys(title for of_run in curves.values() for title in of_run))
    if not titles:
        raise InputError(f"{', '.join(runs)}: no line of metrics yet: train for at least --log-every steps")
    last = max(line["step"] for lines in runs.values() for line in lines) * 1.02
    rows = math.ceil(len(titles) / _COLUMNS)
    several = len(runs) > 1
    with rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "axes.grid": True}):
        figure = Figure(
            figsize=(12, 2.6 * rows + (0.2 * math.ceil(len(runs) / _COLUMNS) if several else 0)), layout="constrained"
        )
        axes = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
        for plot, title in zip(axes, titles, strict=False):
            for number, (name, of_run) in enumerate(curves.items()):
                steps, values = of_run.get(title, ([], []))
                style = _STYLES[number % len(_STYLES)]
                marker = "o" if len(steps) < 3 else ""  # a line of one point is not seen
                plot.plot(steps, values, style, marker=marker, color=f"C{number % 10}", label=_plain(name), lw=1.4)
            plot.set_title(_plain(title), loc="left", fontsize=10)
            plot.set_xlabel("step")
            plot.grid(alpha=0.3)
            # Rates span a few powers of ten at most; offsets above an axis are overlooked.
            plot.ticklabel_format(axis="y", useOffset=False)
            plot.set_xlim(0, last)
        for plot in axes[len(titles) :]:
            plot.remove()
        if several:
            handles, labels = figure.axes[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside upper left", frameon=False, ncols=min(len(runs), _COLUMNS))
        else:
            figure.suptitle(_plain(next(iter(runs))), x=0.01, ha="left")
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=100)
    write_atomically(path, picture.getvalue())


def series(lines: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and values by title: each number of the lines, those inside others under both names; null is a gap."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for line in lines:
        for name, value in _numbers(line).items():
            steps, values = found.setdefault(name, ([], []))
            steps.append(line["step"])
            values.append(value)
    return found


def _numbers(line: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            found |= _numbers(value, "" if name == "parts" else f"{prefix}{name}: ")
        elif (prefix or name not in _NO_CURVES) and (value is None or type(value) in (int, float)):
            found[prefix + _TITLES.get(name, name)] = math.nan if value is None else float(value)
    return found


def _plain(text: str) -> str:
    """Names may hold anything: a $ would begin a formula, and a legend leaves out what begins with _."""
    return " " * text.startswith("_") + printable(text).replace("$", r"\$")

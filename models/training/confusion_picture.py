"""Which class was taken for which: a run's confusion matrices as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from loaders.errors import printable
from loaders.storage.atomic import write_atomically
from models.training.evaluation import MODALITIES

CONFUSION = "confusion.png"
NO_MATPLOTLIB = "matplotlib is not installed, pip install matplotlib (the extra plots)"
_NAMED, _NUMBERED = 40, 12  #: up to so many classes are named, and their cells have numbers


def draw_confusions(path: Path, results: Mapping[str, Any]) -> bool:
    """Draw the matrices of all targets with classes: a row a target, a column a modality.

    Rows are what is stated, columns what is said; colours are shares of a row, numbers utterances.

    Args:
        path: of the PNG, written whole or not at all; none where no target has classes.
        results: as in results.json.

    Returns:
        False where matplotlib is missing: nothing is drawn.

    Raises:
        OSError: it cannot be written.
    """
    of_classes = {name: scores for name, scores in results.get("targets", {}).items() if "classes" in scores}
    if not of_classes:
        return True
    if find_spec("matplotlib") is None:
        return False
    # Not by pyplot, which would take hold of a screen and of the program's other figures.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(MODALITIES), 4.4 * len(of_classes)), layout="constrained")
    panels = figure.subplots(len(of_classes), len(MODALITIES), squeeze=False)
    for row, (name, scores) in zip(panels, of_classes.items(), strict=True):
        for axes, modality in zip(row, MODALITIES, strict=True):
            _draw(axes, scores[modality], [_shown(one) for one in scores["classes"]], f"{_shown(name)} from {modality}")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    write_atomically(path, picture.getvalue())
    return True


def _draw(axes: Any, scores: Mapping[str, Any], classes: list[str], title: str) -> None:
    counts = np.array(scores["confusion"])
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    axes.set_title(f"{title}: UAR {100 * scores['uar']:.1f} %" if counts.any() else title, fontsize=10)
    axes.set_xlabel("said")
    axes.set_ylabel("stated")
    places = range(len(classes)) if len(classes) <= _NAMED else []
    axes.set_xticks(places, classes[: len(places)], rotation=90, fontsize=8)
    axes.set_yticks(places, classes[: len(places)], fontsize=8)
    if len(classes) <= _NUMBERED:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)


def _shown(name: str) -> str:
    """A name as it is: a dollar would begin a formula."""
    return printable(name).replace("$", r"\$")

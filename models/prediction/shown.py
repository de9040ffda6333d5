"""What is said of videos, as tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from loaders.dataset.labels import Label
from models.prediction.results import MODALITIES, Answer, VideoPrediction
from models.training.scores import plain


def video_table(prediction: VideoPrediction) -> Table:
    """One video: each class' probability, and each number. 80 columns hold it."""
    table = Table()
    table.add_column(f"{prediction.seconds:.3g} s", overflow="fold")
    for modality in MODALITIES:
        table.add_column(modality, justify="right")
    for label in prediction.labels:
        said = prediction.targets[label.name]
        for name in label.classes or ():
            cells = [_share(answer, name) for _, answer in said.items()]
            table.add_row(plain(f"{label.name}: {name}"), *cells)
        if label.classes is None:
            table.add_row(plain(label.name), *(_short(answer) for _, answer in said.items()))
        table.add_section()
    return table


def windows_table(prediction: VideoPrediction) -> Table:
    """A video over time: of each window the most probable class, or the number.

    Of several targets only what is said from most: joint, or what there is.
    """
    labels = prediction.labels
    table = Table()
    table.add_column("seconds", justify="right", no_wrap=True)
    for label in labels:
        for modality in MODALITIES if len(labels) == 1 else ("joint",):
            table.add_column(plain(f"{label.name}\n{modality}"), justify="right", overflow="fold")
    for window in prediction.windows:
        cells: list[str | Text] = []
        for label in labels:
            said = dict(window.targets[label.name].items())
            if len(labels) == 1:
                cells += [_short(answer) for answer in said.values()]
            else:
                modality = next((name for name in ("joint", "visual", "audio") if said[name] is not None), "joint")
                cells.append(_short(said[modality], "" if modality == "joint" else f" ({modality})"))
        table.add_row(f"{window.start:.3g} – {window.end:.3g}", *cells)
    return table


def videos_table(labels: Sequence[Label], predictions: Sequence[VideoPrediction]) -> Table:
    """Many videos, a row for each of their targets: the most probable class, or the number."""
    table = Table()
    table.add_column("video", overflow="fold")
    table.add_column("s", justify="right")
    table.add_column("", overflow="fold")
    for modality in MODALITIES:
        table.add_column(modality, justify="right")
    for prediction in predictions:
        for place, label in enumerate(labels):
            head = (plain(prediction.path), f"{prediction.seconds:.3g}") if place == 0 else ("", "")
            table.add_row(*head, plain(label.name), *(_short(a) for _, a in prediction.targets[label.name].items()))
        table.add_section()
    return table


def _short(answer: Answer | None, after: str = "") -> str | Text:
    if answer is None:
        return "–"
    if answer.probabilities is None:
        return f"{answer.number:.3g}{after}"
    best = answer.best or ""
    return plain(f"{best} {100 * answer.probabilities[best]:.0f} %{after}")


def _share(answer: Answer | None, name: str) -> str:
    if answer is None or answer.probabilities is None:
        return "–"
    share = f"{100 * answer.probabilities[name]:.1f} %"
    return f"[bold]{share}[/]" if answer.best == name else share

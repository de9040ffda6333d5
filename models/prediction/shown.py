"""What is said of videos, as tables on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loaders.dataset.labels import Label
from loaders.fitting import in_parts
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


def windows_tables(prediction: VideoPrediction, console: Console) -> Iterator[Table]:
    """A video over time: of each window the most probable class, or the number.

    Of several targets only what is said from most: joint, or what there is; in several tables where one is too wide.
    """
    return in_parts(prediction.labels, lambda labels: _windows(prediction, labels), console)


def _windows(prediction: VideoPrediction, labels: Sequence[Label]) -> Table:
    alone = len(prediction.labels) == 1
    table = Table()
    table.add_column("seconds", justify="right", no_wrap=True)
    for label in labels:
        for modality in MODALITIES if alone else ("joint",):
            table.add_column(plain(f"{label.name}\n{modality}"), justify="right", overflow="fold")
    for window in prediction.windows:
        cells: list[str | Text] = []
        for label in labels:
            said = dict(window.targets[label.name].items())
            if alone:
                cells += [_short(answer) for answer in said.values()]
            else:
                modality = next((name for name in ("joint", "visual", "audio") if said[name] is not None), "joint")
                cells.append(_short(said[modality], "" if modality == "joint" else f" ({modality})"))
        table.add_row(f"{window.start:.3g} – {window.end:.3g}", *cells)
    return table


def videos_table(labels: Sequence[Label], predictions: Sequence[VideoPrediction]) -> Table:
    """Many videos: below each a row for each target, the most probable class or the number. 80 columns hold it.

    Of videos of one folder it is told once, above.
    """
    folder = _folder([prediction.path for prediction in predictions])
    table = Table(title=plain(f"in {folder}") if folder else None, title_justify="left")
    table.add_column("video, seconds", overflow="fold")
    for modality in MODALITIES:
        table.add_column(modality, justify="right", overflow="fold")
    for prediction in predictions:
        name = prediction.path.removeprefix(f"{folder}/") if folder else prediction.path
        table.add_row(plain(f"{name}, {prediction.seconds:.3g} s"), *[""] * len(MODALITIES))
        for label in labels:
            cells = (_short(answer) for _, answer in prediction.targets[label.name].items())
            table.add_row(plain(f"  {label.name}"), *cells)
        table.add_section()
    return table


def _folder(paths: Sequence[str]) -> str:
    """The one that they are all in, in it or below; empty where there is none."""
    folders = [path.rpartition("/")[0].split("/") for path in paths]
    common = "/".join(parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False)))
    return "" if common.endswith(":/") else common  # URLs that have their scheme in common, and no more


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

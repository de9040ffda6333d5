"""A video's answers over time as a picture: its frames as the network sees them, its sound, and a curve for each."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.dataset.labels import Label
from loaders.dataset.manifest import FILMSTRIP
from loaders.errors import InputError, printable
from loaders.storage.atomic import write_atomically
from models.prediction.results import MODALITIES, Answer, VideoPrediction, Window
from sharding.media.reader import Media

_WIDE, _LEFT, _RIGHT, _TOP = 10.0, 0.95, 1.3, 0.42  # inches: of the picture, and of what is beside the plots
_HIGH = {"frames": 0.74, "sound": 0.5, "best": 0.54, "classes": 1.35, "number": 0.95}
_GAP, _LINE = 0.12, 0.17
_DOTS = 100  # an inch
#: Okabe and Ito's colours, which the colour-blind tell apart, and three more.
_COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#222222"),
    *("#8c6d31", "#7b6fd0", "#999999"),
)
_STYLES = {"audio": ("#d55e00", "--"), "visual": ("#0072b2", "-."), "joint": ("#222222", "-")}
_MOST = len(_COLOURS)  # classes that have a curve: the most probable ones


def draw_timeline(prediction: VideoPrediction, media: Media, path: Path) -> None:
    """Write a PNG, whole or not at all.

    Args:
        prediction: with the windows that are drawn, each at its middle.
        media: what it is of.
        path: of the picture.

    Raises:
        InputError: matplotlib is not installed, or the picture cannot be written.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("--timeline needs matplotlib: pip install '.[plots]'") from error
    kinds = ["frames", "sound"]
    for label in prediction.labels:
        kinds += ["number"] if label.classes is None else ["best", "classes"]
    notes = [line for note in prediction.notes for line in textwrap.wrap(_plain(note), 140)]
    inner = sum(_HIGH[kind] for kind in kinds) + _GAP * (len(kinds) - 1)
    bottom = 0.48 + _LINE * len(notes)
    high = _TOP + inner + bottom
    with rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 8.5}):
        figure = Figure(figsize=(_WIDE, high))
        across = (_WIDE - _LEFT - _RIGHT) / _WIDE
        plots: list[Any] = []
        at = high - _TOP
        for kind in kinds:
            at -= _HIGH[kind]
            plots.append(figure.add_axes((_LEFT / _WIDE, at / high, across, _HIGH[kind] / high)))
            at -= _GAP
        begin, end = prediction.start, prediction.start + prediction.seconds
        _draw_frames(plots[0], prediction, media, (_WIDE - _LEFT - _RIGHT) / _HIGH["frames"])
        _draw_sound(plots[1], prediction, media)
        rest = iter(plots[2:])
        for label in prediction.labels:
            if label.classes is None:
                _draw_number(next(rest), label, prediction.windows)
            else:
                shown = _shown(label, prediction.windows)
                _draw_best(next(rest), label, prediction.windows, shown)
                _draw_classes(next(rest), label, prediction.windows, shown)
        for plot in plots:
            plot.set_xlim(begin, end)
            plot.tick_params(labelbottom=plot is plots[-1], bottom=plot is plots[-1])
        length = max((window.end - window.start for window in prediction.windows), default=0.0)
        plots[-1].set_xlabel(f"seconds; each answer is of the {length:.3g} s around it")
        figure.text(_LEFT / _WIDE, 1 - 0.27 / high, _plain(Path(prediction.path).name), fontsize=10, weight="bold")
        for place, line in enumerate(reversed(notes)):
            figure.text(0.1 / _WIDE, (0.05 + _LINE * place) / high, line, fontsize=7.5, color="#666666")
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=_DOTS, pil_kwargs={"optimize": True})
    try:
        write_atomically(path, picture.getvalue())
    except OSError as error:
        raise InputError(f"--timeline {path}: {error.strerror}: give a name in a folder that can be written") from error


def _draw_frames(plot: Any, prediction: VideoPrediction, media: Media, wanted: float) -> None:
    """So many frames side by side that each is about as wide as high, each in the middle of its time."""
    plot.set_yticks([])
    plot.spines[:].set_visible(False)
    if not len(media.frames):
        lacks = prediction.windows[0].lacks if prediction.windows else {}
        _say(plot, "no face is seen" if lacks.get(FILMSTRIP) == "no_face" else "no pictures")
        return
    count = max(1, round(wanted))
    at = (np.arange(count) + 0.5) / count * prediction.seconds
    chosen = np.minimum((at * media.fps).astype(int), len(media.frames) - 1)
    strip = np.concatenate(list(media.frames[chosen]), axis=1)
    extent = (prediction.start, prediction.start + prediction.seconds, 0, 1)
    plot.imshow(strip, extent=extent, aspect="auto", interpolation="antialiased")
    for edge in np.arange(1, count) / count:
        plot.axvline(prediction.start + edge * prediction.seconds, color="white", lw=1)


def _draw_sound(plot: Any, prediction: VideoPrediction, media: Media) -> None:
    """The envelope of the waveform."""
    plot.set_yticks([])
    plot.spines[:].set_visible(False)
    plot.set_ylabel("sound", rotation=0, ha="right", va="center")
    if not len(media.audio):
        _say(plot, "no sound")
        return
    block = max(1, len(media.audio) // 900)
    whole = media.audio[: len(media.audio) // block * block].reshape(-1, block)
    low, high = whole.min(1) / 32768, whole.max(1) / 32768
    at = prediction.start + (np.arange(len(whole)) + 0.5) * block / media.sample_rate
    plot.fill_between(at, low, high, color="#777777", lw=0.4)
    loudest = max(float(np.abs([low, high]).max()), 0.05)
    plot.set_ylim(-loudest, loudest)


def _draw_best(plot: Any, label: Label, windows: Sequence[Window], shown: Mapping[str, str]) -> None:
    """Which class each modality takes it for, the fainter the less probable."""
    edges = _edges(windows)
    for row, modality in enumerate(MODALITIES):
        for place, window in enumerate(windows):
            answer: Answer | None = getattr(window.targets[label.name], modality)
            if answer is None or answer.probabilities is None or answer.best is None:
                continue
            plot.barh(
                -row,
                edges[place + 1] - edges[place],
                left=edges[place],
                height=0.86,
                color=shown.get(answer.best, "#bbbbbb"),
                alpha=0.15 + 0.85 * answer.probabilities[answer.best],
                lw=0,
            )
    plot.set_ylim(-2.5, 0.5)
    plot.set_yticks([0, -1, -2], MODALITIES)
    plot.tick_params(axis="y", length=0)
    plot.spines[:].set_visible(False)
    plot.text(1.012, 0.5, _plain(f"{label.name}\nmost probable"), transform=plot.transAxes, va="center", fontsize=8)


def _draw_classes(plot: Any, label: Label, windows: Sequence[Window], shown: Mapping[str, str]) -> None:
    """A curve for each class, of the joint answer, or of the only one that there is."""
    modality = next((m for m in ("joint", "visual", "audio") if _has(windows, label, m)), "joint")
    for name, colour in shown.items():
        values = [_probability(getattr(window.targets[label.name], modality), name) for window in windows]
        _curve(plot, windows, values, color=colour, label=_plain(name))
    plot.set_ylim(0, 1)
    plot.set_yticks([0, 0.5, 1], ["0", "", "1"])
    plot.set_ylabel(f"{modality}\nprobability", rotation=0, ha="right", va="center")
    plot.grid(axis="y", alpha=0.25)
    plot.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8, labelspacing=0.25)


def _draw_number(plot: Any, label: Label, windows: Sequence[Window]) -> None:
    """A curve for each modality, between the least and the greatest that the label has."""
    for modality, (colour, style) in _STYLES.items():
        answers = [getattr(window.targets[label.name], modality) for window in windows]
        values = [np.nan if answer is None else float(answer.number) for answer in answers]
        if np.isfinite(values).any():
            _curve(plot, windows, values, linestyle=style, color=colour, label=modality)
    if label.low is not None and label.high is not None and label.low < label.high:
        low, high = plot.get_ylim()
        plot.set_ylim(min(low, label.low), max(high, label.high))
    plot.set_ylabel(_plain(label.name), rotation=0, ha="right", va="center")
    plot.grid(axis="y", alpha=0.25)
    if plot.get_legend_handles_labels()[0]:
        plot.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8, labelspacing=0.25)


def _curve(plot: Any, windows: Sequence[Window], values: Sequence[float], **style: Any) -> None:
    """Through the windows' middles; where there are few, with a mark at each."""
    at = [(window.start + window.end) / 2 for window in windows]
    alone = len(windows) < 4 or not np.isfinite(np.array(values[1:]) + np.array(values[:-1])).any()
    plot.plot(at, values, marker="o" if alone else "", markersize=3.5, lw=1.5, **style)


def _edges(windows: Sequence[Window]) -> NDArray[np.float64]:
    """Where the time of one window's middle ends and the next one's begins, (N + 1,)."""
    middles = np.array([(window.start + window.end) / 2 for window in windows])
    between = (middles[1:] + middles[:-1]) / 2
    first = windows[0].start if len(windows) == 1 else 2 * middles[0] - between[0]
    last = windows[-1].end if len(windows) == 1 else 2 * middles[-1] - between[-1]
    return np.array([first, *between, last])


def _shown(label: Label, windows: Sequence[Window]) -> dict[str, str]:
    """The classes that have a curve, with their colours."""
    classes = list(label.classes or ())
    if len(classes) > _MOST:
        most = {
            name: max(
                (_probability(a, name) for w in windows for _, a in w.targets[label.name].items() if a), default=0.0
            )
            for name in classes
        }
        kept = set(sorted(classes, key=most.__getitem__, reverse=True)[:_MOST])
        classes = [name for name in classes if name in kept]
    return dict(zip(classes, _COLOURS, strict=False))


def _has(windows: Sequence[Window], label: Label, modality: str) -> bool:
    return any(getattr(window.targets[label.name], modality) is not None for window in windows)


def _probability(answer: Answer | None, name: str) -> float:
    return np.nan if answer is None or answer.probabilities is None else answer.probabilities[name]


def _say(plot: Any, text: str) -> None:
    plot.text(0.5, 0.5, text, transform=plot.transAxes, ha="center", va="center", color="#999999")


def _plain(text: str) -> str:
    """Names may hold anything: a $ would begin a formula, and a legend leaves out what begins with _."""
    return " " * text.startswith("_") + printable(text).replace("$", r"\$")

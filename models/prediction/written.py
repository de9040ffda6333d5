"""What is said of videos, as JSON and as a table in CSV: for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loaders.dataset.labels import Label
from models.prediction.results import MODALITIES, Answer, Answers, VideoPrediction
from models.prediction.sources import Unanswered


def as_json(predictions: Sequence[VideoPrediction], unanswered: Sequence[Unanswered]) -> str:
    """All of it.

    ``videos``: path, start, seconds; ``targets``, by name and modality ``best`` and ``probabilities`` by class, or
    ``number``, null where there is nothing to say from; ``windows`` with the same; ``notes``. ``unanswered``: path,
    problem, mend.
    """
    content = {
        "videos": [
            {
                "path": one.path,
                "start": one.start,
                "seconds": one.seconds,
                "targets": _targets(one.targets),
                "windows": [
                    {
                        "start": window.start,
                        "end": window.end,
                        "targets": _targets(window.targets),
                        "lacks": dict(window.lacks),
                    }
                    for window in one.windows
                ],
                "notes": list(one.notes),
            }
            for one in predictions
        ],
        "unanswered": [{"path": one.path, "problem": one.problem, "mend": one.mend} for one in unanswered],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(
    labels: Sequence[Label],
    predictions: Sequence[VideoPrediction],
    unanswered: Sequence[Unanswered],
    *,
    windows: bool = False,
) -> str:
    """A row a video, and with ``windows`` one for each of its windows after it.

    Columns: path; row (video, window, unanswered); start, end in seconds of the file; for each target and modality
    ``emotion.joint``, the most probable class or the number, and ``emotion.joint.happy``, a probability; note. Empty
    cells: there is nothing to say from.
    """
    out = io.StringIO()
    columns = ["path", "row", "start", "end", *_columns(labels), "note"]
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for one in predictions:
        whole = {"path": one.path, "row": "video", "start": one.start, "end": _seconds(one.start + one.seconds)}
        writer.writerow({**whole, **_cells(one.targets), "note": "; ".join(one.notes)})
        for window in one.windows if windows else ():
            lacks = "; ".join(f"no {name}: {why}" for name, why in window.lacks.items())
            part = {"path": one.path, "row": "window", "start": _seconds(window.start), "end": _seconds(window.end)}
            writer.writerow({**part, **_cells(window.targets), "note": lacks})
    for failed in unanswered:
        writer.writerow({"path": failed.path, "row": "unanswered", "note": failed.problem})
    return out.getvalue()


def _targets(targets: Mapping[str, Answers]) -> dict[str, dict[str, Any]]:
    return {name: {modality: _answer(said) for modality, said in of.items()} for name, of in targets.items()}


def _answer(said: Answer | None) -> dict[str, Any] | None:
    if said is None:
        return None
    if said.probabilities is None:
        return {"number": said.number}
    return {"best": said.best, "probabilities": dict(said.probabilities)}


def _columns(labels: Sequence[Label]) -> Iterator[str]:
    for label in labels:
        for modality in MODALITIES:
            yield f"{label.name}.{modality}"
            yield from (f"{label.name}.{modality}.{name}" for name in label.classes or ())


def _cells(targets: Mapping[str, Answers]) -> dict[str, str | float]:
    found: dict[str, str | float] = {}
    for name, answers in targets.items():
        for modality, said in answers.items():
            if said is None:
                continue
            if said.number is not None:
                found[f"{name}.{modality}"] = said.number
            if said.probabilities is not None:
                found[f"{name}.{modality}"] = said.best or ""
                found |= {f"{name}.{modality}.{of}": value for of, value in said.probabilities.items()}
    return found


def _seconds(value: float) -> float:
    return round(value, 6)

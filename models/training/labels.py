"""Which labels a run predicts, how run.json says so, and whether a dataset has the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from loaders.dataset.catalog import Catalog
from loaders.dataset.dataset import Dataset
from loaders.dataset.labels import Label
from loaders.errors import InputError
from models.objectives.class_weights import ClassWeighting
from models.objectives.class_weights import class_weights as weights_of
from models.training.scores import first_of_utterances

TARGETS = "targets"  #: of run.json


def chosen(names: Sequence[str], datasets: Sequence[Dataset]) -> tuple[Label, ...]:
    """The labels of these names, as the datasets declare them; a number's range is that of all datasets.

    Args:
        names: in the order of the targets; none: the one label of the datasets that has classes.
        datasets: of which each has to have them.

    Raises:
        InputError: a name is given twice, a dataset has no such label or has other classes, or there is no one label of
            classes to be chosen.
    """
    if len(set(names)) < len(names):
        raise InputError(f"--targets {' '.join(names)}: names a label twice: name each once")
    found = [_label(datasets[0], name) for name in names or [_the_class_label(datasets[0])]]
    for dataset in datasets[1:]:
        found = [_of_both(label, dataset, str(datasets[0])) for label in found]
    return tuple(found)


def require_same(targets: Iterable[Label], datasets: Sequence[Dataset], run: object) -> None:
    """Raise InputError, with what differs, where a dataset lacks a label that a run predicts, or has other classes.

    Args:
        targets: of the run. A number's range may be another: what it means is the same.
        datasets: to score it on.
        run: its name.
    """
    for dataset in datasets:
        for target in targets:
            if dataset.manifest.label(target.name) is None:
                raise InputError(
                    f"{dataset}: has no label {target.name!r}, which {run} predicts, only {_have(dataset)}: give a "
                    "dataset that has"
                )
            _of_both(target, dataset, str(run))


def difference(known: Label, found: Label) -> str | None:
    """In what the classes of one label are not those of another; None where a network could predict either."""
    if (known.classes is None) != (found.classes is None):
        kinds = ["a number" if label.classes is None else "one of classes" for label in (known, found)]
        return f"{found.name} was {kinds[0]} and is {kinds[1]}"
    if known.classes is None or found.classes is None or known.classes == found.classes:
        return None
    missing = [name for name in known.classes if name not in found.classes]
    new = [name for name in found.classes if name not in known.classes]
    parts = [f"lacks {_listed(missing)}"] if missing else []
    parts += [f"has the new {_listed(new)}"] if new else []
    return f"{found.name} {' and '.join(parts) or 'has its classes in another order'}"


def differences(before: Sequence[Label], now: Sequence[Label]) -> str | None:
    """In what the targets of a run differ from those that it is asked to go on with; None where they do not."""
    names = [[label.name for label in labels] for labels in (before, now)]
    if names[0] != names[1]:
        return f"targets was {', '.join(names[0])} and is {', '.join(names[1])}"
    found = [difference(one, other) for one, other in zip(before, now, strict=True)]
    return ", ".join(what for what in found if what) or None


def to_json(targets: Iterable[Label]) -> list[dict[str, Any]]:
    """As run.json has them: the classes in the order of the network's outputs, or the numbers' range."""
    return [
        {"name": label.name, "low": label.low, "high": label.high}
        if label.classes is None
        else {"name": label.name, "classes": list(label.classes)}
        for label in targets
    ]


def from_json(data: Any, folder: object) -> tuple[Label, ...]:
    """What `to_json` made.

    Args:
        data: of run.json.
        folder: of the run, for messages.

    Raises:
        InputError: it is none of that.
    """
    try:
        labels = tuple(Label(**{**entry, "classes": _classes(entry.get("classes"))}) for entry in data)
        if not labels or any(label.problem(()) for label in labels):
            raise ValueError
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder}: does not say what it predicts: train it again") from error
    return labels


def moments(targets: Iterable[Label], catalogs: Sequence[Catalog]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of each number over the catalogs' utterances that state it, each once.

    A number that is constant has the deviation 1, and one that is never stated the mean 0: of neither is anything
    learnt, and neither may divide by 0.
    """
    names = [target.name for target in targets if target.classes is None]
    if not names:
        return {}
    once = first_of_utterances(catalogs)
    found: dict[str, tuple[float, float]] = {}
    for name in names:
        stated = np.concatenate([catalog.targets[name] for catalog in catalogs])[once].astype(np.float64)
        stated = stated[np.isfinite(stated)]
        found[name] = (float(stated.mean()), float(stated.std()) or 1.0) if len(stated) else (0.0, 1.0)
    return found


def class_weights(
    targets: Iterable[Label], catalogs: Sequence[Catalog], weighting: ClassWeighting
) -> dict[str, tuple[float, ...]]:
    """Of each target that has classes, how much each of them counts by how many clips of the catalogs have it."""
    found: dict[str, tuple[float, ...]] = {}
    for target in targets:
        if target.classes is not None:
            codes = np.concatenate([catalog.targets[target.name] for catalog in catalogs])
            counts = np.bincount(codes[codes >= 0], minlength=len(target.classes))
            found[target.name] = weights_of(counts.tolist(), weighting)
    return found


def _classes(given: Any) -> tuple[str, ...] | None:
    if given is None:
        return None
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        raise TypeError("classes are names")
    return tuple(given)


def _the_class_label(dataset: Dataset) -> str:
    labels = dataset.manifest.labels
    of_classes = [label.name for label in labels if label.classes is not None]
    if not labels:
        raise InputError(f"{dataset}: its clips have no labels to predict: build it again with some")
    if len(of_classes) != 1:
        raise InputError(f"{dataset}: its labels are {_have(dataset)}: choose what to predict with --targets")
    return of_classes[0]


def _label(dataset: Dataset, name: str) -> Label:
    label = dataset.manifest.label(name)
    if label is None:
        raise InputError(f"--targets {name}: {dataset} has no such label, only {_have(dataset)}: choose one of those")
    return label


def _of_both(label: Label, dataset: Dataset, whose: str) -> Label:
    other = _label(dataset, label.name)
    what = difference(label, other)
    if what is not None:
        raise InputError(f"{dataset}: {what}, compared with {whose}: give a dataset with the same classes")
    if label.low is None or label.high is None or other.low is None or other.high is None:
        return label
    return Label(name=label.name, low=min(label.low, other.low), high=max(label.high, other.high))


def _have(dataset: Dataset) -> str:
    labels = dataset.manifest.labels
    return ", ".join(f"{label.name}{'' if label.classes else ' (a number)'}" for label in labels) or "none"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"class{'' if len(names) == 1 else 'es'} {shown}{more}"

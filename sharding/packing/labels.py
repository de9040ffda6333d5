"""The labels of a dataset: whether it can have them, and what it declares where it is extended."""

from collections.abc import Iterable, Sequence

from loaders.dataset.columns import COLUMNS, member_columns
from loaders.dataset.labels import Label
from loaders.dataset.manifest import Member
from loaders.errors import InputError


def require_possible(labels: Iterable[Label], members: Iterable[Member], corpus: str) -> None:
    """Raise InputError where no dataset of these members can have these labels of a corpus of that name."""
    reserved = {column.name for column in COLUMNS}.union(*(member_columns(member.name) for member in members))
    for label in labels:
        problem = label.problem(reserved)
        if problem is not None:
            raise InputError(f"{corpus}: states {problem}: call it otherwise, or leave it out")
        reserved.add(label.name)


def joined(known: Sequence[Label], more: Sequence[Label], dataset: str, mend: str) -> tuple[Label, ...]:
    """The labels of a dataset with more utterances. Classes keep their places: new ones come after them.

    Args:
        known: of the dataset.
        more: of its corpus as it is now.
        dataset, mend: for the error message.

    Raises:
        InputError: they are not the same labels.
    """
    was, now = _told(known), _told(more)
    if was != now:
        raise InputError(f"{dataset}: was built with the labels {was}, not {now}: {mend}")
    return tuple(_joined(*pair) for pair in zip(known, more, strict=True))


def require_declared(known: Sequence[Label], more: Sequence[Label], dataset: str, mend: str) -> None:
    """Raise InputError, as `joined` does, and where ``more`` has classes or numbers that ``known`` does not declare.

    This is for a dataset that stays as it is: there, to state them has no effect.
    """
    for label, with_more in zip(known, joined(known, more, dataset, mend), strict=True):
        if with_more != label:
            raise InputError(f"{dataset}: has {_range_told(label)}, not {_range_told(with_more)}: {mend}")


def _range_told(label: Label) -> str:
    if label.classes is None:
        return f"{label.name} from {label.low:g} to {label.high:g}"
    return f"{label.name} of the classes {', '.join(label.classes)}"


def _told(labels: Sequence[Label]) -> str:
    return ", ".join(f"{label.name} ({'number' if label.classes is None else 'class'})" for label in labels) or "none"


def _joined(known: Label, more: Label) -> Label:
    if known.classes is not None and more.classes is not None:
        return Label(name=known.name, classes=tuple(dict.fromkeys((*known.classes, *more.classes))))
    lows, highs = ([n for n in of if n is not None] for of in ((known.low, more.low), (known.high, more.high)))
    return Label(name=known.name, low=min(lows), high=max(highs))

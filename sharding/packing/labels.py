"""The labels of a dataset: whether it can have them, and what it declares where it is extended."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace

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
            raise _differs(label, with_more, dataset, mend)


def require_as_declared(
    labels: Sequence[Label], more: Sequence[Label], declared: Container[str], dataset: str, mend: str
) -> None:
    """Raise InputError where a dataset's labels are not as somebody declares them, who would be told nothing otherwise.

    Args:
        labels: that the dataset has, or gets when it is extended.
        more: of its corpus as it is now; the same labels.
        declared: names of those whose classes, with their order, or range are declared, see `Corpus.declared`.
        dataset, mend: for the error message.
    """
    for label, now in zip(labels, more, strict=True):
        if label.name in declared and now != label:
            raise _differs(label, now, dataset, mend)


def require_alike(
    known: Sequence[Label], now: Sequence[Label], declared: Container[str], dataset: str, mend: str
) -> None:
    """Raise InputError where a build would declare other labels than the finished dataset has.

    Classes that nobody declared may be in another order: those that an extension brought come last.

    Args:
        known: of the dataset.
        now: that a build would declare; the same labels.
        declared, dataset, mend: as of `require_as_declared`.
    """
    require_as_declared(known, now, declared, dataset, mend)
    for label, would in zip(known, now, strict=True):
        if replace(would, classes=_sorted(would)) != replace(label, classes=_sorted(label)):
            raise _differs(label, would, dataset, mend)


def _sorted(label: Label) -> tuple[str, ...] | None:
    return None if label.classes is None else tuple(sorted(label.classes))


def _differs(label: Label, now: Label, dataset: str, mend: str) -> InputError:
    return InputError(f"{dataset}: has {_range_told(label)}, not {_range_told(now)}: {mend}")


def _range_told(label: Label) -> str:
    if label.low is not None and label.high is not None:
        return f"{label.name} from {_number(label.low)} to {_number(label.high)}"
    assert label.classes is not None, "a label has classes, or a range"
    return f"{label.name} of the classes {', '.join(label.classes)}"


def _number(value: float) -> str:
    """In few digits, where these are all: two that differ are told apart."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def _told(labels: Sequence[Label]) -> str:
    return ", ".join(f"{label.name} ({'number' if label.classes is None else 'class'})" for label in labels) or "none"


def _joined(known: Label, more: Label) -> Label:
    if known.classes is not None and more.classes is not None:
        return Label(name=known.name, classes=tuple(dict.fromkeys((*known.classes, *more.classes))))
    lows, highs = ([n for n in of if n is not None] for of in ((known.low, more.low), (known.high, more.high)))
    return Label(name=known.name, low=min(lows), high=max(highs))

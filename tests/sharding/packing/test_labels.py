"""Labels that a dataset can have, and what becomes of them where it is extended."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.dataset.labels import Label
from loaders.errors import InputError
from sharding.members.declared import members_of
from sharding.packing.labels import joined, require_alike, require_as_declared, require_declared, require_possible
from sharding.settings import BuildSettings

MOOD = Label(name="mood", classes=("sad", "glad"))
LEVEL = Label(name="level", low=0.0, high=1.0)
CLASSES = st.lists(st.text(min_size=1, max_size=3), min_size=1, unique=True).map(tuple)
ENDS = st.tuples(st.floats(-10, 10), st.floats(-10, 10)).map(sorted)


@given(CLASSES, CLASSES)
def test_classes_keep_their_places_and_none_is_lost(known: tuple[str, ...], more: tuple[str, ...]) -> None:
    labels = [Label(name="mood", classes=classes) for classes in (known, more)]
    (both,) = joined(labels[:1], labels[1:], "data", "build again")
    assert both.classes is not None
    assert both.classes[: len(known)] == known
    assert set(both.classes) == {*known, *more}
    assert both.problem(()) is None
    assert joined([both], labels[1:], "data", "build again") == (both,)


@given(ENDS, ENDS)
def test_a_range_holds_both(known: list[float], more: list[float]) -> None:
    labels = [Label(name="level", low=low, high=high) for low, high in (known, more)]
    (both,) = joined(labels[:1], labels[1:], "data", "build again")
    assert (both.low, both.high) == (min(known + more), max(known + more))


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ((MOOD,), r"mood \(class\), level \(number\), not mood \(class\)"),
        ((LEVEL, MOOD), r"not level \(number\), mood \(class\)"),
        ((MOOD, Label(name="level", classes=("a",))), r"not mood \(class\), level \(class\)"),
        ((), r"not none: build again"),
    ],
)
def test_other_labels_are_refused_by_name(now: tuple[Label, ...], told: str) -> None:
    with pytest.raises(InputError, match=rf"^data: was built with the labels .*{told}"):
        joined((MOOD, LEVEL), now, "data", "build again")


def test_a_dataset_that_stays_as_it_is_declares_all_that_may_be_stated() -> None:
    require_declared((MOOD, LEVEL), (replace(MOOD, classes=("glad",)), replace(LEVEL, low=0.5)), "data", "build again")
    with pytest.raises(InputError, match=r"^data: has mood of .* sad, glad, not mood of .* sad, glad, numb: b"):
        require_declared((MOOD, LEVEL), (replace(MOOD, classes=("numb", "sad")), LEVEL), "data", "build again")
    with pytest.raises(InputError, match=r"^data: has level from 0 to 1, not level from -1 to 1: build again"):
        require_declared((MOOD, LEVEL), (MOOD, replace(LEVEL, low=-1.0)), "data", "build again")


@pytest.mark.parametrize("name", ["mood", "level"])
def test_what_is_declared_is_what_the_dataset_has_to_the_order_and_the_last_digit(name: str) -> None:
    """Whoever declares less, more or another order would be told nothing, and get what the dataset has."""
    known = (MOOD, LEVEL)
    others = {
        "mood": [replace(MOOD, classes=classes) for classes in (("glad", "sad"), ("sad",), ("sad", "glad", "numb"))],
        "level": [replace(LEVEL, low=low, high=high) for low, high in ((0.5, 1.0), (0.0, 2.0), (0.0, 1 + 1e-12))],
    }[name]
    for other in others:
        now = tuple(other if label.name == name else label for label in known)
        with pytest.raises(InputError, match=rf"^data: has {name} .*, not {name} .*: m$") as refused:
            require_as_declared(known, now, {name}, "data", "m")
        has, asked = str(refused.value).removesuffix(": m").split("data: has ")[1].split(", not ")
        assert has != asked
        require_as_declared(known, now, {"mood", "level"} - {name}, "data", "m")
        is_order = set(other.classes or ()) == set(MOOD.classes or ())
        if not is_order:
            with pytest.raises(InputError, match=rf"^data: has {name} "):
                require_alike(known, now, (), "data", "m")
        else:
            require_alike(known, now, (), "data", "m")  # an extension may have brought the one that comes last
            with pytest.raises(InputError, match=rf"^data: has {name} "):
                require_alike(known, now, {name}, "data", "m")
    require_alike(known, known, {"mood", "level"}, "data", "m")


@pytest.mark.parametrize(
    ("label", "told"),
    [
        (Label(name="speaker", classes=("a",)), "'speaker', which cannot be a column"),
        (Label(name="audio_offset", low=0, high=1), "'audio_offset', which cannot be a column"),
        (Label(name="my mood", classes=("a",)), "'my mood', which cannot be a column"),
        (Label(name="level", low=0, high=1), "'level', which cannot be a column"),
        (Label(name="felt", classes=("a", "a")), "'felt' of the classes 'a', 'a'"),
        (Label(name="felt", classes=()), "'felt' of the classes none"),
        (Label(name="felt", low=1, high=0), "'felt' of numbers from 1 to 0"),
    ],
)
def test_what_no_catalog_can_hold_is_refused_before_anything_is_built(label: Label, told: str) -> None:
    members = members_of(BuildSettings())
    require_possible((MOOD, LEVEL), members, "corpus")
    with pytest.raises(InputError, match=rf"^corpus: states .*{told}.*: call it otherwise"):
        require_possible((LEVEL, label), members, "corpus")

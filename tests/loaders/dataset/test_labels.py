"""A label is some classes or a number, under a name that can be a column's."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.dataset.labels import Label

CLASSES = Label(name="mood", classes=("glad", "sad"))
NUMBER = Label(name="arousal", low=-1.0, high=1.0)


@given(
    st.lists(st.text(min_size=1), min_size=1, unique=True),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_classes_and_any_range_can_be(classes: list[str], one: float, other: float) -> None:
    assert replace(CLASSES, classes=tuple(classes)).problem(()) is None
    assert replace(NUMBER, low=min(one, other), high=max(one, other)).problem(()) is None


@pytest.mark.parametrize(
    "label",
    [
        replace(CLASSES, classes=()),
        replace(CLASSES, classes=("glad", "glad")),
        replace(CLASSES, classes=("glad", "")),
        replace(CLASSES, low=0.0, high=1.0),
        replace(NUMBER, low=2.0),
        replace(NUMBER, low=None),
        replace(NUMBER, high=None),
        replace(NUMBER, low=float("nan")),
        replace(NUMBER, high=float("inf")),
    ],
)
def test_what_is_neither_is_told_by_its_name(label: Label) -> None:
    assert label.name in (label.problem(()) or "")


@pytest.mark.parametrize("name", ["", "2", "two words", "a.b", "a-b", "ä", "mood\n", "speaker"])
def test_a_name_that_is_no_column_of_its_own_is_told(name: str) -> None:
    for label in (CLASSES, NUMBER):
        assert repr(name) in (replace(label, name=name).problem({"speaker"}) or "")
        assert label.problem({"speaker"}) is None

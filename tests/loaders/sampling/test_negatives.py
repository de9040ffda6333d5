"""A schedule holds from its epochs on, is the same however it is written, and what is none is refused."""

import json
from typing import Any

import pytest

from loaders.errors import InputError
from loaders.sampling.negatives import as_data, schedule_of, shares_at

EARLY, LATE = {"other_video": 1.0}, {"same_speaker": 0.5, "other_video": 0.5}


def test_what_holds_is_what_was_said_last() -> None:
    schedule = schedule_of({4: LATE, 0: EARLY})
    assert [shares_at(schedule, epoch) for epoch in (0, 3, 4, 5, 1000)] == [EARLY, EARLY, LATE, LATE, LATE]
    assert schedule_of(EARLY) == {0: EARLY}


def test_as_data_a_schedule_is_one_thing_and_survives_json() -> None:
    assert as_data(schedule_of(EARLY)) == EARLY == as_data(schedule_of({0: EARLY}))
    told = as_data(schedule_of({4: LATE, 0: EARLY}))
    assert told == as_data(schedule_of({0: EARLY, 4: dict(reversed(LATE.items()))})) == json.loads(json.dumps(told))
    assert told != as_data(schedule_of({0: EARLY, 5: LATE}))


@pytest.mark.parametrize(
    ("negatives", "what"),
    [
        ({3: EARLY}, "begins at epoch 3"),
        ({0: EARLY, -1: LATE}, "-1"),
        ({0: EARLY, "other_video": 1.0}, "'other_video': 1.0"),
        ({"0": EARLY}, "'0'"),
        ({0: EARLY, 2: {"same_speaker": 0.0}}, "no kind has a weight above 0 from epoch 2 on"),
        ({0: EARLY, 2: {"nobody": 1.0}}, "unknown kind 'nobody' from epoch 2 on"),
        ({0: EARLY, 2: {"shifted": float("inf")}}, "shifted has weight inf from epoch 2 on"),
    ],
)
def test_what_is_no_schedule_is_refused(negatives: Any, what: str) -> None:
    with pytest.raises(InputError, match=r"^negatives: ") as refused:
        schedule_of(negatives)
    assert what in str(refused.value)

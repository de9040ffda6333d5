"""Sides take turns, ratios are those within a round, and a record comes back as it was written."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.record import Record, SideError, median_ratio, read_record, spread, take_turns, write_record
from loaders.errors import InputError


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_every_side_is_measured_once_a_round_and_the_order_turns_around(rounds: int) -> None:
    asked: list[str] = []

    def side(name: str) -> dict[str, float]:
        asked.append(name)
        return {"place": float(len(asked))}

    found = take_turns({name: lambda name=name: side(name) for name in "abc"}, rounds)
    assert {name: len(figures) for name, figures in found.items()} == dict.fromkeys("abc", rounds)
    for number in range(rounds):
        assert "".join(asked[3 * number : 3 * number + 3]) == ("abc" if number % 2 == 0 else "cba")


def test_a_side_that_fails_is_left_out_from_there_where_it_may_be() -> None:
    asked: list[str] = []

    def broken() -> dict[str, float]:
        asked.append("broken")
        raise SideError("no codec")

    failed: dict[str, str] = {}
    found = take_turns({"ours": dict, "peer": broken}, 3, ["peer"], failed)
    assert (found, failed, asked) == ({"ours": [{}, {}, {}]}, {"peer": "no codec"}, ["broken"])
    with pytest.raises(InputError, match="peer: no codec"):
        take_turns({"ours": dict, "peer": broken}, 3, [], failed)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=7), st.floats(0.5, 4))
def test_a_machine_that_drifts_does_not_move_a_ratio(drift: list[float], factor: float) -> None:
    rounds = {"one": [{"x": factor * d} for d in drift], "other": [{"x": d} for d in drift]}
    assert median_ratio(rounds, "x", "one", "other") == pytest.approx(factor)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_the_median_lies_between_least_and_greatest(values: list[float]) -> None:
    middle, least, most = spread(values)
    assert (least, most) == (min(values), max(values))
    assert least <= middle <= most


def test_a_record_comes_back(tmp_path: Path) -> None:
    record = Record(
        benchmark="some",
        settings={"clips": 3, "folder": "x"},
        rounds={"a": [{"x": 1.5}, {"x": 2.5}], "b": [{"x": 3.0}, {"x": 4.0}]},
        ratios={"a / b": 0.5},
        facts={"note": "ä"},
    )
    path = tmp_path / "new" / "some.json"
    write_record(path, record, {"cores": 2})
    again, of, versions = read_record(path)
    assert again == record
    assert of == {"cores": 2}
    assert "python" in versions
    assert again.median("a", "x") == 2.0
    assert [p.name for p in path.parent.iterdir()] == ["some.json"]
    assert set(json.loads(path.read_text())) >= {"machine", "versions", "settings", "rounds", "ratios"}


@pytest.mark.parametrize("rounds", [0, -1])
def test_no_rounds_are_refused_before_medians_of_nothing_are_taken(rounds: int) -> None:
    with pytest.raises(InputError, match=f"--rounds is {rounds}: use 1 or more"):
        take_turns({"one": lambda: {"figure": 1.0}}, rounds)

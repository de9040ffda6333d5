"""Sides take turns, ratios are those within a round, and a record comes back as it was written."""

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.record import (
    Record,
    SideError,
    median_ratio,
    read_record,
    read_settings,
    rounds_table,
    scratch_folder,
    spread,
    take_turns,
    write_record,
)
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


def test_tables_of_rounds_fit_80_columns_and_show_every_name_whole() -> None:
    side = "the video loader of a library with a very long name, eight threads"
    rounds = {side: [{"frames_per_second": 12345.6, "share": 0.12345}] * 2, "ours": [{"frames_per_second": 2.0}]}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(rounds_table("loaders", rounds, ["frames_per_second", "share", "not_measured"]))
    shown = console.export_text()
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    folded = "".join(line.split("│")[1].strip() for line in shown.splitlines() if line.startswith("│"))
    assert side.replace(" ", "") in folded.replace(" ", "")
    assert shown.count("frames per second") == 2
    assert "12,346" in shown
    assert "0.1235" in shown or "0.1234" in shown
    assert "not measured" not in shown


@dataclass(frozen=True, kw_only=True)
class Outputs:
    json: Path | None = None
    plot: Path | None = None


def test_an_output_that_cannot_be_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    fine = tmp_path / "new" / "folder" / "a.json"
    monkeypatch.setattr(sys, "argv", ["x.py", "--json", str(fine), "--plot", str(tmp_path / "file" / "a.png")])
    with pytest.raises(SystemExit) as ended:
        read_settings(Outputs, None)
    assert ended.value.code == 2
    assert f"--plot {tmp_path}/file/a.png: {tmp_path}/file is no folder" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["x.py", "--json", str(tmp_path)])
    with pytest.raises(SystemExit):
        read_settings(Outputs, None)
    assert f"--json {tmp_path}: is a folder: name a file in it" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["x.py", "--json", str(fine)])
    assert read_settings(Outputs, None) == Outputs(json=fine)
    assert not fine.parent.exists()


def test_a_scratch_folder_is_removed_and_one_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, "windows-") as folder:
        assert folder.parent == tmp_path
        (folder / "a").touch()
    assert list(tmp_path.iterdir()) == []
    refused = pytest.raises(InputError, match=r"--folder .*missing: No such file or directory: give a --folder that is")
    with refused, scratch_folder(tmp_path / "missing", "windows-"):
        pass

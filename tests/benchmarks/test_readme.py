"""The tables of README and of docs/ are those of the records and of the code."""

from pathlib import Path

import pytest

from benchmarks.readme import (
    PAGES,
    Settings,
    between_marks,
    made,
    marks,
    scores_table,
    sizes_table,
    speed_table,
    thesis_tables,
)
from benchmarks.record import Record, write_record
from benchmarks.thesis.recipes import ROOT
from loaders.errors import InputError

MACHINE = {"processor": "P", "cores": 2, "memory_gb": 25.0, "gpu": None, "system": "Linux", "load": 0.1}


def marked(what: str) -> str:
    begin, end = marks(what)
    return (ROOT / PAGES[what]).read_text().partition(begin)[2].partition(end)[0]


def test_every_table_is_that_of_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("benchmarks.readme.sizes_table", lambda name: [])  # the test below counts them
    tables = made(Settings())
    assert tables.keys() == PAGES.keys()
    for what, lines in tables.items():
        assert "\n".join(lines) in marked(what), f"{what}: run python benchmarks/readme.py"


def test_a_record_that_is_not_there_leaves_its_table_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("benchmarks.readme.sizes_table", lambda name: [])
    tables = made(Settings(tables=tmp_path / "none.json", train_gpu=tmp_path / "none.json"))
    assert PAGES.keys() - tables.keys() == {"tables", "pre-training", "seeds", "speed"}


def test_sizes_are_those_of_the_code(full: bool) -> None:
    if not full:
        pytest.skip("--full counts all systems")
    assert "\n".join(sizes_table("full")) in marked("sizes"), "run python benchmarks/readme.py"


def test_what_is_between_the_marks_is_replaced_and_nothing_else() -> None:
    begin, end = marks("systems")
    text = f"before\n{begin}\nold\n{end}\nafter\n"
    once = between_marks(text, "systems", ["new", ""], "README.md")
    assert once == f"before\n{begin}\nnew\n\n{end}\nafter\n"
    assert between_marks(once, "systems", ["new", ""], "README.md") == once
    for broken in ("no mark", f"{begin}\n", f"{end}\n{begin}\n", text + text):
        with pytest.raises(InputError, match="once each"):
            between_marks(broken, "systems", [], "README.md")


def test_a_record_without_systems_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, Record(benchmark="thesis_tables", settings={}, rounds={}, ratios={}, facts={}), MACHINE)
    with pytest.raises(InputError, match="no record of all systems"):
        scores_table(path)


def test_a_record_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, Record(benchmark="windows", settings={}, rounds={}, ratios={}, facts={}), MACHINE)
    with pytest.raises(InputError, match="no record of the thesis' tables"):
        thesis_tables(path)
    with pytest.raises(InputError, match="no record of loaders"):
        speed_table(path, path, path)

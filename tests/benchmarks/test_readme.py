"""README's tables are those of the records and of the code."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.readme import SYSTEMS, TABLES, between_marks, marks, scores_table, sizes_table, thesis_tables
from benchmarks.record import Record, write_record
from benchmarks.thesis.recipes import ROOT
from loaders.errors import InputError

MACHINE = {"processor": "P", "cores": 2, "memory_gb": 25.0, "gpu": None, "system": "Linux", "load": 0.1}


def marked(what: str) -> str:
    begin, end = marks(what)
    return (ROOT / "README.md").read_text().partition(begin)[2].partition(end)[0]


@pytest.mark.parametrize(
    ("what", "record", "table"), [("tables", TABLES, thesis_tables), ("systems", SYSTEMS, scores_table)]
)
def test_scores_are_those_of_the_record(what: str, record: Path, table: Callable[[Path], list[str]]) -> None:
    path = ROOT / record
    if not path.exists():
        pytest.skip(f"no {record} here")
    assert "\n".join(table(path)) in marked(what), "run python benchmarks/readme.py"


def test_sizes_are_those_of_the_code(full: bool) -> None:
    if not full:
        pytest.skip("--full counts all systems")
    assert "\n".join(sizes_table("full")) in marked("systems"), "run python benchmarks/readme.py"


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

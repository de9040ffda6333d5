"""README's tables of all systems are those of the record and of the code."""

from pathlib import Path

import pytest

from benchmarks.readme import BEGIN, END, RESULTS, between_marks, scores_table, sizes_table
from benchmarks.record import Record, write_record
from benchmarks.thesis.recipes import ROOT
from loaders.errors import InputError

MACHINE = {"processor": "P", "cores": 2, "memory_gb": 25.0, "gpu": None, "system": "Linux", "load": 0.1}


def marked() -> str:
    return (ROOT / "README.md").read_text().partition(BEGIN)[2].partition(END)[0]


def test_scores_are_those_of_the_record() -> None:
    path = ROOT / RESULTS
    if not path.exists():
        pytest.skip(f"no {RESULTS} here")
    assert "\n".join(scores_table(path)) in marked(), "run python benchmarks/readme.py"


def test_sizes_are_those_of_the_code(full: bool) -> None:
    if not full:
        pytest.skip("--full counts all systems")
    assert "\n".join(sizes_table("full")) in marked(), "run python benchmarks/readme.py"


def test_what_is_between_the_marks_is_replaced_and_nothing_else() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = between_marks(text, ["new", ""], "README.md")
    assert once == f"before\n{BEGIN}\nnew\n\n{END}\nafter\n"
    assert between_marks(once, ["new", ""], "README.md") == once
    for broken in ("no mark", f"{BEGIN}\n", f"{END}\n{BEGIN}\n", text + text):
        with pytest.raises(InputError, match="once each"):
            between_marks(broken, [], "README.md")


def test_a_record_without_systems_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, Record(benchmark="thesis_tables", settings={}, rounds={}, ratios={}, facts={}), MACHINE)
    with pytest.raises(InputError, match="no record of all systems"):
        scores_table(path)

"""What is too wide for a terminal is shown in parts that it holds, all of it and in order."""

import io
import itertools

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from loaders.fitting import fits, in_parts, without_middle


def table_of(names: list[str]) -> Table:
    table = Table(*names)
    table.add_row(*["0"] * len(names))
    return table


@given(names=st.lists(st.text("abcäß漢字", min_size=1, max_size=30), max_size=12), width=st.integers(40, 100))
def test_parts_hold_everything_once_and_each_fits(names: list[str], width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    parts: list[list[str]] = []
    for table in in_parts(names, lambda some: table_of(list(some)), console):
        parts.append([str(column.header) for column in table.columns])
        assert fits(table, console) or len(parts[-1]) == 1
    assert [name for part in parts for name in part] == names
    for part, following in itertools.pairwise(parts):
        assert not fits(table_of([*part, following[0]]), console)  # no part is shorter than it has to be


def test_what_fits_is_not_cut() -> None:
    wide = table_of(["a" * 30, "b" * 30])
    assert fits(wide, Console(file=io.StringIO(), width=67))
    assert not fits(wide, Console(file=io.StringIO(), width=66))
    shown = io.StringIO()
    Console(file=shown, width=67).print(wide)
    assert "a" * 30 in shown.getvalue()
    assert "…" not in shown.getvalue()


@given(text=st.text("abc漢字/", max_size=60), width=st.integers(1, 40))
def test_a_long_text_loses_its_middle_alone(text: str, width: int) -> None:
    found = without_middle(text, width)
    assert cell_len(found) <= max(width, 1)
    if cell_len(text) <= width:
        assert found == text
    else:
        begin, _, end = found.partition("…")
        assert text.startswith(begin)
        assert text.endswith(end)
        assert cell_len(found) >= width - 2  # a wide character may not fit


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    assert without_middle("data/vox", 8) == "data/vox"
    assert without_middle("s3://bucket/a/b/c/voxceleb2", 16) == "s3://buc…xceleb2"
    assert [cell_len(without_middle("ソ" * 20, width)) for width in (8, 9, 40)] == [7, 9, 40]

"""Tables that a terminal holds: one that is too wide is shown in parts, and a name that is too long without its middle.

rich cuts what does not fit, and a column of "spea…" says nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

T = TypeVar("T")


def fits(table: Table, console: Console) -> bool:
    """Whether the console shows all of a table's cells in one line each."""
    return console.measure(table, options=console.options.update_width(10_000)).maximum <= console.width


def in_parts(things: Sequence[T], table: Callable[[Sequence[T]], Table], console: Console) -> Iterator[Table]:
    """A table of things that have columns of their own, or several of as many things each as the console holds.

    Args:
        things: in their order.
        table: makes one of some of them.
        console: where they are shown.

    Yields:
        Tables of consecutive things, each of one at least.
    """
    begin = 0
    while begin < len(things):
        end = begin + 1
        while end < len(things) and fits(table(things[begin : end + 1]), console):
            end += 1
        yield table(things[begin:end])
        begin = end


def without_middle(text: str, width: int) -> str:
    """A text of at most so many columns: of a longer one the beginning and the end, around an ellipsis."""
    if cell_len(text) <= width:
        return text
    begin, end = "", ""
    rest = list(text)
    while rest and cell_len(begin) + cell_len(end) + 1 + max(cell_len(rest[0]), cell_len(rest[-1])) <= width:
        if cell_len(begin) <= cell_len(end):
            begin += rest.pop(0)
        else:
            end = rest.pop() + end
    return f"{begin}…{end}"

"""How far a command is: a bar on a terminal, lines in a log.

A log shows no bar before it ends, so where the console is no terminal a line is printed at once, then one every half
minute, whether anything moved or not, and a last one at the end.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

T = TypeVar("T")

EVERY = 30.0  #: seconds between two lines of a log


@dataclass(slots=True)
class Bar:
    """What is done of a piece of work. One thread moves it, another may read it."""

    what: str
    total: float | None  #: None where nobody knows
    unit: str = ""
    per: float = 1.0  #: how much of what is counted makes one of the unit
    text: str = ""  #: what else is to be told
    done: float = 0
    _before: float = field(init=False)  # done already when it began
    _began: float = field(init=False, default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._before = self.done

    def advance(self, by: float = 1, text: str | None = None) -> None:
        """So much more is done, and this is to be told."""
        self.move(self.done + by, text)

    def move(self, done: float, text: str | None = None) -> None:
        """So much is done in all, and this is to be told."""
        self.done = done
        if text is not None:
            self.text = text

    def expect(self, total: float) -> None:
        """So much there is to do: known only now."""
        self.total = total

    def track(self, things: Iterable[T]) -> Iterator[T]:
        """The things, each of them counted when the next is asked for."""
        for thing in things:
            yield thing
            self.advance()

    def tell(self) -> str:
        """What is done, how long it took, how fast that is, how long the rest will take."""
        return told(self, time.monotonic() - self._began)

    @property
    def made(self) -> float:
        """What was done since it began."""
        return self.done - self._before


def told(bar: Bar, seconds: float) -> str:
    """What there is to say of a bar ``seconds`` after it began, in one line without its name."""
    digits = 0 if bar.per == 1 else 1
    of = "" if bar.total is None else f"/{bar.total / bar.per:.{digits}f}"
    parts = [f"{bar.done / bar.per:.{digits}f}{of} {bar.unit}".rstrip()]
    if bar.text:
        parts.append(bar.text)
    parts.append(_length(seconds))
    if bar.made > 0 and seconds > 0:
        rate = bar.made / seconds
        parts.append(f"{_readable(rate / bar.per)}{' ' * bool(bar.unit)}{bar.unit}/s")
        if bar.total is not None and bar.done < bar.total:
            parts.append(f"{_length((bar.total - bar.done) / rate)} left")
    return ", ".join(parts)


def _readable(number: float) -> str:
    """Three digits, or all before the point: nobody reads 3.2e+03."""
    return f"{number:.0f}" if number >= 1000 else f"{number:.3g}"


def _length(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class _Told(ProgressColumn):
    """`Bar.tell`, on a terminal."""

    def __init__(self, bar: Bar) -> None:
        super().__init__()
        self._bar = bar

    def render(self, task: Task) -> Text:
        # The task moves the picture of the bar, and only here: so whoever moves the bar knows nothing of terminals.
        task.total, task.completed = self._bar.total, self._bar.done
        return Text(self._bar.tell())


@contextmanager
def progress(
    what: str,
    total: float | None,
    unit: str = "",
    *,
    console: Console,
    per: float = 1.0,
    done: float = 0,
    text: str = "",
    every: float = EVERY,
    shown: bool = True,
    transient: bool = False,
) -> Iterator[Bar]:
    """Show how far a piece of work is, from here to the end of the block.

    Args:
        what: is done, a word or two.
        total: of what is counted, None where it is not known.
        unit: of what is counted, in the plural.
        console: where to show it: a bar where that is a terminal, otherwise lines.
        per: how much of what is counted makes one of the unit: 1e6 where bytes are counted and shown as MB.
        done: of the total, before it begins.
        text: what else is to be told, before anything is done.
        every: seconds between two lines.
        shown: or nothing is printed at all.
        transient: on a terminal the bar goes when it ends.

    Yields:
        What is to be moved.
    """
    bar = Bar(what, total, unit, per, text, done)
    if not shown:
        yield bar
    elif console.is_terminal:
        columns = (TextColumn("{task.description}", markup=False), _Told(bar))
        with Progress(columns[0], columns[1], BarColumn(bar_width=20), console=console, transient=transient) as shows:
            shows.add_task(what, total=total)
            yield bar
    else:
        with _lines(bar, console, every):
            yield bar


@contextmanager
def _lines(bar: Bar, console: Console, every: float) -> Iterator[None]:
    ended = threading.Event()

    def say() -> None:
        # One write, and flushed: a console does both. Names may hold anything, so nothing in them is markup.
        console.print(f"{bar.what}: {bar.tell()}", markup=False, highlight=False, emoji=False, soft_wrap=True)

    def go_on_saying() -> None:
        while not ended.wait(every):
            say()

    say()
    thread = threading.Thread(target=go_on_saying, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    say()  # what fails says so itself

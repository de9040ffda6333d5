"""How far a command is: a log says it from the start on, a terminal shows a bar."""

import io
import threading
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from loaders.progress import Bar, progress, told


def test_a_log_gets_a_line_at_once_one_every_so_often_and_one_at_the_end() -> None:
    """Also while nothing moves: what takes long is no reason to be silent."""
    log = Flushed()
    with progress("building", 80, "utterances", console=Console(file=log), every=0.05, text="0 clips") as bar:
        assert log.lines() == ["building: 0/80 utterances, 0 clips, 0:00"]
        wait_for(lambda: len(log.lines()) >= 3)
        bar.advance(20, "[red]19 clips, :smile:")
        said = len(log.lines())
        wait_for(lambda: len(log.lines()) > said + 1)
        assert log.lines()[-1].startswith("building: 20/80 utterances, [red]19 clips, :smile:, 0:00, ")
        assert " utterances/s, 0:0" in log.lines()[-1]
        bar.move(80, "80 clips")
    assert log.lines()[-1].startswith("building: 80/80 utterances, 80 clips, 0:00")
    assert "left" not in log.lines()[-1]
    assert log.unflushed == ""
    said = len(log.lines())
    time.sleep(0.12)
    assert len(log.lines()) == said  # it is over


def test_what_fails_has_the_last_word() -> None:
    log, threads = Flushed(), threading.active_count()

    def work() -> None:
        with progress("x", 3, console=Console(file=log)) as bar:
            for _ in bar.track(range(3)):
                if bar.done == 2:
                    raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    assert [line.partition(",")[0] for line in log.lines()] == ["x: 0/3"]
    assert threading.active_count() == threads


def test_a_terminal_shows_a_bar_and_no_lines() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with progress("verifying", 3e6, "MB", per=1e6, console=console) as bar:
        bar.advance(3e6)
    shown = screen.getvalue()
    assert "3.0/3.0 MB" in shown
    assert "verifying:" not in shown
    assert "━" in shown


def test_nothing_is_printed_where_nothing_is_to_be_shown() -> None:
    log = Flushed()
    with progress("x", 3, console=Console(file=log), shown=False) as bar:
        assert list(bar.track("abc")) == ["a", "b", "c"]
        assert bar.done == 3
    assert log.lines() == []


def test_what_is_left_is_reckoned_from_what_was_done_since_it_began() -> None:
    bar = Bar("train", 100, "steps", done=60)
    assert told(bar, 10) == "60/100 steps, 0:10"
    bar.move(80)
    assert told(bar, 10) == "80/100 steps, 0:10, 2 steps/s, 0:10 left"
    bar.move(80.0, "loss 0.5")
    assert told(bar, 40000) == "80/100 steps, loss 0.5, 11:06:40, 0.0005 steps/s, 11:06:40 left"
    unknown = Bar("verifying", None, "MB", per=1e6)
    unknown.advance(2_500_000)
    assert told(unknown, 5) == "2.5 MB, 0:05, 0.5 MB/s"
    fast = Bar("x", 32_200, "utterances")
    fast.advance(32_200)
    assert told(fast, 10) == "32200/32200 utterances, 0:10, 3220 utterances/s"


class Flushed(io.StringIO):
    """A log that knows what of it would be lost, or late, without a flush."""

    unflushed = ""

    def write(self, text: str) -> int:
        self.unflushed += text
        return super().write(text)

    def flush(self) -> None:
        self.unflushed = ""

    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


def wait_for(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)

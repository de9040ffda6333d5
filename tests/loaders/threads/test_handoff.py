"""What goes in comes out, in order and in bounds, and either side can end it without stranding the other."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.threads.handoff import ClosedError, Handoff, QueueCounts

PATIENCE = 20.0  # seconds until a thread counts as stuck


def handoff(depth: int = 2) -> tuple[Handoff[int], QueueCounts]:
    counts = QueueCounts()
    return Handoff(depth, counts), counts


@contextmanager
def running(work: Callable[[], object]) -> Iterator[threading.Thread]:
    """A thread at work, which must end within the block's `PATIENCE`."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield thread
    thread.join(PATIENCE)
    assert not thread.is_alive()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def take_the_rest(queue: Handoff[int], taken: list[int]) -> None:
    with suppress(ClosedError):
        while True:
            taken.append(queue.get())


@given(st.integers(1, 4), st.lists(st.booleans(), max_size=60))
def test_it_is_a_queue(depth: int, puts: list[bool]) -> None:
    """Against a plain deque, doing only what would not wait."""
    queue, counts = handoff(depth)
    model: deque[int] = deque()
    gets = depths = 0
    for number, put in enumerate(puts):
        if put and len(model) < depth:
            queue.put(number)
            model.append(number)
        elif not put and model:
            gets, depths = gets + 1, depths + len(model)
            assert queue.get() == model.popleft()
    assert (counts.gets, counts.depth_sum) == (gets, depths)
    queue.finish()
    assert [queue.get() for _ in range(len(model))] == list(model)
    with pytest.raises(ClosedError):
        queue.get()


@given(st.integers(1, 3), st.integers(0, 60), st.integers(0, 60), st.booleans())
@settings(max_examples=60)
def test_two_threads_pass_everything_on_in_order_until_one_of_them_stops(
    depth: int, made: int, wanted: int, close: bool
) -> None:
    queue, _ = handoff(depth)
    ahead: list[int] = []
    taken: list[int] = []

    def produce() -> None:
        try:
            for number in range(made):
                queue.put(number)
                ahead.append(number + 1 - len(taken))
            queue.finish()
        except ClosedError:
            pass

    with running(produce):
        try:
            while len(taken) < wanted:
                taken.append(queue.get())
        except ClosedError:
            assert taken == list(range(made))
        if close:
            queue.close()
        else:
            take_the_rest(queue, taken)
    assert taken == list(range(min(made, wanted) if close else made))
    assert max(ahead, default=0) <= depth + 1  # one may be out of the queue and not yet counted as taken


def test_a_full_queue_makes_the_producer_wait() -> None:
    queue, counts = handoff(depth=2)
    done = []

    def produce() -> None:
        for number in range(3):
            queue.put(number)
            done.append(number)

    with running(produce):
        wait_until(lambda: len(done) == 2)
        time.sleep(0.05)
        assert done == [0, 1]
        assert queue.get() == 0
        wait_until(lambda: len(done) == 3)
    assert counts.put_wait >= 0.04
    assert counts.get_wait < 0.04


def test_an_empty_queue_makes_the_consumer_wait() -> None:
    queue, counts = handoff()
    taken: list[int] = []
    with running(lambda: taken.append(queue.get())):
        time.sleep(0.05)
        assert not taken
        queue.put(7)
    assert taken == [7]
    assert counts.get_wait >= 0.04
    assert counts.put_wait < 0.04


def test_closing_wakes_a_waiting_producer_and_drops_what_is_queued() -> None:
    queue, _ = handoff(depth=1)
    outcome: list[str] = []

    def produce() -> None:
        queue.put(0)
        try:
            queue.put(1)
        except ClosedError:
            outcome.append("closed")

    with running(produce):
        time.sleep(0.02)
        queue.close()
    assert outcome == ["closed"]
    with pytest.raises(ClosedError):
        queue.get()
    with pytest.raises(ClosedError):
        queue.put(2)


def test_finishing_wakes_a_waiting_consumer() -> None:
    queue, _ = handoff()
    outcome: list[str] = []

    def consume() -> None:
        try:
            queue.get()
        except ClosedError:
            outcome.append("closed")

    with running(consume):
        time.sleep(0.02)
        queue.finish()
    assert outcome == ["closed"]


def test_the_producers_exception_comes_after_what_it_made_and_comes_again() -> None:
    queue, _ = handoff()
    queue.put(1)
    queue.finish(ZeroDivisionError("of the producer"))
    assert queue.get() == 1
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="of the producer"):
            queue.get()


def test_nothing_can_be_put_after_the_end() -> None:
    queue, _ = handoff()
    queue.finish()
    with pytest.raises(ClosedError):
        queue.put(0)


def test_the_mean_depth_is_what_was_at_hand_when_asked() -> None:
    queue, counts = handoff(depth=3)
    assert counts.depth == 0
    for number in range(3):
        queue.put(number)
    for _ in range(3):
        queue.get()
    assert counts.depth == (3 + 2 + 1) / 3


def test_a_wait_for_an_item_is_said_and_ends(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("loaders.threads.handoff._WORD", 0.02)
    monkeypatch.setattr("loaders.threads.handoff._PATIENCE", 0.1)
    handoff: Handoff[int] = Handoff(1, QueueCounts(), "decoded batch")
    with pytest.raises(TimeoutError, match="no decoded batch has come"):
        handoff.get()
    assert "no decoded batch has come for" in caplog.text
    handoff.put(3)
    assert handoff.get() == 3

"""However many threads work and however long each step takes, steps are handed on in their order."""

import threading
import time

import pytest

from loaders.threads.handoff import ClosedError
from loaders.threads.turns import Turns

PATIENCE = 10.0


def run(turns: Turns, threads: int, steps: int, handed_on: list[int], began: list[int]) -> list[threading.Thread]:
    def work() -> None:
        try:
            while True:
                with turns.beginning() as number:
                    began.append(number)
                time.sleep((number * 7919 % 5) * 1e-4)
                turns.wait_for(number)
                handed_on.append(number)
                if number + 1 == steps:
                    turns.end()
                turns.done()
        except ClosedError:
            pass

    found = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for thread in found:
        thread.start()
    return found


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_steps_are_begun_and_handed_on_in_order_and_all_threads_end(threads: int) -> None:
    handed_on: list[int] = []
    began: list[int] = []
    for thread in run(Turns(), threads, 300, handed_on, began):
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert handed_on == list(range(300))
    assert began == list(range(len(began)))


def test_the_end_wakes_who_waits_and_nothing_is_begun_after_it() -> None:
    turns, woken = Turns(), threading.Event()
    with turns.beginning():
        pass

    def wait() -> None:
        with pytest.raises(ClosedError):
            turns.wait_for(1)
        woken.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert not woken.wait(0.05)
    turns.end()
    assert woken.wait(PATIENCE)
    with pytest.raises(ClosedError), turns.beginning():
        pass

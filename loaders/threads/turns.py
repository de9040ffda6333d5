"""Steps that several threads work on at once, begun one after the other and handed on in their order."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from loaders.threads.handoff import ClosedError


class Turns:
    """Numbers steps 0, 1, … and says when a step's turn to be handed on has come."""

    def __init__(self) -> None:
        self._begin = threading.Lock()
        self._changed = threading.Condition()
        self._begun = 0
        self._turn = 0
        self._ended = False

    @contextmanager
    def beginning(self) -> Iterator[int]:
        """Begin the next step, which has the number yielded, while no other thread begins one.

        Raises:
            ClosedError: `end` was called.
        """
        with self._begin:
            if self._ended:
                raise ClosedError
            number = self._begun
            self._begun += 1
            yield number

    def wait_for(self, number: int) -> None:
        """Wait until all steps before this one have been handed on.

        Raises:
            ClosedError: `end` was called.
        """
        with self._changed:
            while self._turn != number and not self._ended:
                self._changed.wait(60)  # whoever is before this one ends by its own limits, or is waited for by nobody
            if self._ended:
                raise ClosedError

    def done(self) -> None:
        """The step whose turn it was has been handed on."""
        with self._changed:
            self._turn += 1
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing is begun or handed on any more; who waits is woken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

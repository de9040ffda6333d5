"""A bounded queue from one thread to another that ends cleanly, and knows who waited for whom."""

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

_log = logging.getLogger(__name__)

T = TypeVar("T")

_WORD, _PATIENCE = 60.0, 3600.0  # seconds of waiting for an item until it is said, and said again; and given up


class ClosedError(Exception):
    """The other side is gone: nothing can be put any more, or nothing is left to get."""


@dataclass(slots=True)
class QueueCounts:
    """Who waited for whom at a queue."""

    put_wait: float = 0.0  #: seconds the producer waited for room: high means that the consumer is the slower side
    get_wait: float = 0.0  #: seconds the consumer waited for an item: high means that the producer is the slower side
    gets: int = 0  #: items asked for
    depth_sum: int = 0  #: items at hand, summed over the moments of asking for one

    @property
    def depth(self) -> float:
        """Mean number of items at hand when one was asked for; close to 0, the producer is the slower side."""
        return self.depth_sum / self.gets if self.gets else 0.0


class Handoff(Generic[T]):
    """Passes items in order from one thread to another, at most ``depth`` at a time.

    Either side may end it: the producer with `finish` (the consumer still gets what is queued, then the producer's
    exception or ClosedError), the consumer with `close` (what is queued is dropped, a waiting producer wakes).
    """

    def __init__(self, depth: int, counts: QueueCounts, what: str = "item") -> None:
        """
        Args:
            depth: items at most.
            counts: to add to.
            what: an item is, for messages.
        """
        self._depth, self._what = depth, what
        self._counts = counts
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Queue an item, waiting for room. Raises ClosedError when the consumer has closed.

        Who consumes may take as long as it likes, a night between two batches: this wait alone has no limit.
        """
        with self._changed:
            start = time.perf_counter()
            while len(self._items) >= self._depth and not self._finished:
                self._changed.wait()
            self._counts.put_wait += time.perf_counter() - start
            if self._finished:
                raise ClosedError
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> T:
        """Take the next item, waiting for one.

        Raises:
            BaseException: the producer's.
            ClosedError: at the end.
            TimeoutError: none has come for an hour; it has been said every minute.
        """
        with self._changed:
            start = time.perf_counter()
            self._counts.depth_sum += len(self._items)
            self._counts.gets += 1
            while not self._items and not self._finished:
                if self._changed.wait(_WORD) or self._items or self._finished:
                    continue
                waited = time.perf_counter() - start
                if waited > _PATIENCE:
                    raise TimeoutError(f"no {self._what} has come for {waited:.0f} s: its threads hang")
                _log.warning("no %s has come for %.0f s", self._what, waited)
            self._counts.get_wait += time.perf_counter() - start
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            raise self._error or ClosedError

    def finish(self, error: BaseException | None = None) -> None:
        """The producer's end: nothing more will be put."""
        with self._changed:
            self._finished = True
            self._error = error
            self._changed.notify_all()

    def close(self) -> None:
        """The consumer's end: drop what is queued and refuse more."""
        with self._changed:
            self._finished = True
            self._items.clear()
            self._changed.notify_all()

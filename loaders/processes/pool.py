"""Processes that read members for the threads of a loader.

Threads take turns with the interpreter's lock: every member that is read and every checksum lets go of it and takes it
again, and whoever waits for it sleeps meanwhile. Beside a consumer that has it half of the time two threads read 0.7 of
what two processes do (`benchmarks/reading.py`). A process has a lock of its own: its thread here draws a step, sends
where its members lie, and sleeps until they are there, in memory that both share.
"""

import errno
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray

from loaders.processes import members as program
from loaders.processes.members import ANSWER, REQUEST
from loaders.processes.reading import Columns, by_this_thread
from loaders.processes.shared_memory import SharedMemory, where
from loaders.threads.handoff import ClosedError

Readers = Literal["auto", "threads", "processes"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

_WAIT = 60.0  # seconds without an answer, before it is said
_PAUSE = 60.0  # seconds that are read here after a process ended, before another is started
_ENDING = 5.0  # seconds that a process has to end


class _EndedError(Exception):
    """The process is gone, or its socket."""


class ReadingProcess:
    """One of them. One thread at a time may use it."""

    def __init__(self) -> None:
        """Raises OSError where none can be started."""
        if not sys.executable or getattr(sys, "frozen", False) or not Path(program.__file__).is_file():
            raise OSError(errno.ENOEXEC, "this program is no Python with its modules in files, that could run one")
        ours, theirs = socket.socketpair()
        packages = str(Path(xxhash.__file__).parents[1])
        command = [sys.executable, "-I", "-S", program.__file__, str(theirs.fileno()), str(os.getpid()), packages]
        try:
            # In a session of its own: Ctrl-C is for the loader's process alone.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.settimeout(_WAIT)
        self._connection = ours
        self._known: dict[int, weakref.ref[SharedMemory]] = {}
        self.processor_seconds = 0.0  #: that it has taken so far
        self.close = weakref.finalize(self, _end, ours, self._process, os.getpid())  #: end it, and wait until it has

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def read(self, descriptors: Sequence[int], members: Columns, memory: SharedMemory, first: int) -> list[int]:
        """As `read_and_check`, into shared memory from the byte ``first`` on. Raises _EndedError."""
        gone = [number for number, known in self._known.items() if known() is None]
        for number in gone:
            del self._known[number]
        is_new = memory.number not in self._known
        self._known[memory.number] = weakref.ref(memory)
        *located, start = members
        request = REQUEST.pack(len(start), memory.number, is_new, len(gone))
        message = b"".join([request, array("q", gone), *(column.tobytes() for column in (*located, start + first))])
        passed = [*([memory.descriptor] if is_new else []), *descriptors]
        try:
            self._send(message, passed)
            bad, self.processor_seconds = ANSWER.unpack(self._receive(ANSWER.size))
            return array("q", self._receive(8 * bad)).tolist()
        except OSError as error:
            raise _EndedError from error

    def _send(self, message: bytes, descriptors: Sequence[int]) -> None:
        sent = self._patiently(partial(socket.send_fds, self._connection, [message], descriptors))
        while sent < len(message):
            sent += self._patiently(partial(self._connection.send, message[sent:]))

    def _receive(self, length: int) -> bytes:
        received = bytearray()
        while len(received) < length:
            piece = self._patiently(partial(self._connection.recv, length - len(received)))
            if not piece:
                raise _EndedError
            received += piece
        return bytes(received)

    def _patiently(self, call: Callable[[], T]) -> T:
        """What a call of the socket returns, however long that takes; from time to time it is said."""
        asked = time.monotonic()
        while True:
            try:
                return call()
            except TimeoutError:
                waited = time.monotonic() - asked
                _log.warning("reading process %d has not answered for %.0f s: is the disk at work?", self.pid, waited)

    def shut(self) -> None:
        """Wake whoever waits for it, which closing the socket would not; then it ends by itself."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def kill_after(self, until: float) -> None:
        """Wait until it has ended, at most until then; after that it is killed."""
        try:
            self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()

    def ended(self) -> str:
        """How it has ended, after `close`."""
        code = self._process.poll()
        if code is None:
            return "does not end"
        return f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"


def _end(connection: socket.socket, process: "subprocess.Popen[bytes]", owner: int) -> None:
    if os.getpid() != owner:
        return  # a forked child has no say
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # also where a forked child has this end of it, too
    try:
        process.wait(_ENDING)
    except subprocess.TimeoutExpired:
        process.kill()  # it reads from a disk that does not answer, and ends when that does
        with suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING)
    connection.close()


class ReadingProcesses:
    """Those of a loader, started when they are needed."""

    def __init__(self) -> None:
        self._idle: deque[ReadingProcess] = deque()
        self._all: set[ReadingProcess] = set()
        self._lock = threading.RLock()  # the collector of cycles may find another loader in the thread that has it
        self._closed = False
        self._not_before = self._silent_until = 0.0
        self.in_their_place = 0  #: times that a thread read, for a process had ended, or there could be none

    def read(self, descriptors: Sequence[int], members: Columns, memory: NDArray[np.uint8]) -> list[int]:
        """As `read_and_check`, by a process; by this thread where none can, which is counted and was said.

        Raises:
            ClosedError: `close` was called.
        """
        place = where(memory)
        process = None if place is None else self._take()
        if process is None or place is None:
            self.in_their_place += 1
            return by_this_thread(descriptors, members, memory)
        try:
            bad = process.read(descriptors, members, *place)
        except _EndedError:
            self._drop(process)
            if self._closed:
                raise ClosedError from None
            self._pause(f"reading process {process.pid} {process.ended()}")
            self.in_their_place += 1
            return by_this_thread(descriptors, members, memory)
        except BaseException:
            self._drop(process)  # in the midst of an answer
            raise
        self._idle.append(process)
        return bad

    def _take(self) -> ReadingProcess | None:
        with suppress(IndexError):
            return self._idle.popleft()  # in turns: each learns by its next request which memory is gone
        if self._closed:
            raise ClosedError
        if time.monotonic() < self._not_before:
            return None
        try:
            process = ReadingProcess()
        except OSError as error:
            self._pause(f"no process could be started to read ({error.strerror})")
            return None
        with self._lock:
            if not self._closed:
                self._all.add(process)
                return process
        process.close()
        raise ClosedError

    def _drop(self, process: ReadingProcess) -> None:
        with self._lock:
            self._all.discard(process)
        process.close()

    def _pause(self, why: str) -> None:
        self._not_before = time.monotonic() + _PAUSE
        _log.warning("%s: for %.0f s threads read in its place, which may be slower", why, _PAUSE)

    def cannot_share(self, error: OSError) -> None:
        """Say that there is no memory to share, when it has not been said for a while."""
        if time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + _PAUSE
            why = "no memory can be shared with the processes that read"
            _log.warning("%s (%s): threads read while it is so, which may be slower", why, error.strerror)

    @property
    def processor_seconds(self) -> float:
        """Of all that run."""
        with self._lock:
            return sum(process.processor_seconds for process in self._all)

    def close(self) -> None:
        """End them. A thread that waits for one gets ClosedError."""
        with self._lock:
            self._closed = True
            ending, self._all = self._all, set()
        self._idle.clear()
        for process in ending:
            process.shut()
        until = time.monotonic() + _ENDING  # for all together: they wait for one disk
        for process in ending:
            process.kill_after(until)
        for process in ending:
            process.close()

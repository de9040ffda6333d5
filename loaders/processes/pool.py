"""Processes that read members for the threads of a loader.

Threads take turns with the interpreter's lock: every member that is read and every checksum lets go of it and takes it
again, and whoever waits for it sleeps meanwhile. Beside a GPU, which takes clips from one thread and batches from
another, two threads that read each for themselves gave less than half of what they would alone. A process has a lock of
its own: its thread here draws a step, sends where its members lie, and sleeps until they are there, in memory that both
share.
"""

import errno
import logging
import mmap
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from array import array
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from loaders.processes import members as program
from loaders.processes.members import ANSWER, REQUEST
from loaders.processes.reading import Columns, by_this_thread
from loaders.processes.shared_memory import SharedMemory, where
from loaders.threads.buffers import private_memory
from loaders.threads.handoff import ClosedError

Readers = Literal["auto", "threads", "processes"]

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
        if not sys.executable:
            raise OSError(errno.ENOENT, "this program is no Python that could run another")
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
            sent = socket.send_fds(self._connection, [message], passed)
            self._connection.sendall(message[sent:])
            bad, self.processor_seconds = ANSWER.unpack(self._receive(ANSWER.size))
            return array("q", self._receive(8 * bad)).tolist()
        except OSError as error:
            raise _EndedError from error

    def _receive(self, length: int) -> bytes:
        received = bytearray()
        asked = time.monotonic()
        while len(received) < length:
            try:
                piece = self._connection.recv(length - len(received))
            except TimeoutError:
                _log.warning(
                    "reading process %d has not answered for %.0f s: is the disk at work?",
                    self.pid,
                    time.monotonic() - asked,
                )
                continue
            if not piece:
                raise _EndedError
            received += piece
        return bytes(received)

    def close(self) -> None:
        """End it, and wait until it has."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)  # which wakes a thread that waits for it, as closing does not
        try:
            self._process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()  # it reads from a disk that does not answer, and ends when that does
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDING)
        self._connection.close()

    def ended(self) -> str:
        """How it has ended, after `close`."""
        code = self._process.poll()
        if code is None:
            return "does not end"
        return f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"


class ReadingProcesses:
    """Those of a loader, started when they are needed."""

    def __init__(self) -> None:
        self._idle: deque[ReadingProcess] = deque()
        self._all: set[ReadingProcess] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._not_before = 0.0
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

    def memory(self, length: int) -> mmap.mmap:
        """Memory to read to, shared with the processes; of this one alone where none can be shared, with a word."""
        try:
            return SharedMemory(length)
        except OSError as error:
            if time.monotonic() >= self._not_before:
                self._pause(f"no memory could be shared with the processes that read ({error.strerror})")
            return private_memory(length)

    def _take(self) -> ReadingProcess | None:
        with suppress(IndexError):
            return self._idle.pop()
        with self._lock:
            if self._closed:
                raise ClosedError
            if time.monotonic() < self._not_before:
                return None
            try:
                process = ReadingProcess()
            except OSError as error:
                self._pause(f"no process could be started to read ({error.strerror})")
                return None
            self._all.add(process)
            return process

    def _drop(self, process: ReadingProcess) -> None:
        with self._lock:
            self._all.discard(process)
        process.close()

    def _pause(self, why: str) -> None:
        self._not_before = time.monotonic() + _PAUSE
        _log.warning("%s: for %.0f s threads read in its place, which may be slower", why, _PAUSE)

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
            process.close()

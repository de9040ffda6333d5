"""Processes read what a thread would, and end with the loader, whatever becomes of either."""

import gc
import logging
import mmap
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loaders.processes import pool
from loaders.processes.members import MOST_SHARDS
from loaders.processes.pool import ReadingProcess, ReadingProcesses
from loaders.processes.reading import Columns, by_this_thread
from loaders.processes.shared_memory import SharedMemory
from loaders.threads.buffers import Buffers
from loaders.threads.handoff import ClosedError

PATIENCE = 20.0
LENGTH = 40_000


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """Descriptors of open files of random bytes."""
    folder = tmp_path_factory.mktemp("shards")
    descriptors = []
    for number in range(3):
        path = folder / f"{number}.tar"
        path.write_bytes(np.random.default_rng(number).bytes(LENGTH))
        descriptors.append(os.open(path, os.O_RDONLY))
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.fixture(scope="module")
def processes() -> Iterator[ReadingProcesses]:
    """Some, for all tests that do not end them."""
    found = ReadingProcesses()
    yield found
    found.close()


def located(shards: list[int], members: list[tuple[int, int, int, bool]]) -> Columns:
    """Columns of members (shard, offset, size, whether its checksum is right) that lie one after the other."""
    columns: list[list[int]] = [[], [], [], [], []]
    start = 0
    for shard, offset, size, is_right in members:
        digest = xxhash.xxh3_64_intdigest(os.pread(shards[shard], size, offset))
        for column, value in zip(columns, (shard, offset, size, digest ^ (not is_right), start), strict=True):
            column.append(value)
        start += size
    kinds = (np.int64, np.int64, np.int64, np.uint64, np.int64)
    found: list[NDArray[Any]] = [np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    return found


def length_of(columns: Columns) -> int:
    return int(columns[2].sum())


def memory_of(columns: Columns) -> NDArray[np.uint8]:
    lent = Buffers((), np.uint8, memory=SharedMemory).lend(length_of(columns) + 3)
    return lent[3:]  # not at the beginning of its memory


member = st.tuples(st.integers(0, 2), st.integers(0, LENGTH), st.integers(1, 3000), st.booleans())


@settings(deadline=None)
@given(st.lists(st.lists(member, min_size=1, max_size=20), min_size=1, max_size=4))
def test_a_process_reads_what_a_thread_would(
    shards: list[int], processes: ReadingProcesses, steps: list[list[tuple[int, int, int, bool]]]
) -> None:
    """Members that are whole, that reach beyond the shard's end, and that have other bytes."""
    for members in steps:
        columns = located(shards, members)
        memory, expected = memory_of(columns), np.zeros(length_of(columns), np.uint8)
        assert processes.read(shards, columns, memory) == by_this_thread(shards, columns, expected)
        assert (memory == expected).all()


def test_memory_is_mapped_at_once_and_not_page_by_page(shards: list[int]) -> None:
    processes, columns = ReadingProcesses(), located(shards, [(0, 0, 10, True)])
    memory = Buffers((), np.uint8, memory=SharedMemory).lend(400 * mmap.PAGESIZE)
    with processes_of(processes, shards, columns) as pid:
        assert processes.read(shards, columns, memory) == []
        assert resident(pid) >= 400 * mmap.PAGESIZE


def resident(pid: int) -> int:
    """Bytes of shared memory that a process has touched, or was given: smaps of proc(5)."""
    found, of_ours = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match("[0-9a-f]+-", line):
            of_ours = "memfd:filmstrip" in line
        elif of_ours and line.startswith("Rss:"):
            found += 1024 * int(line.split()[1])
    return found


def test_memory_that_is_gone_is_forgotten_by_every_process(shards: list[int]) -> None:
    processes, columns = ReadingProcesses(), located(shards, [(0, 0, 3000, True)])
    with processes_of(processes, shards, columns) as pid:
        both = [processes._take(), processes._take()]
        processes._idle.extend(process for process in both if process is not None)
        for _ in range(20):
            assert processes.read(shards, columns, memory_of(columns)) == []
        assert len(processes._all) == 2
        for process in processes._all:
            maps = Path(f"/proc/{process.pid}/maps").read_text()
            assert 1 <= maps.count("memfd:filmstrip") <= 2
            assert len(list(Path(f"/proc/{process.pid}/fd").iterdir())) <= 6
        assert pid in {process.pid for process in processes._all}


def test_as_many_shards_as_a_request_may_have(shards: list[int], processes: ReadingProcesses) -> None:
    many = [shards[number % 3] for number in range(MOST_SHARDS)]
    columns = located(many, [(number, 0, 100, number != 5) for number in range(MOST_SHARDS)])
    assert processes.read(many, columns, memory_of(columns)) == [5]


def test_memory_of_this_process_alone_is_filled_by_the_thread_and_counted(shards: list[int]) -> None:
    processes, columns = ReadingProcesses(), located(shards, [(0, 10, 500, True), (1, 0, 20, False)])
    memory = np.zeros(520, np.uint8)
    assert processes.read(shards, columns, memory) == [1]
    assert memory[:500].tobytes() == os.pread(shards[0], 500, 10)
    assert processes.in_their_place == 1
    assert not processes._all


def test_a_process_that_was_killed_is_replaced_by_the_thread_and_then_by_another(
    shards: list[int], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_PAUSE", 0.2)
    columns = located(shards, [(0, 0, 3000, True), (1, 7, 300, False)])
    processes = ReadingProcesses()
    with processes_of(processes, shards, columns) as first:
        os.kill(first, signal.SIGKILL)
        with caplog.at_level(logging.WARNING):
            memory = memory_of(columns)
            assert processes.read(shards, columns, memory) == [1]
        assert memory[:3000].tobytes() == os.pread(shards[0], 3000, 0)
        assert processes.in_their_place == 1
        assert f"reading process {first} was ended by signal 9: for 0 s threads read in its place" in caplog.text
        assert processes.read(shards, columns, memory_of(columns)) == [1]
        assert not processes._all  # another is not started at once
        time.sleep(0.25)
        assert processes.read(shards, columns, memory_of(columns)) == [1]
        [second] = processes._all
        assert second.pid != first


@contextmanager
def processes_of(processes: ReadingProcesses, shards: list[int], columns: Columns) -> Iterator[int]:
    """The one that has read once; all are ended."""
    try:
        processes.read(shards, columns, memory_of(columns))
        [process] = processes._all
        yield process.pid
    finally:
        processes.close()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("executable", "/nowhere/python", "No such file or directory"),
        ("executable", "", "this program is no Python with its modules in files"),
        ("frozen", True, "this program is no Python with its modules in files"),
    ],
)
def test_where_none_can_be_started_the_thread_reads(
    shards: list[int],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: object,
    why: str,
) -> None:
    monkeypatch.setattr(sys, name, value, raising=False)
    processes = ReadingProcesses()
    columns = located(shards, [(0, 0, 3000, True)])
    for _ in range(3):
        assert processes.read(shards, columns, memory_of(columns)) == []
    assert caplog.text.count(f"no process could be started to read ({why}") == 1
    processes.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_is_for_the_loader_alone(shards: list[int], number: signal.Signals) -> None:
    """As a terminal sends it, or a scheduler: training has a step to end after it."""
    processes, columns = ReadingProcesses(), located(shards, [(0, 0, 3000, True)])
    with processes_of(processes, shards, columns) as pid:
        os.kill(pid, number)
        assert processes.read(shards, columns, memory_of(columns)) == []
        assert [process.pid for process in processes._all] == [pid]


def test_they_end_when_they_are_closed_and_whoever_waits_is_woken(
    shards: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = located(shards, [(0, 0, 3000, True)])
    processes, raised, waits = ReadingProcesses(), list[BaseException](), threading.Event()
    with processes_of(processes, shards, columns) as pid:
        os.kill(pid, signal.SIGSTOP)  # as one that reads from a disk that does not answer
        receive = ReadingProcess._receive

        def receiving(process: ReadingProcess, length: int) -> bytes:
            waits.set()
            return receive(process, length)

        monkeypatch.setattr(ReadingProcess, "_receive", receiving)

        def wait() -> None:
            try:
                processes.read(shards, columns, memory_of(columns))
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        assert waits.wait(PATIENCE)
        threading.Timer(0.3, os.kill, (pid, signal.SIGCONT)).start()
    thread.join(PATIENCE)
    assert [type(error) for error in raised] == [ClosedError]
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(ClosedError):
        processes.read(shards, columns, memory_of(columns))


def test_several_that_hang_are_killed_together(shards: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_ENDING", 0.6)
    processes, columns = ReadingProcesses(), located(shards, [(0, 0, 3000, True)])
    with processes_of(processes, shards, columns):
        taken = [process for process in (processes._take() for _ in range(4)) if process is not None]
        assert len({process.pid for process in taken}) == 4
        for process in taken:
            os.kill(process.pid, signal.SIGSTOP)
        began = time.monotonic()
        processes.close()
        assert time.monotonic() - began < 2 * 0.6
    assert not any(Path(f"/proc/{process.pid}").exists() for process in taken)


def test_closing_them_while_one_is_started_waits_for_nobody(shards: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the collector of cycles finds the loader in the very thread that starts one."""
    processes, columns = ReadingProcesses(), located(shards, [(0, 0, 3000, True)])
    start, started = ReadingProcess.__init__, list[ReadingProcess]()

    def closing(process: ReadingProcess) -> None:
        start(process)
        started.append(process)
        processes.close()

    monkeypatch.setattr(ReadingProcess, "__init__", closing)
    with pytest.raises(ClosedError):
        processes.read(shards, columns, memory_of(columns))
    assert [is_alive(process.pid) for process in started] == [False]


def test_one_that_nobody_closed_ends_with_the_last_reference(shards: list[int]) -> None:
    """Also where a process that was forked has its end of the socket, too."""
    processes, columns = ReadingProcesses(), located(shards, [(0, 0, 3000, True)])
    processes.read(shards, columns, memory_of(columns))
    [pid] = [process.pid for process in processes._all]
    forked = os.fork()
    if forked == 0:
        time.sleep(PATIENCE)
        os._exit(0)
    try:
        del processes
        gc.collect()
        assert not Path(f"/proc/{pid}").exists()
    finally:
        os.kill(forked, signal.SIGKILL)
        os.waitpid(forked, 0)


@pytest.mark.parametrize("members", [1, 30_000])
def test_one_that_does_not_answer_is_said(
    shards: list[int], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, members: int
) -> None:
    """And waited for: also where it does not take what is asked, which is more than a socket holds."""
    monkeypatch.setattr(pool, "_WAIT", 0.1)
    processes, columns = ReadingProcesses(), located(shards, [(0, 0, 300, True)] * members)
    with processes_of(processes, shards, columns) as pid:
        caplog.clear()
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(0.5, os.kill, (pid, signal.SIGCONT)).start()
        assert processes.read(shards, columns, memory_of(columns)) == []
        assert f"reading process {pid} has not answered for" in caplog.text
        assert [process.pid for process in processes._all] == [pid]


ALONE = """
import os, sys, time
from loaders.processes import pool
from loaders.processes.pool import ReadingProcess, ReadingProcesses
from tests.loaders.processes.test_pool import located, memory_of
shards = [os.open(__file__, os.O_RDONLY)]
processes, columns = ReadingProcesses(), located(shards, [(0, 0, 100, True)])
assert processes.read(shards, columns, memory_of(columns)) == []
if sys.argv[1] == "forked" and os.fork() == 0:
    time.sleep(60)  # has the parent's end of the socket
print([process.pid for process in processes._all][0], os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("also", ["", "forked"])
def test_they_end_with_a_loader_that_was_killed(tmp_path: Path, also: str) -> None:
    """Alone, and also where a process that was forked from it lives on."""
    program = tmp_path / "program.py"
    program.write_text(ALONE)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen(
        [sys.executable, str(program), also], stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline().split()[0])
    try:
        assert Path(f"/proc/{pid}").exists()
        process.kill()
        process.wait()
        until = time.monotonic() + PATIENCE
        while is_alive(pid) and time.monotonic() < until:
            time.sleep(0.05)
        assert not is_alive(pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL) if also else None
        process.stdout.close()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False

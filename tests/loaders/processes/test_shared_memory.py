"""Memory for two processes: found again from any part of it, and gone with its last reference."""

import ctypes
import gc
import mmap
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loaders.processes.shared_memory import SharedMemory, where
from loaders.threads.buffers import Buffers


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 40)), min_size=1, max_size=8))
def test_an_array_of_it_says_where_it_lies(loans: list[tuple[int, int]]) -> None:
    buffers = Buffers((3,), np.int16, memory=SharedMemory)
    for rows, first in loans:
        lent = buffers.lend(rows)[min(first, rows - 1) :]
        lent[:] = np.arange(lent.size).reshape(lent.shape)
        for array in (lent, lent.reshape(-1).view(np.uint8), lent[lent.shape[0] // 2 :]):
            found = where(array)
            assert found is not None
            memory, begin = found
            assert memory[begin : begin + array.nbytes] == array.tobytes()


def test_other_arrays_lie_in_none() -> None:
    private = Buffers((), np.uint8).lend(100)
    assert where(private) is None
    assert where(np.zeros(5)[1:]) is None
    assert where(np.frombuffer(b"12345678", np.uint8)) is None


def test_it_can_be_mapped_by_its_descriptor_and_has_a_number_of_its_own() -> None:
    one, other = SharedMemory(5000), SharedMemory(10)
    assert one.number != other.number
    again = mmap.mmap(one.descriptor, 0)
    again[4999] = 7
    assert one[4999] == 7
    assert other[9] == 0


def test_nothing_of_it_is_left() -> None:
    def descriptors() -> set[Path]:
        return set(Path("/proc/self/fd").iterdir())

    gc.collect()
    before, shm = descriptors(), set(Path("/dev/shm").iterdir())
    buffers = Buffers((), np.uint8, memory=SharedMemory)
    part = torch.from_numpy(buffers.lend(1000))[5:]
    assert len(descriptors()) > len(before)
    assert set(Path("/dev/shm").iterdir()) == shm
    del buffers
    part += 1  # whoever holds a part may use it
    del part
    gc.collect()
    assert descriptors() == before


def test_a_python_without_the_function_asks_the_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    memory = SharedMemory(100)
    assert mmap.mmap(memory.descriptor, 0)[99] == 0
    assert "memfd:filmstrip" in str(Path(f"/proc/self/fd/{memory.descriptor}").readlink())
    assert not os.get_inheritable(memory.descriptor)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    with pytest.raises(OSError, match="Function not implemented"):
        SharedMemory(100)

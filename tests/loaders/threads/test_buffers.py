"""Memory is lent to one borrower at a time, and comes back when nothing refers to it any more."""

import gc
import mmap
import os
import sys
import weakref
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from loaders.threads import buffers as buffers_module
from loaders.threads.buffers import Buffers


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(0, 5)), max_size=40))
def test_what_is_still_held_is_never_lent_again(steps: list[tuple[int, bool, int]]) -> None:
    """Rows of any number, of which some, or a part made by torch, are held while others come and go."""
    buffers = Buffers((3,), np.float32)
    held: list[tuple[float, torch.Tensor]] = []
    for number, (rows, keep, forget) in enumerate(steps):
        lent = buffers.lend(rows)
        assert lent.shape == (rows, 3)
        lent[:] = number
        if keep:
            held.append((number, torch.from_numpy(lent)[rows // 2 :]))
        if forget < len(held):
            del held[forget]
        for value, part in held:
            assert (part == value).all()


def test_memory_comes_back_when_the_last_part_of_it_is_dropped() -> None:
    buffers = Buffers((), np.uint8)
    lent = buffers.lend(1000)
    first, part = lent.ctypes.data, torch.from_numpy(lent)[5:]
    del lent
    gc.collect()
    assert buffers.lend(1000).ctypes.data != first
    del part
    gc.collect()
    assert buffers.lend(1100).ctypes.data == first  # a little more than before still has room


def test_no_function_of_pythons_runs_when_it_comes_back() -> None:
    """In one an interrupt would be lost: what a reference's end calls can raise nothing."""
    buffers, called = Buffers((), np.uint8), list[str]()
    lent = buffers.lend(1000)
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    try:
        del lent
    finally:
        sys.setprofile(None)
    assert called == []
    assert len(buffers._free) == 1


def test_what_was_let_go_is_not_lent_again_and_lives_as_long_as_its_borrowers() -> None:
    made: list[weakref.ref[mmap.mmap]] = []

    def memory(length: int) -> mmap.mmap:
        found = buffers_module.private_memory(length)
        made.append(weakref.ref(found))
        return found

    buffers = Buffers((), np.uint8, memory=memory)
    held, free = buffers.lend(1000), buffers.lend(1000)
    held[:] = 7
    del free
    buffers.let_go()
    assert made[1]() is None
    assert (held == 7).all()
    del held
    assert made[0]() is None
    assert len(buffers.lend(10)) == 10


@given(st.integers(0, 63), st.integers(1, 5000))
def test_the_first_row_lies_where_it_was_asked_to(offset: int, rows: int) -> None:
    assert Buffers((2,), np.int16, offset=offset).lend(rows).ctypes.data % 64 == offset


def test_what_was_held_at_once_and_is_needed_no_more_goes_back() -> None:
    buffers = Buffers((1 << 20,), np.uint8)
    held = [buffers.lend(4) for _ in range(50)]
    for lent in held:
        lent[:] = 1
    before = resident()
    del held, lent
    gc.collect()
    for _ in range(3 * buffers_module._WHILE):
        some = [buffers.lend(4) for _ in range(3)]
        del some
    gc.collect()
    assert len(buffers._free) <= 3 + 2
    assert before - resident() > 0.8 * 45 * (4 << 20)


def test_what_is_needed_again_and_again_is_kept() -> None:
    buffers = Buffers((1 << 16,), np.uint8)
    first = {lent.ctypes.data for lent in [buffers.lend(1) for _ in range(5)]}
    gc.collect()
    for _ in range(10 * buffers_module._WHILE):
        some = [buffers.lend(1) for _ in range(5)]
        assert {lent.ctypes.data for lent in some} == first
        del some


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

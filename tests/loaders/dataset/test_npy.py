"""The array of a file is the one that was written, and no file is taken for one that is not declared."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loaders.dataset.members import Member
from loaders.dataset.npy import parse_alike, parse_npy
from tests.rebuilt import npy

FIXED = Member(name="more", extension="npy", dtype="float32", shape=(5, 3), required=False)
VARIABLE = replace(FIXED, variable=True)

dtypes = st.sampled_from(["uint8", "int16", "int32", "int64", "float16", "float32", "float64", ">f4", ">i2"])
shapes = st.lists(st.integers(1, 5), max_size=3).map(tuple)


def file_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.frombuffer(npy(array), np.uint8)


def drawn(dtype: str, shape: tuple[int, ...], seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)


@given(dtypes, shapes)
def test_what_numpy_writes_is_read(dtype: str, shape: tuple[int, ...]) -> None:
    array = drawn(dtype, shape)
    found = parse_npy(replace(FIXED, dtype=dtype, shape=shape), file_of(array))
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


@given(dtypes, shapes.filter(bool), st.integers(0, 5))
def test_rows_that_vary_are_as_many_as_were_written(dtype: str, shape: tuple[int, ...], rows: int) -> None:
    array = drawn(dtype, (rows, *shape[1:]))
    member = replace(VARIABLE, dtype=dtype, shape=shape)
    if rows <= shape[0]:
        assert parse_npy(member, file_of(array)).tobytes() == array.tobytes()
        assert len(parse_npy(member, file_of(array))) == rows
    else:
        with pytest.raises(ValueError, match="at most"):
            parse_npy(member, file_of(array))


def test_blanks_in_a_header_are_the_writers_own_affair() -> None:
    """How many numpy puts there has changed over its versions."""
    data = npy(drawn("float32", (5, 3)))
    text = data[10:128].rstrip()
    for length in (len(text) + 1, 118 + 64):
        file = data[:8] + length.to_bytes(2, "little") + text.ljust(length - 1) + b"\n" + data[128:]
        assert np.array_equal(np.load(io.BytesIO(file)), drawn("float32", (5, 3)))
        for member in (FIXED, VARIABLE):
            assert np.array_equal(parse_npy(member, np.frombuffer(file, np.uint8)), drawn("float32", (5, 3)))


WRONG = {
    "of another shape": npy(drawn("float32", (3, 5))),
    "of other columns": npy(drawn("float32", (5, 4))),
    "of another type": npy(drawn("int32", (5, 3))),
    "of another order": npy(np.asfortranarray(drawn("float32", (5, 3)))),
    "cut": npy(drawn("float32", (5, 3)))[:-1],
    "with more behind": npy(drawn("float32", (5, 3))) + b"\0",
    "nothing": b"",
    "a few bytes": b"\x93NUMPY\x01",
    "no numbers": npy(drawn("float32", (5, 3)))[:128],
    "of another version": npy(drawn("float32", (5, 3))).replace(b"\x01\x00v", b"\x02\x00v"),
    "no array": b"a text",
    "of rows without end": npy(drawn("float32", (5, 3))).replace(b"(5, 3), }     ", b"(99999, 3), } "),
    "of rows below nought": npy(drawn("float32", (5, 3))).replace(b"(5, 3), } ", b"(-5, 3), }"),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("member", [FIXED, VARIABLE], ids=["fixed", "variable"])
def test_anything_else_is_refused(member: Member, what: str) -> None:
    with pytest.raises(ValueError, match=r"not an \.npy file|bytes of numbers"):
        parse_npy(member, np.frombuffer(WRONG[what], np.uint8))


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "sprung").touch, ())

    data = io.BytesIO()
    np.save(data, np.array([Trap()] * 15, object).reshape(5, 3), allow_pickle=True)
    for member in (FIXED, VARIABLE):
        with pytest.raises(ValueError, match="not an"):
            parse_npy(member, np.frombuffer(data.getvalue(), np.uint8))
    assert not (tmp_path / "sprung").exists()


@given(st.data())
def test_no_changed_byte_of_a_header_is_taken(data: st.DataObject) -> None:
    """But of blanks."""
    whole = bytearray(npy(drawn("float32", (5, 3))))
    at, to = data.draw(st.integers(0, 127)), data.draw(st.integers(0, 255))
    file = np.frombuffer(whole[:at] + bytes([to]) + whole[at + 1 :], np.uint8)
    try:
        found = parse_npy(FIXED, file)
    except ValueError:
        return
    assert found.tobytes() == bytes(whole[128:])
    assert to == whole[at] or at >= 10


# -- many at once


def laid(files: list[bytes], apart: int = 64) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Files in one memory, each at a multiple."""
    starts, at = [], 0
    for file in files:
        starts.append(at)
        at += -(-len(file) // apart) * apart
    memory = np.zeros(starts[-1] + len(files[-1]), np.uint8)
    for start, file in zip(starts, files, strict=True):
        memory[start : start + len(file)] = np.frombuffer(file, np.uint8)
    return memory, np.array(starts), np.array([len(file) for file in files])


@given(dtypes, shapes, st.integers(1, 6))
def test_all_at_once_they_are_what_they_are_one_by_one(dtype: str, shape: tuple[int, ...], count: int) -> None:
    member = replace(FIXED, dtype=dtype, shape=shape)
    arrays = [drawn(dtype, shape, seed) for seed in range(count)]
    found = parse_alike(member, *laid([npy(array) for array in arrays]))
    assert found is not None
    assert found[1].all()
    assert found[0].dtype == np.dtype(dtype)
    assert found[0].tobytes() == b"".join(array.tobytes() for array in arrays)


def test_files_that_differ_are_left_to_be_read_one_by_one() -> None:
    whole = npy(drawn("float32", (5, 3)))
    assert parse_alike(FIXED, *laid([whole, whole + b"\0", whole])) is None
    assert parse_alike(FIXED, *laid([whole[:-1]] * 3)) is None
    memory, starts, sizes = laid([whole] * 3)
    assert parse_alike(FIXED, memory, starts[[0, 2, 1]], sizes) is None
    other = npy(drawn("int32", (5, 3)))  # as long, and something else
    found = parse_alike(FIXED, *laid([whole, other, whole]))
    assert found is not None
    assert found[1].tolist() == [True, False, True]

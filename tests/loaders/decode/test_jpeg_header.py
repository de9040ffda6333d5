"""A header is read as Pillow reads it, whatever stands before it; and no bytes make the reader fail or run on."""

import io
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from loaders.decode.jpeg_header import JpegHeader, SizeCheck, read_header
from sharding.media.filmstrip import encode_filmstrip


def unlike(data: NDArray[np.uint8], width: int, height: int) -> str | None:
    return SizeCheck(width, height).fault(data)


def jpeg(width: int, height: int, mode: str = "RGB", **options: Any) -> NDArray[np.uint8]:
    out = io.BytesIO()
    Image.new(mode, (width, height), 77 if mode == "L" else None).save(out, "JPEG", **options)
    return np.frombuffer(out.getvalue(), np.uint8)


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from(["RGB", "L", "CMYK"]),
    st.booleans(),
    st.binary(max_size=200),
)
@settings(max_examples=60)
def test_a_header_is_what_was_encoded(width: int, height: int, mode: str, progressive: bool, comment: bytes) -> None:
    data = jpeg(width, height, mode, progressive=progressive, comment=comment, quality=50)
    found = read_header(data)
    assert found is not None
    assert found == JpegHeader(width, height, len(mode), 8, found.end, not progressive)
    if mode == "RGB":
        assert (unlike(data, width, height) is None) == (not progressive)
        assert "instead of" in (unlike(data, width + 1, height) or "")
    else:
        assert unlike(data, width, height) is not None


@given(st.binary(max_size=300), st.integers(0, 400))
@settings(max_examples=300)
def test_no_bytes_make_it_fail(junk: bytes, cut: int) -> None:
    data = jpeg(16, 16)
    for bytes_ in (junk, data.tobytes()[:2] + junk, data.tobytes()[:cut], data.tobytes()[:cut] + junk):
        found = read_header(np.frombuffer(bytes_, np.uint8))
        assert found is None or 0 <= found.width < 1 << 16


@given(st.integers(0, 10_000), st.integers(0, 7))
@settings(max_examples=200)
def test_a_flipped_bit_is_another_header_none_or_elsewhere(at: int, bit: int) -> None:
    data = np.array(jpeg(32, 64))
    data[at % len(data)] ^= 1 << bit
    found = read_header(data)
    assert found is None or found.width < 1 << 16


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_filmstrips_are_as_declared(subsampling: str) -> None:
    frames = np.zeros((16, 32, 32, 3), np.uint8)
    data = np.frombuffer(encode_filmstrip(frames, quality=90, subsampling=subsampling), np.uint8)  # type: ignore[arg-type]
    assert unlike(data, 32, 16 * 32) is None


def test_a_claim_of_gigabytes_is_seen_at_once() -> None:
    data = np.array(jpeg(32, 512))
    at = data.tobytes().index(b"\xff\xc0")
    data[at + 5 : at + 9] = np.frombuffer((30_000).to_bytes(2, "big") * 2, np.uint8)
    assert unlike(data, 32, 512) == "a JPEG of 30000×30000 instead of 32×512"


def test_segments_without_end_are_given_up() -> None:
    segment = b"\xff\xe1\xff\xff" + bytes(65_533)
    data = np.frombuffer(b"\xff\xd8" + segment * 200, np.uint8)
    start = time.perf_counter()
    assert read_header(data) is None
    assert time.perf_counter() - start < 0.5


def test_what_was_seen_before_does_not_hide_what_comes_after() -> None:
    check = SizeCheck(32, 512)
    good, bad = jpeg(32, 512), np.array(jpeg(32, 512))
    bad[bad.tobytes().index(b"\xff\xc0") + 6] ^= 1
    assert [check.fault(data) is None for data in (bad, good, bad, good, jpeg(16, 16), good[:50])] == [
        False,
        True,
        False,
        True,
        False,
        False,
    ]


@given(st.lists(st.sampled_from(["good", "other", "cut", "empty"]), max_size=8), st.integers(0, 3))
def test_files_in_one_memory_are_at_fault_as_each_by_itself(kinds: list[str], gap: int) -> None:
    one = {"good": jpeg(32, 512), "other": jpeg(16, 16), "cut": jpeg(32, 512)[:50], "empty": np.empty(0, np.uint8)}
    files = [one[kind] for kind in kinds]
    size = np.array([len(file) for file in files], np.int64)
    start = np.cumsum(size + gap) - size
    memory = np.zeros(int((size + gap).sum()), np.uint8)
    for begin, file in zip(start.tolist(), files, strict=True):
        memory[begin : begin + len(file)] = file
    check = SizeCheck(32, 512)
    expected = [index for index, file in enumerate(files) if unlike(file, 32, 512) is not None]
    assert check.faulty(memory, start, size) == expected
    assert check.faulty(memory, start, size) == expected  # when it knows how they begin

"""Any frames of an encoded filmstrip are JPEGs by cutting, with the very pixels of the whole."""

import io
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from loaders.decode.cut import Cutter, strip_of
from loaders.decode.frame_offsets import NotAddressableError
from loaders.decode.jpeg_header import read_header
from loaders.decode.pipeline import DecodePipeline, PipelineSettings
from loaders.decode.planes import PlaneDecoder
from loaders.decode.turbo import TurboDecoder
from sharding.media.filmstrip import Subsampling, encode_filmstrip
from sharding.settings import BuildSettings
from tests.encoded import by_pillow, encoded_of, frames_apart
from tests.planes import needs_libturbojpeg

SIZE = 32
SUBSAMPLINGS: list[Subsampling] = ["4:2:0", "4:4:4"]
Bytes = NDArray[np.uint8]


def strip(frames: int, subsampling: Subsampling = "4:2:0", seed: int = 0, *, markers: bool = True) -> Bytes:
    """Noise in strong colours: what is decoded beside a frame shows as much as it can."""
    pictures = np.random.default_rng(seed).integers(256, size=(frames, SIZE, SIZE, 3), dtype=np.uint8)
    data = encode_filmstrip(pictures, quality=90, subsampling=subsampling, restart_markers=markers)
    return np.frombuffer(data, np.uint8)


def unsaid(data: Bytes, frames: int) -> Bytes:
    """A strip as it was built before its header said where frames lie."""
    file, length = data.tobytes(), 2 + 2 + len(b"filmstrip\0") + 4 * frames
    at = file.index(b"filmstrip\0") - 4
    return np.frombuffer(file[:at] + file[at + length :], np.uint8)


def by_turbo(jpeg: Bytes) -> Bytes:
    pixels: Bytes = simplejpeg.decode_jpeg(jpeg, "RGB")
    return pixels


@st.composite
def subsets(draw: st.DrawFn) -> tuple[int, list[int]]:
    """How many frames a filmstrip has, and some of them in their order: more than there are markers, too."""
    frames = draw(st.integers(1, 20))
    chosen = draw(st.sets(st.integers(0, frames - 1), min_size=1))
    return frames, sorted(chosen)


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@given(subset=subsets(), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_cut_frames_are_those_of_the_whole_but_for_the_rows_that_touched_others(
    subsampling: Subsampling, subset: tuple[int, list[int]], seed: int
) -> None:
    frames, chosen = subset
    data = strip(frames, subsampling, seed)
    whole = by_turbo(data).reshape(frames, SIZE, SIZE, 3)[chosen]
    files = frames_apart(data, frames, SIZE, chosen)
    apart = np.stack([by_turbo(file) for file in files])
    together = by_turbo(strip_of(data, frames, SIZE, chosen)).reshape(whole.shape)
    exact = slice(None) if subsampling == "4:4:4" else slice(1, -1)
    assert np.array_equal(apart[:, exact], whole[:, exact])
    assert np.array_equal(together[:, exact], whole[:, exact])
    # A filmstrip's outer edges are as a single frame's: nothing is beside them.
    assert np.array_equal(together[0, 0], apart[0, 0])
    assert np.array_equal(together[-1, -1], apart[-1, -1])
    # Other decoders take the files as well, and to the bit alike.
    assert np.array_equal(np.stack([by_pillow(file) for file in files]), apart)
    assert np.array_equal(by_pillow(strip_of(data, frames, SIZE, chosen)).reshape(whole.shape), together)


def test_rows_that_touched_other_frames_do_differ_where_chroma_is_halved() -> None:
    data = strip(3)
    whole = by_turbo(data).reshape(3, SIZE, SIZE, 3)
    middle = by_turbo(frames_apart(data, 3, SIZE, [1])[0])
    assert np.flatnonzero((middle != whole[1]).any((1, 2))).tolist() == [0, SIZE - 1]


@needs_libturbojpeg
@given(subset=subsets())
@settings(max_examples=20, deadline=None)
def test_planes_of_cut_frames_are_those_of_the_whole(subset: tuple[int, list[int]]) -> None:
    frames, chosen = subset
    data = strip(frames)
    shape = SIZE * 3 // 2, SIZE
    whole, one = np.empty((frames * shape[0], SIZE), np.uint8), np.empty(shape, np.uint8)
    PlaneDecoder(frames, SIZE).decode_into(data, whole)
    decoder = PlaneDecoder(1, SIZE)
    for number, file in zip(chosen, frames_apart(data, frames, SIZE, chosen), strict=True):
        decoder.decode_into(file, one)
        assert np.array_equal(one, whole.reshape(frames, *shape)[number])


@given(subset=subsets(), again=st.data())
@settings(max_examples=40, deadline=None)
def test_a_filmstrip_cut_out_of_one_is_one_with_markers_in_turn(
    subset: tuple[int, list[int]], again: st.DataObject
) -> None:
    frames, chosen = subset
    data = strip(frames)
    cut = strip_of(data, frames, SIZE, chosen)
    header = read_header(cut)
    assert header is not None
    assert (header.width, header.height) == (SIZE, SIZE * len(chosen))
    scan = cut.tobytes().partition(b"\xff\xda")[2]
    markers = [after for before, after in itertools.pairwise(scan) if before == 0xFF and 0xD0 <= after <= 0xD7]
    assert markers == [0xD0 + number % 8 for number in range(len(chosen) - 1)]
    # What the header says of where frames lie would be false of another strip.
    assert strip_of(data, frames, SIZE, range(frames)).tobytes() == unsaid(data, frames).tobytes()
    # Cut again it gives the same files.
    places = sorted(again.draw(st.sets(st.integers(0, len(chosen) - 1), min_size=1)))
    twice = frames_apart(cut, len(chosen), SIZE, places)
    once = frames_apart(data, frames, SIZE, [chosen[place] for place in places])
    assert [file.tobytes() for file in twice] == [file.tobytes() for file in once]


def test_files_are_no_longer_than_what_they_hold() -> None:
    data = strip(16)
    cut = strip_of(data, 16, SIZE, range(8))
    assert 0.4 * data.size < cut.size < 0.6 * data.size


@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 254))
@settings(max_examples=40, deadline=None)
def test_a_damaged_byte_costs_one_frame(place: float, change: int) -> None:
    data = strip(6)
    expected = [by_pillow(file) for file in frames_apart(data, 6, SIZE, range(6))]
    marks = [at for at in range(data.size - 1) if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7]
    start, end = marks[2] + 2, marks[3]  # the fourth frame's
    at = start + int(place * (end - start))
    damaged = data.copy()
    damaged[at] = (int(damaged[at]) + change) % 256
    for number, file in enumerate(frames_apart(damaged, 6, SIZE, range(6))):
        if number != 3:
            assert np.array_equal(by_pillow(file), expected[number])
    # Where nothing is said of where frames lie, and as one picture too: decoders go on with the next marker.
    assume(0xFF not in (damaged[at], data[at], damaged[at - 1]))  # a marker more or less is found: see below
    for number, file in enumerate(frames_apart(unsaid(damaged, 6), 6, SIZE, range(6))):
        if number != 3:
            assert np.array_equal(by_pillow(file), expected[number])
    with Image.open(io.BytesIO(damaged.tobytes())) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(6, SIZE, SIZE, 3)
    whole = by_pillow(data).reshape(6, SIZE, SIZE, 3)
    others = [0, 1, 2, 4, 5]
    assert np.array_equal(pixels[others, 1:-1], whole[others, 1:-1])


def _without(data: Bytes, pattern: bytes, length: int) -> Bytes:
    file = data.tobytes()
    at = file.index(pattern)
    return np.frombuffer(file[:at] + file[at + length :], np.uint8)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (strip(4, markers=False), "without a restart interval a frame"),
        (strip(5), "another height than 4 frames of 32 pixels"),
        (_without(strip(4), b"\xff\xd1", 2), "restart markers are not those between 4 frames"),
        (np.insert(unsaid(strip(4), 4), -2, [0xFF, 0xD3]), "restart markers are not those between 4 frames"),
        (np.insert(unsaid(strip(4), 4), -2, [0xFF, 0xDC]), "restart markers are not those between 4 frames"),
        (strip(4)[:-30], "end is missing"),
        (strip(4)[:300], "header is not whole|end is missing"),
        (np.zeros(0, np.uint8), "header is not whole"),
        (np.zeros(5000, np.uint8), "header is not whole"),
        (np.frombuffer(b"\xff\xd8" + b"\xff\xfe\x00\x02" * 500, np.uint8), "without a restart interval"),
    ],
)
def test_what_does_not_come_apart_as_declared_is_said(data: Bytes, what: str) -> None:
    with pytest.raises(NotAddressableError, match=what):
        strip_of(data, 4, SIZE, [1, 2])


@given(st.binary(max_size=200), st.integers(0, 700))
@settings(max_examples=200, deadline=None)
def test_whatever_bytes_there_are_nothing_else_is_raised(noise: bytes, at: int) -> None:
    data = strip(2).tobytes()
    for file in (noise, data[:at] + noise + data[at:], data[:at] + noise):
        try:
            strip_of(np.frombuffer(file, np.uint8), 2, SIZE, [1])
        except NotAddressableError:
            continue


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_dali_and_libjpeg_turbo_take_them_to_the_same_bytes(subsampling: Subsampling) -> None:
    clip = BuildSettings(size=SIZE).clip
    strips = [strip(16, subsampling, seed) for seed in range(3)]
    chosen = [[0, 5, 6, 15], [1, 2, 3, 4], [9, 11, 13, 15]]
    settings = PipelineSettings(max_batch=3, threads=2, device=torch.device("cpu"), audio=False)
    batch = encoded_of(clip, strips, [], chosen)
    pipelines: list[Any] = [kind(clip, 4, settings, iter([batch]).__next__) for kind in (TurboDecoder, DecodePipeline)]
    try:
        one, other = (np.asarray(pipeline.run()[0]).reshape(3, 4, SIZE, SIZE, 3) for pipeline in pipelines)
    finally:
        for pipeline in pipelines:
            pipeline.close()
    for row, data in enumerate(strips):
        expected = by_turbo(strip_of(data, 16, SIZE, chosen[row]))
        assert np.array_equal(one[row], expected.reshape(4, SIZE, SIZE, 3))
    assert np.array_equal(one, other)


def test_what_is_cut_is_decided_once_for_all() -> None:
    clip = BuildSettings(size=SIZE).clip
    data, chosen = strip(16), np.array([3, 4])
    assert Cutter(clip, 16).cut(data, np.arange(16)).file is data
    assert Cutter(replace(clip, addressable=False), 2).cut(data, chosen).file is data
    assert Cutter(clip, 2).cut(data, chosen).file.tobytes() == strip_of(data, 16, SIZE, [3, 4]).tobytes()


def test_a_header_that_was_seen_before_is_taken_for_no_other() -> None:
    """Of datasets that are mixed, filmstrips begin in turn as these and as those."""
    cutter, chosen = Cutter(BuildSettings(size=SIZE).clip, 2), np.array([3, 9])
    for subsampling in (*SUBSAMPLINGS, *SUBSAMPLINGS):
        for seed in range(2):
            data = strip(16, subsampling, seed)
            assert cutter.cut(data, chosen).file.tobytes() == strip_of(data, 16, SIZE, chosen).tobytes()
        with pytest.raises(NotAddressableError, match="another height"):
            cutter.cut(strip(15, subsampling), chosen)
        with pytest.raises(NotAddressableError, match="end is missing"):
            cutter.cut(strip(16, subsampling)[:-30], chosen)

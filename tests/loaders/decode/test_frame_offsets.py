"""What a filmstrip's header says of where its frames lie is used where it is so, and nowhere else."""

import io
import itertools
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from loaders.decode.cut import Cutter
from loaders.decode.frame_offsets import (
    FALSE,
    NOT_SAID,
    NotAddressableError,
    StripHeader,
    check_offsets,
    find_frames,
    with_offsets,
)
from loaders.decode.jpeg_header import read_header
from sharding.media.filmstrip import encode_filmstrip
from sharding.settings import BuildSettings
from tests.encoded import by_pillow

SIZE = 32
NAME = b"filmstrip\0"
Bytes = NDArray[np.uint8]


def strip(frames: int, seed: int = 0) -> bytes:
    """Noise: of other tables, and as long, for every seed."""
    pictures = np.random.default_rng(seed).integers(256, size=(frames, SIZE, SIZE, 3), dtype=np.uint8)
    return encode_filmstrip(pictures, quality=90, subsampling="4:2:0")


def numbers_at(file: bytes) -> int:
    return file.index(NAME) + len(NAME)


def offsets_of(file: bytes, frames: int) -> list[int]:
    return list(struct.unpack_from(f">{frames}I", file, numbers_at(file)))


def saying(file: bytes, numbers: list[int]) -> bytes:
    """The strip with other offsets."""
    at = numbers_at(file)
    return file[:at] + struct.pack(f">{len(numbers)}I", *numbers) + file[at + 4 * len(numbers) :]


def unsaid(file: bytes, frames: int) -> bytes:
    """As strips were built before their headers said anything."""
    return file[: numbers_at(file) - len(NAME) - 4] + file[numbers_at(file) + 4 * frames :]


def found(file: bytes, frames: int) -> tuple[list[int], str]:
    strip = np.frombuffer(file, np.uint8)
    starts, searched = find_frames(strip, StripHeader.of(strip.data, frames), frames)
    return list(starts), searched


@given(frames=st.integers(1, 40), seed=st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_the_header_says_where_a_search_finds_the_frames(frames: int, seed: int) -> None:
    file = strip(frames, seed)
    said = offsets_of(file, frames)
    assert found(file, frames) == (said, "")
    begin = file.index(b"\xff\xda")
    marks = [at for at, (one, other) in enumerate(itertools.pairwise(file)) if one == 0xFF and 0xD0 <= other <= 0xD7]
    assert said[1:] == [mark + 2 for mark in marks if mark > begin]
    check_offsets(file, frames)
    # Of strips from before it is searched, and gives the same; said once more, or anew, it is the same file.
    before = unsaid(file, frames)
    length = 4 + len(NAME) + 4 * frames
    assert len(file) - len(before) == length
    assert found(before, frames) == ([start - length for start in said], NOT_SAID)
    check_offsets(before, frames)
    assert with_offsets(before, frames) == with_offsets(file, frames) == file


@given(frames=st.integers(2, 20), wrong=st.data())
@settings(max_examples=60, deadline=None)
def test_offsets_that_are_wrong_are_never_used(frames: int, wrong: st.DataObject) -> None:
    """Any numbers at all, or those of other frames: the true markers are found, and it is told."""
    file = strip(frames)
    said = offsets_of(file, frames)
    near = st.builds(sum, st.tuples(st.sampled_from(said), st.integers(-3, 3)))
    numbers = wrong.draw(
        st.one_of(
            st.lists(st.integers(0, 2**32 - 1), min_size=frames, max_size=frames),
            st.lists(near, min_size=frames, max_size=frames),
            st.permutations(said),
            st.tuples(st.integers(0, frames - 1), near).map(lambda one: [*said[: one[0]], one[1], *said[one[0] + 1 :]]),
        )
    )
    falsely = saying(file, list(numbers))
    assert found(falsely, frames) == (said, "" if list(numbers) == said else FALSE)
    if list(numbers) != said:
        with pytest.raises(NotAddressableError, match="do not lie where its header says"):
            check_offsets(falsely, frames)


@given(at=st.integers(0, 63), change=st.integers(1, 255))
@settings(max_examples=30, deadline=None)
def test_a_damaged_byte_of_the_offsets_costs_no_frame(at: int, change: int) -> None:
    file = bytearray(strip(16))
    place = numbers_at(bytes(file)) + at
    file[place] = (file[place] + change) % 256
    cutter, chosen = Cutter(BuildSettings(size=SIZE).clip, 5), np.array([1, 7, 8, 9, 15])
    cut = cutter.cut(np.frombuffer(bytes(file), np.uint8), chosen)
    expected = cutter.cut(np.frombuffer(strip(16), np.uint8), chosen)
    assert cut.file.tobytes() == expected.file.tobytes()
    assert (cut.searched, expected.searched) == (FALSE, "")


def test_offsets_of_other_numbers_of_frames_are_not_used() -> None:
    file = strip(16)
    segment = file[numbers_at(file) - len(NAME) - 4 : numbers_at(file) + 64]
    short = segment[:2] + (int.from_bytes(segment[2:4], "big") - 4).to_bytes(2, "big") + segment[4:-4]
    starts, searched = found(file.replace(segment, short), 16)
    assert starts == [start - 4 for start in offsets_of(file, 16)]
    assert searched == FALSE


def test_a_marker_too_many_is_its_frames_damage_alone() -> None:
    file = strip(6)
    fourth = offsets_of(file, 6)[3]
    damaged = file[: fourth + 20] + b"\xff\xd5" + file[fourth + 22 :]
    cutter = Cutter(BuildSettings(size=SIZE, clip_seconds=0.75).clip, 5)
    for number in (0, 1, 2, 4, 5):
        one, other = (
            Cutter(cutter.clip, 1).cut(np.frombuffer(data, np.uint8), np.array([number])).file
            for data in (file, damaged)
        )
        assert one.tobytes() == other.tobytes()
    with pytest.raises(NotAddressableError, match="markers are not those"):
        check_offsets(damaged, 6)  # what verifies a dataset looks at every byte


def test_headers_of_another_strip_with_the_same_beginning_are_not_mistaken_for_its_own() -> None:
    """Tables are every strip's own, and stand behind the offsets: only what is alike is remembered."""
    cutter, chosen = Cutter(BuildSettings(size=SIZE).clip, 3), np.array([2, 3, 11])
    for seed in range(4):
        data = np.frombuffer(strip(16, seed), np.uint8)
        cut = cutter.cut(data, chosen)
        assert cut.searched == ""
        assert np.array_equal(by_pillow(cut.file), by_pillow(Cutter(cutter.clip, 3).cut(data, chosen).file))
        assert cut.file.tobytes().count(NAME) == 0


def test_strips_begin_alike_up_to_their_offsets_behind_all_that_a_check_of_sizes_reads() -> None:
    """What begins as a strip before it did is not parsed again, by the check of sizes nor by what cuts."""
    files = [strip(16, seed) for seed in range(3)]
    assert len({file[: numbers_at(file)] for file in files}) == 1
    assert len(set(files)) == 3
    header = read_header(np.frombuffer(files[0], np.uint8))
    assert header is not None
    assert header.end == numbers_at(files[0]) - len(NAME) - 4


def test_what_is_encoded_anew_by_a_program_that_keeps_comments_says_nothing_false() -> None:
    with Image.open(io.BytesIO(strip(4))) as picture:
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=80)
    assert NAME not in out.getvalue()

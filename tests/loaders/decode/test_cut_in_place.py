"""Windows that are cut where filmstrips lie are the files that a cut by itself makes, and nothing else changes."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loaders.dataset.manifest import ClipFormat
from loaders.decode.cut import Cut, Cutter, strip_of
from loaders.decode.cut_in_place import cut_windows
from loaders.decode.frame_offsets import NotAddressableError, StripHeader
from sharding.media.filmstrip import encode_filmstrip

FRAMES, SIZE = 12, 16  # more frames than there are restart markers
CLIP = ClipFormat(seconds=1.5, fps=8.0, frames=FRAMES, size=SIZE, sample_rate=16_000, samples=24_000, addressable=True)
Bytes = NDArray[np.uint8]


@cache
def filmstrip(seed: int, frames: int = FRAMES, quality: int = 90) -> bytes:
    """Noise, and of some seeds a plain surface, whose scans are shorter than their header."""
    random = np.random.default_rng(seed)
    pictures = random.integers(256, size=(frames, SIZE, SIZE, 3), dtype=np.uint8)
    if seed % 3 == 0:
        pictures[:] = seed
    return encode_filmstrip(pictures, quality=quality, subsampling="4:2:0")


def unsaid(file: bytes) -> bytes:
    """Without the segment that says where frames lie."""
    at = file.index(b"filmstrip\0") - 4
    return file[:at] + file[at + 4 + len(b"filmstrip\0") + 4 * FRAMES :]


def damaged(file: bytes, place: float, value: int) -> bytes:
    at = int(place * len(file))
    return file[:at] + bytes([file[at] ^ value]) + file[at + 1 :]


GOOD = [filmstrip(1), filmstrip(1, quality=40)]
files = st.one_of(
    st.builds(filmstrip, st.integers(0, 20)),
    st.builds(filmstrip, st.integers(0, 5), quality=st.just(40)),  # its header is another
    st.builds(filmstrip, st.integers(0, 5), frames=st.integers(FRAMES - 1, FRAMES + 1)),
    st.builds(unsaid, st.builds(filmstrip, st.integers(0, 5))),
    st.builds(
        damaged,
        st.builds(filmstrip, st.integers(0, 20)),
        st.one_of(st.floats(0, 1, exclude_max=True), st.floats(0, 0.2)),
        st.integers(1, 255),
    ),
    st.builds(lambda file, length: file[:length], st.builds(filmstrip, st.integers(0, 5)), st.integers(0, 400)),
    st.binary(max_size=50),
)


def by_itself(file: bytes, chosen: NDArray[np.int64], known: bytes | None) -> Cut | None:
    """A file's cut by a cutter that knows how another begins; None where it is refused."""
    cutter = Cutter(CLIP, len(chosen))
    if known is not None:
        cutter.cut(np.frombuffer(known, np.uint8), chosen)
    try:
        return cutter.cut(np.frombuffer(file, np.uint8), chosen)
    except NotAddressableError:
        return None


def laid_out(batch: list[bytes], gap: int) -> tuple[Bytes, NDArray[np.int64], NDArray[np.int64]]:
    """Files one after the other in memory, with what is none of them between."""
    room = [len(file) + gap for file in batch]
    start = [sum(room[:row]) + gap for row in range(len(batch))]
    memory = np.full(sum(room) + gap, 0xA5, np.uint8)
    for begin, file in zip(start, batch, strict=True):
        memory[begin : begin + len(file)] = np.frombuffer(file, np.uint8)
    return memory, np.array(start), np.array([len(file) for file in batch])


@given(batch=st.lists(files, min_size=1, max_size=8), data=st.data())
@settings(max_examples=150, deadline=None)
def test_windows_are_cut_as_each_by_itself(batch: list[bytes], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, FRAMES - 1))
    first = [data.draw(st.integers(0, FRAMES - count)) for _ in batch]
    chosen = np.array(first)[:, None] + np.arange(count)
    memory, start, size = laid_out(batch, data.draw(st.integers(0, 3)))
    before = memory.copy()
    header = StripHeader.of(memoryview(filmstrip(1)), FRAMES)
    rows, begin, end = cut_windows(memory, start, size, chosen, header, FRAMES)
    cut = dict(zip(rows.tolist(), zip(begin.tolist(), end.tolist(), strict=True), strict=True))
    assert list(cut) == sorted(cut)
    for row, file in enumerate(batch):
        place = slice(start[row], start[row] + size[row])
        if row in cut:
            a, b = cut[row]
            assert place.start <= a < b <= place.stop
            expected = by_itself(file, chosen[row], filmstrip(1))
            assert expected is not None
            assert memory[a:b].tobytes() == expected.file.tobytes()
        else:
            assert np.array_equal(memory[place], before[place])
        before[place] = memory[place]
    assert np.array_equal(memory, before)  # what lies between them is left alone


def test_all_that_are_as_their_headers_say_are_cut() -> None:
    batch = [filmstrip(seed) for seed in range(1, 8)]
    chosen = np.arange(7)[:, None] % 5 + np.arange(8)
    memory, start, size = laid_out(batch, 0)
    rows, *_ = cut_windows(memory, start, size, chosen, StripHeader.of(memoryview(batch[0]), FRAMES), FRAMES)
    assert rows.tolist() == list(range(7))
    rows, *_ = cut_windows(memory, start, size, chosen, StripHeader.of(memoryview(unsaid(batch[0])), FRAMES), FRAMES)
    assert rows.tolist() == []


@given(batch=st.lists(files, min_size=1, max_size=6), in_turn=st.booleans(), data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_batch_is_cut_as_each_by_itself_whatever_is_in_it(
    batch: list[bytes], in_turn: bool, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, FRAMES))
    if in_turn:
        chosen = np.array([data.draw(st.integers(0, FRAMES - count)) for _ in batch])[:, None] + np.arange(count)
    else:
        some = st.sets(st.integers(0, FRAMES - 1), min_size=count, max_size=count)
        chosen = np.array([sorted(data.draw(some)) for _ in batch])
    memory, start, size = laid_out(batch, 0)
    found = Cutter(CLIP, count).cut_all(memory, start, size, chosen)
    for file, frames, cut in zip(batch, chosen, found, strict=True):
        expected = by_itself(file, frames, None)
        if expected is not None:
            assert cut is not None
            assert cut.file.tobytes() == expected.file.tobytes()
            assert cut.searched == expected.searched
        elif cut is not None:  # of a header that begins as another's the rest is left to the decoder
            assert any(file.startswith(StripHeader.of(memoryview(other), FRAMES).start) for other in GOOD)


def test_of_no_filmstrips_none_are_cut() -> None:
    assert Cutter(CLIP, 4).cut_all(np.empty(0, np.uint8), *np.empty((2, 0), np.int64), np.empty((0, 4), np.int16)) == []


class Forgotten(Cutter):
    """What it knows of headers another thread forgets after every look."""

    held: StripHeader | None = None

    @property
    def _known(self) -> StripHeader | None:  # type: ignore[override]
        known, self.held = self.held, None
        return known

    @_known.setter
    def _known(self, known: StripHeader | None) -> None:
        self.held = known


def test_another_thread_may_forget_the_header_meanwhile() -> None:
    chosen = np.arange(4)[None]
    memory, start, size = laid_out([filmstrip(1)], 0)
    cutter = Forgotten(CLIP, 4)
    cutter.cut(memory, chosen[0])
    (cut,) = cutter.cut_all(memory.copy(), start, size, chosen)
    assert cut is not None
    assert cut.file.tobytes() == strip_of(memory, FRAMES, SIZE, chosen[0]).tobytes()


@pytest.mark.parametrize("count", [1, FRAMES - 1])
def test_the_first_and_the_last_window_are_cut(count: int) -> None:
    file = np.frombuffer(filmstrip(2), np.uint8)
    for first in (0, FRAMES - count):
        chosen = np.arange(first, first + count)[None]
        memory = file.copy()
        rows, begin, end = cut_windows(
            memory, np.zeros(1, np.int64), np.array([len(file)]), chosen, StripHeader.of(file.data, FRAMES), FRAMES
        )
        assert rows.tolist() == [0]
        assert memory[begin[0] : end[0]].tobytes() == strip_of(file, FRAMES, SIZE, chosen[0]).tobytes()

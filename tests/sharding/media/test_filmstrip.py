"""Frames, one picture, and frames again."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sharding.media.filmstrip import ROWS_OF_A_BLOCK, Subsampling, decode_filmstrip, encode_filmstrip


def smooth(frames: int, size: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Frames of a wide gradient each, of another colour each."""
    draw = np.random.default_rng(seed)
    corner, slope = draw.uniform(60, 180, (frames, 1, 1, 3)), draw.uniform(-40, 40, (frames, 2, 1, 1, 3))
    y, x = np.mgrid[:size, :size][..., None] / size
    return np.clip(corner + slope[:, 0] * y + slope[:, 1] * x, 0, 255).astype(np.uint8)


@given(st.integers(1, 20), st.sampled_from([16, 32, 48]), st.sampled_from(["4:2:0", "4:4:4"]), st.integers(0, 99))
def test_frames_come_back(frames: int, size: int, subsampling: str, seed: int) -> None:
    before = smooth(frames, size, seed)
    data = encode_filmstrip(before, quality=95, subsampling=subsampling)  # type: ignore[arg-type]
    after = decode_filmstrip(data, frames)
    assert after.shape == before.shape
    apart = np.abs(after.astype(int) - before)[:, 1:-1]  # for the first and last row, see below
    assert apart.max() <= 12
    assert apart.mean() < 2


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_no_frame_bleeds_into_its_neighbour(subsampling: str) -> None:
    colours = np.array([[255, 0, 0], [0, 0, 255], [0, 255, 0], [255, 255, 255]], np.uint8)
    before = np.broadcast_to(colours[:, None, None], (4, 2 * ROWS_OF_A_BLOCK, 32, 3)).copy()
    after = decode_filmstrip(encode_filmstrip(before, quality=95, subsampling=subsampling), 4)  # type: ignore[arg-type]
    # The decoder smooths colours over one row beyond a block, and no further.
    assert np.abs(after[:, 1:-1].astype(int) - before[:, 1:-1]).max() <= 6


def test_it_is_one_baseline_jpeg_of_stacked_frames() -> None:
    data = encode_filmstrip(smooth(16, 32), quality=90, subsampling="4:2:0")
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (32, 16 * 32))
        assert not picture.info.get("progressive")


@pytest.mark.parametrize(("subsampling", "size"), [("4:2:0", 224), ("4:4:4", 224), ("4:2:0", 16), ("4:4:4", 48)])
def test_a_restart_marker_a_frame_costs_next_to_nothing(subsampling: Subsampling, size: int) -> None:
    frames = smooth(16, size)
    plain = encode_filmstrip(frames, quality=90, subsampling=subsampling, restart_markers=False)
    marked = encode_filmstrip(frames, quality=90, subsampling=subsampling)
    bound = max(100, 0.005 * len(plain))
    segment = 2 + 2 + len(b"filmstrip\0") + 4 * 16  # where the frames lie
    at = marked.index(b"filmstrip\0") - 4
    assert len(marked[:at] + marked[at + segment :]) - len(plain) <= bound
    if size == 224:  # the size of clips; of smaller strips the segment is more than next to nothing
        assert len(marked) - len(plain) <= bound
    assert np.array_equal(decode_filmstrip(marked, 16), decode_filmstrip(plain, 16))
    scan = marked.partition(b"\xff\xda")[2]
    assert sum(scan.count(bytes((0xFF, 0xD0 + number))) for number in range(8)) == 15


def test_frames_that_no_marker_can_be_between_are_refused() -> None:
    with pytest.raises(ValueError, match=r"24 pixels high.*multiple of 16"):
        encode_filmstrip(smooth(2, 24), quality=90, subsampling="4:2:0")
    encode_filmstrip(smooth(2, 24), quality=90, subsampling="4:4:4")


def test_the_same_frames_give_the_same_bytes() -> None:
    frames = smooth(3, 32)
    assert encode_filmstrip(frames, quality=90, subsampling="4:2:0") == encode_filmstrip(
        frames.copy(), quality=90, subsampling="4:2:0"
    )


def test_what_is_no_filmstrip_is_refused() -> None:
    data = encode_filmstrip(smooth(4, 32), quality=90, subsampling="4:2:0")
    for wrong in (b"", b"text", data[: len(data) // 2]):
        with pytest.raises(ValueError, match="JPEG"):
            decode_filmstrip(wrong, 4)
    with pytest.raises(ValueError, match="no filmstrip of 3"):
        decode_filmstrip(data, 3)
    with pytest.raises(ValueError, match="no filmstrip"):
        decode_filmstrip(data, 4, size=16)

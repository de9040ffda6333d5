"""What may change in mid-file: the pictures' size, which way is up, the shape of the pixels, and what they show."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sharding.media.reader import read_frames, read_media
from tests.films import Picture, write_changing_film

FPS = 10


def marked(width: int, height: int, left: int, top: int, side: int) -> Picture:
    """A black picture with a white square."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[top : top + side, left : left + side] = 255
    return picture


def test_boxes_are_shares_of_the_picture_where_its_size_changes(tmp_path: Path) -> None:
    large, small = marked(128, 96, 80, 32, 32), marked(64, 48, 40, 16, 16)
    path = write_changing_film(tmp_path / "film.mkv", [large] * 10 + [small] * 10 + [large] * 5)
    assert {frame.shape for frame in read_frames(path, fps=FPS)} == {(96, 128, 3), (48, 64, 3)}
    frames = read_media(path, fps=FPS, size=16, boxes=np.array([[80.0, 32, 32, 32]])).frames
    assert len(frames) == 25
    assert frames[:, 2:-2, 2:-2].min() > 230


def test_boxes_may_be_told_for_every_size(tmp_path: Path) -> None:
    large, small = marked(128, 96, 80, 32, 32), marked(64, 64, 8, 40, 16)
    asked: list[tuple[int, int]] = []

    def boxes(width: int, height: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        asked.append((width, height))
        return np.array([[80.0, 32, 32, 32] if width == 128 else [8.0, 40, 16, 16]])

    path = write_changing_film(tmp_path / "film.mkv", [large] * 5 + [small] * 5 + [large] * 5)
    frames = read_media(path, fps=FPS, size=16, boxes=boxes).frames
    assert frames[:, 2:-2, 2:-2].min() > 230
    assert asked == [(128, 96), (64, 64)]
    with pytest.raises(ValueError, match="boxes"):
        read_media(path, fps=FPS, size=16, boxes=lambda width, height: np.zeros((0, 4)))


def test_pictures_are_turned_each_as_it_says_itself(tmp_path: Path) -> None:
    upright = marked(128, 96, 80, 32, 32)
    lying = np.rot90(upright).copy()  # and EXIF's 6: to be turned clockwise by a quarter
    path = write_changing_film(tmp_path / "film.mkv", [upright] * 10 + [lying] * 10, rotations=[1] * 10 + [6] * 10)
    frames = list(read_frames(path, fps=FPS))
    assert {frame.shape for frame in frames} == {upright.shape}
    assert all(np.abs(frame.astype(int) - upright).mean() < 4 for frame in frames)


def test_the_middle_looks_square_whatever_shape_the_pixels_have(tmp_path: Path) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, 20:44] = 255  # what is square in the middle where pixels are twice as wide as high
    shapes = [Fraction(1)] * 10 + [Fraction(2)] * 10
    frames = read_media(write_changing_film(tmp_path / "film.mkv", [picture] * 20, aspects=shapes), fps=FPS, size=48)
    white = (frames.frames > 128).mean((1, 2, 3))
    assert white[:10] == pytest.approx(0.5, abs=0.03)
    assert white[10:] == pytest.approx(1.0, abs=0.03)


def test_whole_frames_are_given_square_pixels_where_that_is_asked(tmp_path: Path) -> None:
    picture = marked(64, 48, 8, 8, 16)
    for shape, size in (("4/3", (48, 85)), ("1/2", (96, 64)), ("1", (48, 64)), ("99", (48, 64))):
        path = write_changing_film(tmp_path / "film.mkv", [picture] * 4, aspects=[Fraction(shape)] * 4)
        assert {frame.shape[:2] for frame in read_frames(path, fps=FPS)} == {(48, 64)}
        (frame,) = {frame.tobytes(): frame for frame in read_frames(path, fps=FPS, square_pixels=True)}.values()
        assert frame.shape[:2] == size
        white = np.argwhere(frame.min(2) > 128) / size
        np.testing.assert_allclose(white.min(0), (8 / 48, 8 / 64), atol=0.03)


def test_frames_that_show_another_picture_are_told_from_those_that_do_not(tmp_path: Path) -> None:
    one, other = marked(64, 48, 8, 8, 16), marked(64, 48, 9, 8, 16)
    shown = [one, one, other, other, other, one, marked(32, 24, 4, 4, 8)]
    media = read_media(write_changing_film(tmp_path / "film.mkv", shown), fps=2 * FPS, size=16)
    expected = [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0]
    assert media.changes.tolist() == [bool(change) for change in expected]
    assert media.source_starts == pytest.approx(np.arange(7) / FPS)
    elsewhere = np.array([[0.0, 0, 32, 32], [8, 8, 32, 32]])
    assert read_media(tmp_path / "film.mkv", fps=FPS, size=16, boxes=elsewhere).changes.tolist() == [
        *(True, False, True, False, False, True, True)
    ]

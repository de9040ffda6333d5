"""VoxCeleb's txt files: what part of a video an utterance is, and the square around the face."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sharding.corpora.boxes import BoxesError, read_boxes
from sharding.utterance import BoxesFile

# As published, of a VoxCeleb1 and a VoxCeleb2 utterance.
HEADER = "Identity  : \tid10661\nReference : \tabc\nOffset    : \t0\nFV Conf   : \t19.876\t(1)\nASD Conf  : \t4.5\n\n"
COLUMNS = "FRAME \tX \tY \tW \tH\n"


def write(path: Path, rows: str, header: str = HEADER + COLUMNS) -> Path:
    path.write_text(header + rows)
    return path


def test_boxes_in_pixels(tmp_path: Path) -> None:
    path = write(
        tmp_path / "1.txt",
        "000250 \t100 \t50 \t80 \t80 \n000251 \t110 \t50 \t80 \t100 \n000300 \t110 \t50 \t80 \t80 \n",
    )
    boxes = read_boxes(path)
    assert (boxes.start, boxes.stop, boxes.is_fraction) == (10.0, 12.04, False)
    at = np.array([0.0, 0.02, 0.04, 5.0])
    squares = boxes.squares(at, 640, 360, BoxesFile(path=path))
    assert_allclose(squares, [[100, 50, 80, 80], [100, 50, 90, 90], [100, 50, 100, 100], [110, 50, 80, 80]])


def test_boxes_in_fractions(tmp_path: Path) -> None:
    path = write(tmp_path / "1.txt", "329 0.25 0.10 0.1 0.2\r\n330 0.25 0.10 0.1 0.2\r\n")
    boxes = read_boxes(path)
    assert boxes.is_fraction
    # 128×144 pixels: the square is as wide as the box is high.
    assert_allclose(boxes.squares(np.zeros(1), 1280, 720, BoxesFile(path=path)), [[312, 72, 144, 144]])


def test_margin_and_height(tmp_path: Path) -> None:
    path = write(tmp_path / "1.txt", "1 100 60 40 40\n")
    at, boxes = np.zeros(1), read_boxes(path)
    assert_allclose(boxes.squares(at, 640, 360, BoxesFile(path=path, margin=1.5)), [[90, 50, 60, 60]])
    assert_allclose(boxes.squares(at, 1280, 720, BoxesFile(path=path, height=360)), [[200, 120, 80, 80]])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "FRAME"),
        (HEADER, "FRAME"),
        (HEADER + COLUMNS, "five numbers"),
        (HEADER + COLUMNS + "1 2 3 4\n", "five numbers"),
        (HEADER + COLUMNS + "1 2 3 4 5\n2 3 4\n", "five numbers"),
        (HEADER + COLUMNS + "1 2 3 four 5\n", "five numbers"),
        (HEADER + COLUMNS + "1 2 3 nan 5\n", "five numbers"),
        (HEADER + COLUMNS + "2 1 1 9 9\n1 1 1 9 9\n", "increase"),
        (HEADER + COLUMNS + "1 1 1 0 9\n", "width"),
    ],
)
def test_what_is_no_table_of_boxes_is_refused(tmp_path: Path, content: str, told: str) -> None:
    with pytest.raises(BoxesError, match=told):
        read_boxes(write(tmp_path / "1.txt", "", content))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BoxesError, match="No such file"):
        read_boxes(tmp_path / "1.txt")

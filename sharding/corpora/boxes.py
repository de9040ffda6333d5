"""VoxCeleb's txt files: which stretch of a YouTube video an utterance is, and where the face is in it.

Some header lines, a line of column names that begins with FRAME, then a row a picture: its number, counted at 25 a
second from 0, and X, Y, W, H. VoxCeleb1's boxes are in pixels, VoxCeleb2's in fractions of the picture.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sharding.sources.copies import read_bytes
from sharding.sources.read_errors import failures_named
from sharding.utterance import BoxesFile

Floats = NDArray[np.float64]

BOXES_PER_SECOND = 25


class BoxesError(Exception):
    """A file that holds no boxes; the message is a line for a person."""

    reason = "boxes_unreadable"  #: a word to count by


class BoxesOutsideError(BoxesError):
    """A box that lies outside the picture."""

    reason = "boxes_outside"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FaceBoxes:
    """A face's boxes in a part of a video."""

    frame: Floats  #: (n,): numbers of the pictures, increasing
    boxes: Floats  #: (n, 4): left, top, width, height
    is_fraction: bool  #: of the picture; False: in pixels

    @property
    def start(self) -> float:
        """Seconds from the start of the video."""
        return float(self.frame[0] / BOXES_PER_SECOND)

    @property
    def stop(self) -> float:
        """Seconds from the start of the video; the last picture lasts until then."""
        return float((self.frame[-1] + 1) / BOXES_PER_SECOND)

    def squares(
        self, at: Floats, width: int, height: int, file: BoxesFile, first: tuple[int, int] | None = None
    ) -> Floats:
        """Square crops (N, 4) in pixels of a width×height picture, ``at`` (N,) seconds after ``start``.

        Between two pictures the box moves in a straight line. The side is the box' longer one times ``file.margin``.

        Args:
            at: seconds.
            width, height: of the picture.
            file: how boxes are to be taken.
            first: width and height of the video's first picture, which boxes in pixels are of; where the size changes
                in mid-file, the boxes are the same shares of the other pictures. None: this picture's.

        Raises:
            BoxesOutsideError: the centre of a box, at ``at`` or not, is not in the picture. Boxes may reach over its
                edges, and are moved inside when they are cropped; but of a face in the picture the centre is there.
        """
        reach = np.array([width, height, width, height], np.float64)
        if self.is_fraction:
            scale = reach
        else:
            across, down = first or (width, height)
            scale = np.full(4, 1.0 if file.height is None else down / file.height) * (
                reach / np.tile((across, down), 2)
            )
        boxes = self.boxes * scale
        self._require_inside(boxes, width, height, file)
        number = self.frame[0] + at * BOXES_PER_SECOND
        x, y, w, h = (np.interp(number, self.frame, column) for column in boxes.T)
        side = np.maximum(w, h) * file.margin
        return np.stack([x + (w - side) / 2, y + (h - side) / 2, side, side], 1)

    def _require_inside(self, boxes: Floats, width: int, height: int, file: BoxesFile) -> None:
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        is_inside = ((centres >= 0) & (centres <= (width, height))).all(1)
        if is_inside.all():
            return
        row = int(np.argmin(is_inside))
        if self.is_fraction:
            hint = "fractions of a picture lie between 0 and 1"
        elif file.height is None:
            hint = "boxes in pixels of a picture of another size need --boxes-height, that picture's rows"
        else:
            hint = f"are they in pixels of a picture of --boxes-height {file.height} rows?"
        x, y = centres[row]
        raise BoxesOutsideError(
            f"{file.path.name}: the box at FRAME {self.frame[row]:.0f}, around ({x:.0f}, {y:.0f}), lies outside the "
            f"picture of {width}×{height}: {hint}"
        )


def read_boxes(path: Path) -> FaceBoxes:
    """Read a txt file of VoxCeleb's.

    Raises:
        BoxesError: the file is not there, may not be read, or is no such table.
        SourceError: its file system fails.
    """
    try:
        with failures_named(path):
            lines = read_bytes(path).decode(errors="replace").splitlines()
    except OSError as error:
        raise BoxesError(f"{path.name}: {error.strerror}") from error
    header = next((number for number, line in enumerate(lines) if line.split() == ["FRAME", "X", "Y", "W", "H"]), None)
    if header is None:
        raise BoxesError(f"{path.name}: no line FRAME X Y W H")
    try:
        rows = np.array([line.split() for line in lines[header + 1 :] if line.strip()], np.float64)
    except ValueError as error:
        raise BoxesError(f"{path.name}: below FRAME X Y W H stands something else than five numbers a line") from error
    if rows.ndim != 2 or rows.shape[1] != 5 or not np.isfinite(rows).all():
        raise BoxesError(f"{path.name}: below FRAME X Y W H stand no rows of five numbers")
    frame, boxes = rows[:, 0], rows[:, 1:]
    if frame[0] < 0 or not (np.diff(frame) > 0).all():
        raise BoxesError(f"{path.name}: FRAME does not increase from row to row")
    if not (boxes[:, 2:] > 0).all():
        raise BoxesError(f"{path.name}: a box without width or height")
    # No face is a pixel wide.
    return FaceBoxes(frame=frame, boxes=boxes, is_fraction=bool((boxes[:, 2:] <= 1).all()))

"""Gaze by MediaPipe's networks: a table like OpenFace 2's of a video, without OpenFace.

    python -m sharding.gaze.mediapipe VIDEO [--csv TABLE]

The table has the columns that the 103 statistics are made of, under OpenFace's names and in its units and axes, and
more; what stands in them is MediaPipe's, and its last column, ``tracker``, says so in every row. How it comes about is
told by `sharding.gaze.face_mesh` (networks), `sharding.gaze.eye_geometry` (pose, gaze, lids) and
`sharding.gaze.pupil`.

A picture without a face has the confidence and success 0, and zeros. The confidence of the others is the network's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray

from loaders.arguments import cli
from loaders.errors import InputError, reported
from loaders.storage.atomic import write_atomically
from sharding.gaze.eye_geometry import IRIS_MM, MOST_INTENSITY, Camera, Eyes, assumed_focal, euler, eyes
from sharding.gaze.face_mesh import Box, Face, FaceMesh
from sharding.gaze.pupil import pupil_share, steadied
from sharding.gaze.statistics import MEDIAPIPE, GazeError, GazeTable, parse_table, statistics
from sharding.media.reader import MediaError, read_frames, read_media

Floats = NDArray[np.float64]

MOST_FPS = 30.0  #: pictures a second that are looked at
Within = Callable[[int, int, int], Box]
"""A frame's number, a picture's width and height -> where the middle of the face has to lie."""

_GREY = np.array([0.299, 0.587, 0.114], np.float32)
#: After frame, face_id, timestamp, confidence and success: names, and decimals as OpenFace writes them, or one more.
_COLUMNS = (
    *((f"gaze_{eye}_{axis}", 6) for eye in (0, 1) for axis in "xyz"),
    *(("gaze_angle_x", 4), ("gaze_angle_y", 4)),
    *((f"eye_lmk_{axis}_{point}", 2) for point in (8, 42, 51, 55) for axis in "XYZ"),
    *((f"pose_T{axis}", 1) for axis in "xyz"),
    *((f"pose_R{axis}", 4) for axis in "xyz"),
    *(("AU45_r", 3), ("AU45_c", 0)),
)
COLUMNS = ("frame", "face_id", "timestamp", "confidence", "success", *(name for name, _ in _COLUMNS), "tracker")


def track(pictures: Iterable[NDArray[np.uint8]], fps: float, within: Within | None = None) -> str:
    """The table, as CSV, of pictures (height, width, 3) uint8 RGB that follow each other, ``fps`` of them a second.

    Args:
        pictures: of one person; the largest face is taken.
        fps: of the pictures.
        within: where the middle of the face has to lie; None: anywhere.

    Raises:
        InputError: the networks cannot be had, see `FaceMesh`.
    """
    networks = _networks()
    networks.forget()
    faces: list[Face | None] = []
    shares: list[float] = []
    camera: Camera | None = None
    for number, picture in enumerate(pictures):
        height, width, _ = picture.shape
        camera = camera or Camera(focal=assumed_focal(width, height), centre_x=width / 2, centre_y=height / 2)
        face = networks.find(picture, None if within is None else within(number, width, height))
        faces.append(face)
        if face is not None:
            shares.append(float(np.mean([_pupil(picture, iris) for iris in face.irises])))
    found = [face for face in faces if face is not None]
    values = np.zeros((len(faces), len(_COLUMNS)))
    if found and camera is not None:
        seen = eyes(
            np.stack([face.mesh for face in found]),
            np.stack([face.lids for face in found]),
            np.stack([face.irises for face in found]),
            camera,
            fps,
        )
        values[[face is not None for face in faces]] = _values(seen, steadied(np.array(shares), fps))
    lines = [",".join(COLUMNS)]
    for number, (face, row) in enumerate(zip(faces, values.tolist(), strict=True)):
        cells = [f"{value:.{decimals}f}" for value, (_, decimals) in zip(row, _COLUMNS, strict=True)]
        confidence = 0.0 if face is None else face.probability
        start = (str(number + 1), "0", f"{number / fps:.3f}", f"{confidence:.3f}", str(int(face is not None)))
        lines.append(",".join((*start, *cells, MEDIAPIPE)))
    return "\n".join(lines) + "\n"


def run_mediapipe(pictures: Iterable[NDArray[np.uint8]], fps: float, within: Within | None = None) -> GazeTable:
    """The table of pictures, as it is read back from its CSV; arguments as of `track`.

    Raises:
        GazeError: "gaze_few_frames" where there is a face in fewer than two of them.
        InputError: the networks cannot be had.
    """
    return parse_table(track(pictures, fps, within).encode())


def require_mediapipe() -> None:
    """Fetch the networks where they are not there, and load them.

    Raises:
        InputError: that cannot be.
    """
    _networks()


@functools.cache
def _networks() -> FaceMesh:
    """The process' own."""
    return FaceMesh()


def _pupil(picture: NDArray[np.uint8], iris: Floats) -> float:
    """`pupil_share`, of as much of the picture as it needs."""
    reach = np.abs(iris - iris[0]).max() + 2
    height, width, _ = picture.shape
    left, top = np.clip(np.floor(iris[0] - reach).astype(int), 0, (width - 1, height - 1))
    right, bottom = np.clip(np.ceil(iris[0] + reach).astype(int) + 1, (left + 1, top + 1), (width, height))
    grey = (picture[top:bottom, left:right] @ _GREY).round().astype(np.uint8)
    return pupil_share(grey, iris - (left, top))


def _values(seen: Eyes, shares: Floats) -> Floats:
    """The rows of `_COLUMNS`, (N, columns), of the pictures with a face."""
    half = np.zeros((len(shares), 3))
    half[:, 0] = IRIS_MM * shares / 2
    corners = (seen.outer[:, 0], seen.outer[:, 1], seen.iris[:, 1] - half, seen.iris[:, 1] + half)
    return np.column_stack(
        [
            *(seen.gaze[:, 0], seen.gaze[:, 1], seen.angles),
            *corners,
            *(seen.position, euler(seen.rotation)),
            *(seen.blink, seen.closed),
        ]
    )


def _show(
    video: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    csv: Path | None = None,
    fps: float | None = None,
) -> None:
    """Track the gaze of the largest face in a video.

    Args:
        video: Any file with pictures.
        csv: Write the table there, like OpenFace 2's but with MediaPipe's numbers.
        fps: Pictures a second that are looked at; by default the video's own, but no more than 30.
    """
    if fps is not None and not 1 <= fps <= 1000:
        raise InputError(f"--fps is {fps}: use 1 to 1000")
    try:
        # As a build does it, of which the table is then the same.
        rate = fps or min(
            read_media(video, fps=1, size=16, max_seconds=math.inf, needs_audio=False).source_fps, MOST_FPS
        )
        text = track(read_frames(video, fps=rate, max_seconds=math.inf, square_pixels=True), rate)
    except MediaError as error:
        raise InputError(f"{video}: {error.detail}") from error
    if csv is not None:
        try:
            write_atomically(csv, text.encode())
        except OSError as error:
            raise InputError(f"--csv {csv}: {error.strerror}: give a file that can be written") from error
    rows = text.splitlines()[1:]
    succeeded = sum(row.split(",")[4] == "1" for row in rows)
    print(f"{video}: a face in {succeeded} of {len(rows)} frames, {rate:g} a second{'' if csv is None else f'; {csv}'}")
    try:
        table = parse_table(text.encode())
        statistics(table)
    except GazeError as error:
        print(f"{video}: no statistics: {error.detail}")
        return
    seen = table.rows(table.success)
    blinks = np.count_nonzero(np.diff(seen.eyes_closed, prepend=0) > 0)
    x, y = np.degrees(np.median(seen.gaze_angle_x)), np.degrees(np.median(seen.gaze_angle_y))
    print(
        f"median gaze {x:+.1f}° to the right of the picture, {y:+.1f}° down; eyes closed {blinks} times; most intense "
        f"blink {seen.blink_intensity.max():.1f} of {MOST_INTENSITY:g}"
    )


def main() -> None:
    """The command line; exit status 2 and one line where the input is wrong."""
    with reported():
        cli(_show, prog="python -m sharding.gaze.mediapipe")


if __name__ == "__main__":
    main()

"""The gaze signals themselves, a row a time step, in place of their statistics."""

import numpy as np
from numpy.typing import NDArray

from sharding.gaze.statistics import SIGNAL_NAMES, GazeError, GazeTable, signals
from sharding.members.registry import ArrayType, NoArrayError, OfClip, Source, member
from sharding.settings import BuildSettings


def _type(settings: BuildSettings) -> ArrayType:
    return ArrayType(dtype="float32", shape=(_steps(settings), len(SIGNAL_NAMES) + 1))


def _steps(settings: BuildSettings) -> int:
    return round(settings.clip_seconds * settings.gaze_fps)


@member("gaze_frames", array=_type)
def gaze_frames(source: Source) -> OfClip:
    """See `resampled`; a clip without a valid row has none."""
    settings = source.settings
    try:
        table = source.gaze_table()
    except GazeError as error:
        raise NoArrayError(error.reason, error.detail) from error

    def of_clip(start: float, end: float) -> NDArray[np.float32]:
        rows = resampled(table, start, _steps(settings), settings.gaze_fps)
        if not rows[:, -1].any():
            raise NoArrayError("gaze_few_frames", f"the tracker succeeded on no frame from {start:g} s on")
        return rows

    return of_clip


def resampled(table: GazeTable, start: float, steps: int, fps: float) -> NDArray[np.float32]:
    """A clip's gaze signals on a clock: (steps, 13), row i of them at ``start`` + i / fps seconds.

    The first twelve columns are `sharding.gaze.statistics.SIGNAL_NAMES`, from the table's row that is nearest in time,
    or, where the frame rate varies, that of the picture on screen; the last is 1 where there is such a row and OpenFace
    succeeded on it. Where it is 0, so are the others.
    """
    at = start + np.arange(steps) / fps
    # Half a millisecond more: OpenFace rounds its timestamps to milliseconds.
    if table.lasting is None:
        after = np.clip(np.searchsorted(table.timestamp, at), 1, len(table) - 1)
        is_before_nearer = at - table.timestamp[after - 1] <= table.timestamp[after] - at
        row = np.where(is_before_nearer, after - 1, after)
        is_there = np.abs(table.timestamp[row] - at) <= 0.5 / min(fps, table.fps) + 0.0005
    else:
        row = np.maximum(np.searchsorted(table.timestamp, at + 0.0005, side="right") - 1, 0)
        since = at - table.timestamp[row]
        is_there = (since >= -0.0005) & (since < table.lasting[row] - 0.0005)
    is_valid = is_there & table.success[row]
    result = np.zeros((steps, len(SIGNAL_NAMES) + 1), np.float32)
    result[is_valid, :-1] = signals(table)[row[is_valid]]
    result[:, -1] = is_valid
    return result

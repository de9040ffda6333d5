"""An utterance's gaze, and each clip's share of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sharding.crops.crop_plan import CropPlan
from sharding.gaze.mediapipe import MOST_FPS as MOST_TRACKED
from sharding.gaze.mediapipe import run_mediapipe
from sharding.gaze.openface import MOST_FPS, SIZE, run_openface
from sharding.gaze.statistics import (
    OPENFACE,
    GazeError,
    GazeTable,
    on_pictures,
    read_table,
    require_half,
    statistics,
    window,
)
from sharding.media.reader import Box, Media, MediaError, centre_square, read_frames, read_media
from sharding.settings import BuildSettings
from sharding.utterance import Utterance

_LENGTHS_APART = (0.2, 0.01)  # a table may differ from its video by so many seconds, and by this share of it
_CLOCKS_APART = 0.1  # seconds, and no less than a picture lasts: further from evenly spaced, the frame rate varies


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipGaze:
    """What a clip has of gaze."""

    statistics: NDArray[np.float32] | None = None  #: (103,), see `sharding.gaze.statistics.GAZE_NAMES`
    problem: str | None = None  #: why it has none: a word to count by
    detail: str = ""  #: the same for a person


class UtteranceGaze:
    """The gaze of an utterance's clips. What is wrong with the table is wrong with the gaze of every clip."""

    def __init__(self, utterance: Utterance, media: Media, view: CropPlan, settings: BuildSettings) -> None:
        """Read the utterance's table, or have a tracker make one.

        Args:
            utterance: whose gaze it is.
            media: its frames, which the table has to fit.
            view: how it is looked at, for the tracker.
            settings: of the build.
        """
        self._table: GazeTable | None = None
        self._whole: NDArray[np.float32] | None = None
        self._failed: GazeError | None = None
        try:
            table = self._table = _table(utterance, media, view, settings)
            if settings.gaze_window == "utterance":
                if table.lasting is None:
                    # Rows that are missing at the start, where the table alone does not say that they should be there.
                    require_half(table, table.frames + round(float(table.timestamp[0]) * table.fps))
                else:
                    table = window(table, 0.0, media.source_seconds)
                self._whole = statistics(table).astype(np.float32)
        except GazeError as error:
            self._failed = error

    def table(self) -> GazeTable:
        """The whole utterance's. Raises GazeError where there is none that fits."""
        if self._table is None:
            assert self._failed is not None
            raise self._failed
        return self._table

    def of(self, start: float, end: float) -> ClipGaze:
        """The gaze of the clip between these seconds of the utterance."""
        if self._failed is not None or self._table is None:
            assert self._failed is not None
            return ClipGaze(problem=self._failed.reason, detail=self._failed.detail)
        try:
            values = self._whole
            if values is None:
                values = statistics(window(self._table, start, end)).astype(np.float32)
        except GazeError as error:
            return ClipGaze(problem=error.reason, detail=error.detail)
        return ClipGaze(statistics=values)


def _table(utterance: Utterance, media: Media, view: CropPlan, settings: BuildSettings) -> GazeTable:
    if settings.gaze == "mediapipe":
        table = _track(utterance, media, view, settings.max_seconds)
    elif utterance.gaze_path is not None:
        table = read_table(utterance.gaze_path)
        if table.tracker != OPENFACE:
            raise GazeError("gaze_other_tracker", f"the table is made by {table.tracker}, not by OpenFace")
        table = _placed(table, media) if utterance.is_whole else _cut(table, view, media)
    elif settings.openface_bin is not None:
        table = _run(settings.openface_bin, utterance, media, view, settings.max_seconds)
    else:
        raise GazeError("gaze_missing", "no OpenFace table was given")
    if table.lasting is None:
        _require_fit(table, media.source_seconds)
    return table


def _placed(table: GazeTable, media: Media) -> GazeTable:
    """The table, where the video's frame rate varies and it is of that very video: with the times of its pictures.

    OpenFace counts every picture that is decoded, and makes timestamps of the count. A table that has as many frames as
    the video has pictures, give or take one, or rows left out at its end, is of these; another is of a copy with a
    fixed rate, whose timestamps are right.
    """
    if not _varies(media):
        return table
    starts, seconds = media.source_starts, media.source_seconds
    missing = len(starts) - int(table.frame.max())
    allowed = max(_LENGTHS_APART[0], _LENGTHS_APART[1] * seconds) * len(starts) / seconds
    return on_pictures(table, starts, seconds) if -1 <= missing <= max(1.0, allowed) else table


def _cut(table: GazeTable, view: CropPlan, media: Media) -> GazeTable:
    """The part of the table of a longer video that is the utterance's."""
    seconds = media.source_seconds
    if _varies(media):
        # Which of the file's pictures its rows are of, only a look at all before the part would tell.
        raise GazeError("gaze_unplaced", "the frame rate varies in a part of a longer video, whose table is by frames")
    return window(table, view.start, view.start + seconds)


def _varies(media: Media) -> bool:
    """Whether the video's pictures are not evenly spaced."""
    starts, seconds = media.source_starts, media.source_seconds
    evenly = np.linspace(0.0, seconds, len(starts), endpoint=False)
    return bool(np.abs(starts - evenly).max() > max(_CLOCKS_APART, seconds / len(starts)))


def _run(binary: str, utterance: Utterance, media: Media, view: CropPlan, max_seconds: float) -> GazeTable:
    """OpenFace on the same crops, at the source's own frame rate: its statistics are of one frame to the next."""
    fps = min(media.source_fps, MOST_FPS)
    crops = read_media(
        utterance.video_path,
        fps=fps,
        size=SIZE,
        audio_path=utterance.audio_path,
        max_seconds=max_seconds,
        boxes=view.boxes(fps),
        start=view.start,
        stop=view.stop,
        audio_start=view.audio_start,
    )
    table = run_openface(binary, crops.frames, fps)
    _require_fit(table, crops.seconds)
    return table


def _track(utterance: Utterance, media: Media, view: CropPlan, max_seconds: float) -> GazeTable:
    """MediaPipe on whole pictures, where the camera is known best, at the source's own frame rate.

    The face is the one whose middle lies in what is cropped.
    """
    fps = min(media.source_fps, MOST_TRACKED)
    boxes = view.boxes(fps)
    rows: dict[tuple[int, int], NDArray[np.floating]] = {}

    def within(frame: int, width: int, height: int) -> Box:
        if boxes is None:
            return centre_square(width, height)
        of_size = rows.get((width, height))
        if of_size is None:
            of_size = rows[width, height] = boxes(width, height)
        left, top, wide, high = of_size[min(frame, len(of_size) - 1)].tolist()
        return left, top, wide, high

    pictures = read_frames(
        utterance.video_path,
        fps=fps,
        max_seconds=max_seconds,
        start=view.start,
        stop=view.stop,
        square_pixels=True,  # of which a head's proportions are made
    )
    try:
        return run_mediapipe(pictures, fps, within)
    except MediaError as error:
        raise GazeError("gaze_unreadable", error.detail) from error


def _require_fit(table: GazeTable, seconds: float) -> None:
    step = float(np.median(np.diff(table.timestamp)))
    lasts = float(table.timestamp[-1]) + step
    allowed = max(_LENGTHS_APART[0], _LENGTHS_APART[1] * seconds)
    if abs(lasts - seconds) > allowed:
        raise GazeError("gaze_wrong_length", f"the table covers {lasts:.2f} s of a video of {seconds:.2f} s")

"""What is looked at of an utterance: which part of its video's file, and which square of every picture."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from sharding.corpora.boxes import read_boxes
from sharding.crops.faces import DETECTIONS_PER_SECOND, Detections, FaceDetector, Track, crop_boxes, track
from sharding.media.reader import read_frames
from sharding.settings import BuildSettings
from sharding.stages import Stopwatch
from sharding.utterance import BoxesFile, Utterance

Floats = NDArray[np.float64]
Squares = Callable[[Floats, int, int], Floats]
"""Seconds after a plan's ``start`` (N,), a picture's width and height -> boxes (N, 4) in its pixels."""


class NoFaceError(Exception):
    """No face is seen in an utterance."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CropPlan:
    """A part of a video, and the squares to crop."""

    start: float = 0.0  #: seconds after the video's first picture
    stop: float = math.inf
    audio_start: float = 0.0  #: seconds after the first sample of sound that lies apart
    squares: Squares | None = None  #: None: the centre
    seconds: float = 0.0  #: that ``squares`` tell apart; after that they stay as they are
    face: Track | None = None  #: where a face was looked for

    def boxes(self, fps: float) -> Callable[[int, int], Floats] | None:
        """The squares of the frames of a clock, (N, 4), the last one for all frames beyond; None: the centre.

        They are a function of the picture's width and height, for both may change in mid-file.
        """
        squares = self.squares
        if squares is None:
            return None
        at = np.arange(math.ceil(self.seconds * fps) + 1) / fps
        return lambda width, height: squares(at, width, height)


def crop_plan_of(utterance: Utterance, settings: BuildSettings, watch: Stopwatch) -> CropPlan:
    """How an utterance is looked at: as its boxes say, or its main face, or the centre of every picture.

    Which part of a longer film it is, its boxes say, and sound that lies apart is that of the part; or it says so
    itself, and such sound is of the whole film.

    Raises:
        BoxesError: its boxes cannot be read, or lie outside the picture.
        MediaError: its video cannot.
        NoFaceError: ``settings.crop`` is "face" and there is none.
    """
    if utterance.boxes is not None:
        return _boxed(utterance, utterance.boxes)
    if settings.crop == "face":
        return _followed(utterance, settings, watch)
    start, stop = _part_of(utterance)
    return CropPlan(start=start, stop=stop, audio_start=start)


def _part_of(utterance: Utterance) -> tuple[float, float]:
    return utterance.start or 0.0, math.inf if utterance.end is None else utterance.end


def _boxed(utterance: Utterance, file: BoxesFile) -> CropPlan:
    found = read_boxes(file.path)
    height, width, _ = next(read_frames(utterance.video_path, fps=1, max_seconds=math.inf)).shape
    first = width, height
    found.squares(np.zeros(1), *first, file, first)  # what lies outside is refused before anything is decoded
    return CropPlan(
        start=found.start,
        stop=found.stop,
        squares=lambda at, width, height: found.squares(at, width, height, file, first),
        seconds=found.stop - found.start,
    )


def _followed(utterance: Utterance, settings: BuildSettings, watch: Stopwatch) -> CropPlan:
    # Every so many frames of the clips' clock, so that what is looked at is what is stored.
    rate = settings.fps / max(1, round(settings.fps / DETECTIONS_PER_SECOND))
    start, stop = _part_of(utterance)
    frames = read_frames(utterance.video_path, fps=rate, max_seconds=settings.max_seconds, start=start, stop=stop)
    looked: list[Detections] = []
    sizes: list[tuple[int, int]] = []
    while True:
        with watch.stage("decode"):
            frame = next(frames, None)
        if frame is None:
            break
        with watch.stage("detect"):
            sizes.append((frame.shape[1], frame.shape[0]))
            looked.append(face_detector().detect(frame))
    times = np.arange(len(looked)) / rate
    face = track(looked, times, times, sizes=sizes)
    if face is None:
        raise NoFaceError(f"no face in any of {len(looked)} frames looked at")

    def squares(at: Floats, width: int, height: int) -> Floats:
        found = cast(Track, track(looked, times, at, sizes=sizes, size=(width, height)))
        return crop_boxes(found.boxes, width, height)

    return CropPlan(start=start, stop=stop, audio_start=start, squares=squares, seconds=len(looked) / rate, face=face)


@functools.cache
def face_detector() -> FaceDetector:
    """The process' own. Raises InputError where the extra "faces" is not installed, or its network cannot be had."""
    return FaceDetector()

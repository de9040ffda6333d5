"""Where the face is, and the crop around it.

A few frames a second go through CenterFace (`FaceDetector.detect`); what it finds is linked over time, one face is
chosen and its path smoothed (`track`); around that path stands a square with some background, in which the face is
as large and sits as it does in VoxCeleb2's own clips (`crop_boxes`).

A box is x, y, width, height in pixels of the frame, x and y being its upper left corner. Only the detector needs the
extra `filmstrip[faces]`, which is OpenCV; the network itself is fetched (`sharding.networks`). All else is numpy.

CenterFace: Xu, Yan, Yang et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019,
arXiv:1911.03599.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sharding.networks.known import CENTERFACE, CENTERFACE_ONNX
from sharding.networks.opencv import opencv
from sharding.networks.wheels import fetched

# How large and how often to look. CenterFace finds every face that is 32 pixels across at its input, 9 of 10 at 24 and
# hardly any at 16 (talking heads, shrunk), so at 480 it needs a face a fifteenth as wide as the picture. Such a look at
# a wide picture takes 30 ms of one core. Looking oftener than four times a second would bring the crop nearer to the
# face by less than one pixel of 224.
DETECTION_SIDE = 480
DETECTIONS_PER_SECOND = 4.0
MINIMUM_SCORE = 0.5
# An utterance or a clip in which the face was seen in a smaller share of the frames looked at has no face.
MINIMUM_COVERAGE = 0.5

# How large the face is in VoxCeleb2's own clips, and where: the longer side of its box over the side of the picture,
# and its centre as fractions of the side. Measured with this detector on 569 frames of 9 clips of 7 speakers. Share:
# median 0.67, of clips 0.65 to 0.69, 9 of 10 frames from 0.64 to 0.71. Centre: median (0.50, 0.36), 9 of 10 frames from
# 0.48 to 0.52 and from 0.34 to 0.38: there is more room below the face than above.
FACE_SHARE = 0.67
FACE_CENTRE = (0.5, 0.36)

_STRIDE = 4  # input pixels to a cell of the network's outputs
_MULTIPLE = 32  # the network halves its input five times
_OVERLAP = 0.4  # boxes of one face at neighbouring cells overlap by far more, those of two faces by less

# How far a face may have moved between two detections, in face sizes, and grown: to be the same face at all, and to be
# in the same shot. A jump cut moves the speaker at once; smoothing across it would drag the crop off the face.
_SAME_FACE = (1.0, 2.0)
_SAME_SHOT = (0.5, 1.4)
# Standard deviations of the smoothing, in seconds. The size changes slower than the place, lest the crop breathe.
_STEADY_CENTRE = 0.25
_STEADY_SIZE = 1.0
_SMOOTHING_STEP = 1 / 32  # seconds


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detections:
    """The faces found in one frame, best first."""

    boxes: NDArray[np.float64]  # (n, 4): x, y, width, height in pixels
    scores: NDArray[np.float64]  # (n,): 0..1
    landmarks: NDArray[np.float64]  # (n, 5, 2): x, y of the eyes, the nose and the corners of the mouth, left to right


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Track:
    """One face over an utterance."""

    boxes: NDArray[np.float64]  # (N, 4): smoothed, one for each output frame
    times: NDArray[np.float64]  # (S,): seconds of the frames that were looked at
    seen: NDArray[np.bool_]  # (S,): whether this face was found there

    def coverage(self, start: float = -math.inf, end: float = math.inf) -> float:
        """Share of the frames looked at in `start` <= t < `end` seconds in which this face was found.

        0 where none was looked at: what was not seen is not vouched for.
        """
        within = (self.times >= start) & (self.times < end)
        return float(self.seen[within].mean()) if within.any() else 0.0


class FaceDetector:
    """CenterFace in OpenCV, on one thread of the CPU; one to a process.

    A frame gives the same detections whenever it is asked about.

    Raises:
        InputError: the extra `faces` is not installed, its OpenCV cannot be loaded, or the network can neither be found
            nor fetched.
    """

    def __init__(self, *, longest_side: int = DETECTION_SIDE, minimum_score: float = MINIMUM_SCORE) -> None:
        """Load the network. Frames larger than `longest_side` pixels are shrunk to it before they are looked at."""
        self._cv2 = opencv(_MISSING)
        self._network = self._cv2.dnn.readNetFromONNX(str(fetched(CENTERFACE) / CENTERFACE_ONNX))
        self._longest_side = longest_side
        self._minimum_score = minimum_score

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        """The faces of `frame`, (H, W, 3) RGB; their boxes in whole pixels."""
        height, width = frame.shape[:2]
        ratio = min(1.0, self._longest_side / max(height, width))
        rows, columns = max(1, round(height * ratio)), max(1, round(width * ratio))
        small = frame
        if ratio < 1.0:
            small = self._cv2.resize(frame, (columns, rows), interpolation=self._cv2.INTER_AREA)
        # The margin is black and lies right and below, so that coordinates need no shift.
        blob = np.zeros((1, 3, _round_up(rows), _round_up(columns)), np.float32)
        blob[0, :, :rows, :columns] = small.transpose(2, 0, 1)
        self._network.setInput(blob)
        outputs = self._network.forward(("537", "538", "539", "540"))  # the names that the ONNX file gives them
        found = decode(*(output[0] for output in outputs), minimum_score=self._minimum_score)
        scale = np.array([width / columns, height / rows])
        # Between kinds of CPU the network's boxes differ by some 1e-4 pixels, and a dataset's bytes must not: rounded,
        # all but one in several thousand are the same. The noise of rounding is a fraction of the network's own.
        boxes = np.round(found.boxes * np.tile(scale, 2))
        return Detections(boxes=boxes, scores=found.scores, landmarks=found.landmarks * scale)


def decode(
    heatmap: NDArray[np.float32],
    sizes: NDArray[np.float32],
    offsets: NDArray[np.float32],
    landmarks: NDArray[np.float32],
    *,
    minimum_score: float = MINIMUM_SCORE,
) -> Detections:
    """CenterFace's outputs for one picture as boxes in pixels of the network's input (arXiv:1911.03599, section 3).

    Each cell of the (1, h, w) heatmap says how likely a face has its centre there; `sizes` (2, h, w) holds the
    logarithms of its height and width in cells, `offsets` (2, h, w) where in the cell the centre lies, y before x, and
    `landmarks` (10, h, w) five points, y before x, as fractions of the box from its upper left corner.

    The centre answers in many cells at once. Rather than the best one alone, as plain non-maximum suppression has it,
    all that overlap it are averaged, weighted by their scores: the box then moves smoothly where the best cell would
    jump by 4 pixels (box voting: Gidaris and Komodakis, ICCV 2015).
    """
    rows, columns = np.nonzero(heatmap[0] >= minimum_score)
    order = np.argsort(-heatmap[0, rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    scores = heatmap[0, rows, columns].astype(np.float64)
    size = np.exp(sizes[::-1, rows, columns].T.astype(np.float64)) * _STRIDE
    centre = (np.stack([columns, rows], 1) + offsets[::-1, rows, columns].T + 0.5) * _STRIDE
    corner = centre - size / 2
    points = landmarks[:, rows, columns].T.reshape(-1, 5, 2)[:, :, ::-1] * size[:, None] + corner[:, None]
    boxes = np.concatenate([corner, size], 1)

    faces: list[tuple[NDArray[np.float64], float, NDArray[np.float64]]] = []
    left = np.arange(len(scores))
    while len(left):
        same = _intersection_over_union(boxes[left[0]], boxes[left]) >= _OVERLAP
        votes = left[same]
        faces.append(
            (
                np.average(boxes[votes], axis=0, weights=scores[votes]),
                float(scores[left[0]]),
                np.average(points[votes], axis=0, weights=scores[votes]),
            )
        )
        left = left[~same]
    return Detections(
        boxes=np.array([box for box, _, _ in faces]).reshape(-1, 4),
        scores=np.array([score for _, score, _ in faces]),
        landmarks=np.array([point for _, _, point in faces]).reshape(-1, 5, 2),
    )


def link(detections: Sequence[Detections]) -> list[list[tuple[int, int]]]:
    """Which detections of successive frames are the same face.

    Returns, for each face, its (frame, detection) indices in order of time; every detection belongs to exactly one. A
    face is taken up again however long it was away, if it comes back near the place where it was last seen: people do
    after a cut-away, whereas the other party of a conversation sits elsewhere. Faces seen last are matched first, and
    among them the nearest.
    """
    faces: list[list[tuple[int, int]]] = []
    for frame, found in enumerate(detections):
        pairs: list[tuple[int, float, int, int]] = []
        for index, face in enumerate(faces):
            last_frame, last = face[-1]
            moved, grown = _change(detections[last_frame].boxes[last], found.boxes)
            near = (moved <= _SAME_FACE[0]) & (grown <= _SAME_FACE[1])
            pairs += [(frame - last_frame, float(moved[d]), index, int(d)) for d in np.nonzero(near)[0]]
        taken: dict[int, int] = {}  # detection -> face
        for _, _, index, detection in sorted(pairs):
            if detection not in taken and index not in taken.values():
                taken[detection] = index
        for detection in range(len(found.boxes)):
            if detection in taken:
                faces[taken[detection]].append((frame, detection))
            else:
                faces.append([(frame, detection)])
    return faces


def track(
    detections: Sequence[Detections],
    times: NDArray[np.float64],
    at: NDArray[np.float64],
    *,
    sizes: Sequence[tuple[int, int]] | None = None,
    size: tuple[int, int] | None = None,
) -> Track | None:
    """The path of the main face: the one with the largest sum of area times score.

    Args:
        detections: what was found in each frame that was looked at, (S,).
        times: seconds of those frames, (S,), increasing.
        at: seconds of the output frames, (N,), for which boxes are wanted.
        sizes: width and height of each frame that was looked at, (S,), where they are not all alike.
        size: those of the output frames; the first frame's unless told otherwise.

    Returns:
        The face's boxes at `at`, or None where no face was found at all. Where the face was not seen its box runs
        straight from the last to the next sighting, and stays where it was before the first and after the last. The
        path is freed of single outliers by a median of three and smoothed by a Gaussian, without lag, each shot by
        itself. Where the size of the frames changes, so may what they show: a box in frames of one size is read off
        the sightings in frames of that size alone, if there are any.
    """
    shapes = np.ones((len(detections), 2)) if sizes is None else np.array(sizes, np.float64).reshape(-1, 2)
    alike = [_stretched(found, shapes[0] / shape) for found, shape in zip(detections, shapes, strict=True)]
    faces = link(alike)
    if not faces:
        return None

    def weight(face: list[tuple[int, int]]) -> float:
        return float(sum(alike[f].boxes[d, 2:].prod() * alike[f].scores[d] for f, d in face))

    main = max(faces, key=weight)
    frames = np.array([frame for frame, _ in main])
    wanted = shapes[0] if size is None else np.array(size, np.float64)
    boxes = np.array([detections[frame].boxes[detection] for frame, detection in main])
    boxes = boxes * np.tile(wanted / shapes[frames], 2)
    of_size = (shapes[frames] == wanted).all(1)
    used = of_size if of_size.any() else np.ones_like(of_size)
    seen = np.zeros(len(detections), np.bool_)
    seen[frames] = True
    return Track(boxes=_steady_path(times[frames][used], boxes[used], at), times=times, seen=seen)


def _stretched(found: Detections, ratio: NDArray[np.float64]) -> Detections:
    """What was found in a frame, had its sides been `ratio` (2,) times as long."""
    if (ratio == 1).all():
        return found
    return Detections(boxes=found.boxes * np.tile(ratio, 2), scores=found.scores, landmarks=found.landmarks * ratio)


def crop_boxes(
    boxes: NDArray[np.float64],
    frame_width: int,
    frame_height: int,
    share: float = FACE_SHARE,
    centre: tuple[float, float] = FACE_CENTRE,
) -> NDArray[np.float64]:
    """Squares around faces, inside the picture.

    Args:
        boxes: the faces, (N, 4).
        frame_width: pixels.
        frame_height: pixels.
        share: of the crop's side that the longer side of the face takes up; as in VoxCeleb2 unless told otherwise.
        centre: where in the crop the face's centre lies, as fractions of its side; likewise.

    Returns:
        (N, 4) boxes of equal width and height. Never outside the picture: a crop that would be is shifted inside, and
        shrunk where even the picture's shorter side is too short for it, so that the face then fills more than
        `share`. It holds all of the face that is in the picture, if a square of the picture can.
    """
    picture = np.array([frame_width, frame_height], np.float64)
    side = np.minimum(boxes[:, 2:].max(1, initial=0.0) / share, picture.min())[:, None]
    near, size = boxes[:, :2], boxes[:, 2:]
    corner = near + size / 2 - np.array(centre) * side
    # Where the crop had to shrink the face may stick out on one side while there is room on the other.
    holding = np.minimum(np.maximum(corner, near + size - side), near)
    corner = np.where(size <= side, holding, near + (size - side) / 2)
    return np.concatenate([np.clip(corner, 0.0, picture - side), side, side], 1)


def face_share(boxes: NDArray[np.float64], side: float) -> NDArray[np.float64]:
    """The longer side of each face (N, 4) over the `side` of the square picture that it is in: (N,)."""
    return np.asarray(boxes[:, 2:].max(1, initial=0.0) / side)


def _steady_path(
    times: NDArray[np.float64], boxes: NDArray[np.float64], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Boxes seen at `times`, smoothed and read off at `at`; each shot by itself, changing half-way between two."""
    centres = _median_of_three(boxes[:, :2] + boxes[:, 2:] / 2)
    sizes = _median_of_three(boxes[:, 2:])
    clean = np.concatenate([centres - sizes / 2, sizes], 1)
    moved, grown = _change(clean[:-1], clean[1:])
    cuts = np.nonzero((moved > _SAME_SHOT[0]) | (grown > _SAME_SHOT[1]))[0] + 1
    shot_at = np.searchsorted((times[cuts - 1] + times[cuts]) / 2, at, side="right")
    path = np.empty((len(at), 4))
    for shot, samples in enumerate(np.split(np.arange(len(times)), cuts)):
        here = shot_at == shot
        centre = _smooth(times[samples], centres[samples], at[here], _STEADY_CENTRE)
        size = _smooth(times[samples], sizes[samples], at[here], _STEADY_SIZE)
        path[here] = np.concatenate([centre - size / 2, size], 1)
    return path


def _median_of_three(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median of each row of (S, k) and its two neighbours; the ends stand for the neighbours they lack."""
    padded = np.pad(values, ((1, 1), (0, 0)), mode="edge")
    return np.asarray(np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0))


def _smooth(
    times: NDArray[np.float64], values: NDArray[np.float64], at: NDArray[np.float64], deviation: float
) -> NDArray[np.float64]:
    """Values (S, k) at `times`, joined by straight lines, smoothed by a Gaussian of `deviation` seconds, at `at`.

    Every result is a weighted mean of `values`; beyond the ends the first and the last go on for ever.
    """
    radius = math.ceil(3 * deviation / _SMOOTHING_STEP)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) * _SMOOTHING_STEP / deviation) ** 2)
    kernel /= kernel.sum()
    clock = times[0] + np.arange(math.ceil((times[-1] - times[0]) / _SMOOTHING_STEP) + 1) * _SMOOTHING_STEP
    smoothed = np.empty((len(at), values.shape[1]))
    for column, value in enumerate(values.T):
        joined = np.pad(np.interp(clock, times, value), radius, mode="edge")
        smoothed[:, column] = np.interp(at, clock, np.convolve(joined, kernel, mode="valid"))
    return smoothed


def _change(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far boxes moved, in face sizes (the root of the area), and by what factor >= 1 they grew or shrank."""
    size_before, size_after = np.sqrt(before[..., 2:].prod(-1)), np.sqrt(after[..., 2:].prod(-1))
    step = (after[..., :2] + after[..., 2:] / 2) - (before[..., :2] + before[..., 2:] / 2)
    moved = np.hypot(step[..., 0], step[..., 1]) / np.sqrt(size_before * size_after)
    return moved, np.maximum(size_before / size_after, size_after / size_before)


def _intersection_over_union(box: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    near = np.maximum(box[:2], boxes[:, :2])
    far = np.minimum(box[:2] + box[2:], boxes[:, :2] + boxes[:, 2:])
    shared = np.maximum(far - near, 0.0).prod(1)
    return np.asarray(shared / (box[2:].prod() + boxes[:, 2:].prod(1) - shared))


def _round_up(pixels: int) -> int:
    return -(-pixels // _MULTIPLE) * _MULTIPLE


_MISSING = "finding faces needs the extra 'faces': pip install '.[faces]'"

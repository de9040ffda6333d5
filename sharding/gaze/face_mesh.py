"""MediaPipe's networks in OpenCV: from a picture to a face's mesh, its eyes' lids and irises.

Face detection: Bazarevsky, Kartynnik, Vakunov, Raveendran and Grundmann, "BlazeFace: Sub-millisecond Neural Face
Detection on Mobile GPUs" (2019). Mesh: Kartynnik, Ablavatski, Grishchenko and Grundmann, "Real-time Facial Surface
Geometry from Monocular Video on Mobile GPUs" (2019). Irises: Ablavatski, Vakunov, Grishchenko, Raveendran and
Zhdanovich, "Real-time Pupil Tracking from Monocular Video for Digital Puppetry" (2020). What each network is given,
turned upright and widened by how much, is as in MediaPipe's own graphs.

As there, a face is detected once, and then looked for where its mesh was in the picture before; it is detected anew
when it is not there. Where a network is shown a square of the picture, it draws its points a little elsewhere than in
a square beside that. So a square stays as it is while the face stays in the middle of it, and a picture that does not
move gives points that do not. And the mesh is the mean of those that the network gives of the face and of its mirror
image, or what is left would not be right's opposite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.errors import InputError
from sharding.gaze.eye_geometry import CHIN, MIDLINE, PAIRS
from sharding.networks.known import MEDIAPIPE
from sharding.networks.opencv import opencv
from sharding.networks.wheels import fetched

Floats = NDArray[np.float64]
Box = tuple[float, float, float, float]  # left, top, width, height in pixels

MESH, LIDS, IRIS = 468, 71, 5  #: points of a face, and of an eye
PRESENT = 0.5  #: a face that is less probable is none
#: Of the mesh: the outer and inner corner of the eye at the left of a picture that is not mirrored, and at its right.
CORNERS = ((33, 133), (263, 362))

_FACE_SIDE, _EYE_SIDE = 192, 64  # pixels of the networks' inputs
_FACE_MARGIN, _EYE_MARGIN = 1.5, 2.3  # sides of what they are given, over the longer side of what was found
_STAYS, _STAYS_AS_LARGE, _STAYS_UPRIGHT = (
    0.02,
    0.04,
    math.radians(2),
)  # of a square: its side, its size's logarithm, turn
_LOOKS = 6  # at a face that has been detected
_SYMMETRIC = np.array([*MIDLINE, CHIN, *(right for right, _ in PAIRS), *(left for _, left in PAIRS)])
_PARTNERS = np.array([*MIDLINE, CHIN, *(left for _, left in PAIRS), *(right for right, _ in PAIRS)])
_OVERLAP = 0.3  # boxes that overlap by more are of one face
_MISSING = "--gaze mediapipe needs the extra 'mediapipe': pip install '.[mediapipe]'"
_OLD = "--gaze mediapipe needs OpenCV 5, {} is installed: pip install --upgrade 'opencv-python-headless>=5'"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Face:
    """A face in a picture; x and y in pixels, 0 at the outer edge of the first one, y down; z as large as x, away."""

    mesh: Floats  #: (468, 3), MediaPipe's face mesh; what `eye_geometry` uses of it, seen in a mirror too
    lids: (
        Floats  #: (2, 71, 2), of the eye at the left of the picture and of that at its right; the first 16 are the lids
    )
    irises: (
        Floats  #: (2, 5, 2): centre, then four points of the edge, those beside it at 1 and 3, above and below at 2, 4
    )
    probability: float  #: that there is a face where it was looked for, 0 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Square:
    """A square of a picture, turned: what a network is given."""

    x: float  #: of its centre, pixels
    y: float
    side: float
    angle: float  #: radians from the picture's x axis to its own, clockwise as seen
    mirrored: bool = False  #: its own x axis is turned round

    def to_picture(self, side: int) -> Floats:
        """From pixels of the network's input to those of the picture: (2, 3)."""
        scale = self.side / side
        cosine, sine = scale * math.cos(self.angle), scale * math.sin(self.angle)
        turn = np.array([[cosine, -sine], [sine, cosine]])
        if self.mirrored:
            turn[:, 0] *= -1
        centre = np.array([self.x, self.y])
        return np.column_stack([turn, centre - turn @ np.full(2, side / 2)])

    def or_else(self, other: Square) -> Square:
        """This one, where the other hardly differs from it."""
        away = max(abs(other.x - self.x), abs(other.y - self.y)) / self.side
        turn = abs(math.remainder(other.angle - self.angle, 2 * math.pi))
        is_near = away < _STAYS and abs(math.log(other.side / self.side)) < _STAYS_AS_LARGE and turn < _STAYS_UPRIGHT
        return self if is_near else other


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """A mesh, how probable it is that there is a face, and the square in whose middle that is."""

    mesh: Floats
    probability: float
    square: Square


class FaceMesh:
    """The networks, on one thread of the CPU.

    Raises:
        InputError: OpenCV 5 is not installed, or the networks can neither be found nor fetched.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Load the networks of a folder; None: of the cache, to which they are fetched if need be."""
        self._cv2 = opencv(_MISSING)
        if int(self._cv2.__version__.split(".")[0]) < 5:
            raise InputError(_OLD.format(self._cv2.__version__))
        self._folder = folder or fetched(MEDIAPIPE)
        self._near = self._network("face_detection_short_range", ("classificators", "regressors"))
        self._far = self._network("face_detection_full_range", _FAR_OUTPUTS)
        self._mesh = self._network("face_landmark", ("conv2d_20", "conv2d_30"))
        self._eye = self._network("iris_landmark", ("output_eyes_contours_and_brows", "output_iris"))
        self.forget()

    def forget(self) -> None:
        """The next picture has nothing to do with those before."""
        self._square: Square | None = None  # where the face of the picture before was looked for, and will be
        self._eye_squares: list[Square | None] = [None, None]

    def find(self, picture: NDArray[np.uint8], within: Box | None = None) -> Face | None:
        """The face of the picture, (height, width, 3) uint8 RGB; the largest where there are several, None where none.

        Args:
            picture: the one after that of the last call, but for `forget`.
            within: where its middle has to lie; None: anywhere.
        """
        height, width = picture.shape[:2]
        box = within or (0.0, 0.0, float(width), float(height))
        square, found = self._square, None
        if square is not None:
            found = self._look(picture, square, box)
        if found is None:
            self.forget()
            square = self._detect(picture, box)
            # The detector's square is not as tight as the mesh's own, nor does it see a mirror image alike: looking
            # again where the mesh was leads to the same square from either.
            for _ in range(_LOOKS):
                found = None if square is None else self._look(picture, square, box)
                if found is None:
                    break
                square = found.square
        if found is None or square is None:
            self.forget()
            return None
        self._square = square.or_else(found.square)
        mesh, probability = found.mesh, found.probability
        lids, irises = self._eyes(picture, mesh)
        return Face(mesh=mesh, lids=lids, irises=irises, probability=probability)

    def _network(self, name: str, outputs: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
        path = str(self._folder / f"{name}.tflite")
        # The engine that OpenCV 5 takes by itself leaves out one of the detector's outputs.
        return self._cv2.dnn.readNetFromTFLite(path, engine=self._cv2.dnn.ENGINE_CLASSIC), outputs

    def _run(self, network: tuple[Any, tuple[str, ...]], patches: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The outputs for patches (N, side, side, 3), each with N rows."""
        net, outputs = network
        net.setInput(np.ascontiguousarray(patches.transpose(0, 3, 1, 2)))
        return [found.reshape(len(patches), -1) for found in net.forward(outputs)]

    def _patch(self, picture: NDArray[np.uint8], square: Square, side: int, *, black: bool = False) -> Any:
        """A square of a picture as a network takes it, (side, side, 3) float32 from 0 to 1."""
        to_picture = square.to_picture(side)
        # OpenCV counts from the middles of pixels.
        to_picture[:, 2] += to_picture[:, :2] @ np.full(2, 0.5) - 0.5
        border = self._cv2.BORDER_CONSTANT if black else self._cv2.BORDER_REPLICATE
        flags = self._cv2.INTER_LINEAR | self._cv2.WARP_INVERSE_MAP
        patch = self._cv2.warpAffine(picture, to_picture, (side, side), flags=flags, borderMode=border)
        return patch.astype(np.float32) / 255

    def _detect(self, picture: NDArray[np.uint8], box: Box) -> Square | None:
        """The square of the largest face: of those at arm's length, or else of those further away."""
        for network, side, anchors in ((self._near, 128, _NEAR_ANCHORS), (self._far, 192, _FAR_ANCHORS)):
            height, width = picture.shape[:2]
            whole = Square(x=width / 2, y=height / 2, side=max(width, height), angle=0.0)
            shrunk = picture
            if (factor := max(width, height) / side) > 2:  # so that nothing aliases
                size = max(1, round(2 * width / factor)), max(1, round(2 * height / factor))
                shrunk = self._cv2.resize(picture, size, interpolation=self._cv2.INTER_AREA)
            over = shrunk.shape[1] / width
            small = Square(x=shrunk.shape[1] / 2, y=shrunk.shape[0] / 2, side=whole.side * over, angle=0.0)
            patch = 2 * self._patch(shrunk, small, side, black=True) - 1
            scores, boxes = self._run(network, patch[None])
            faces = decoded(scores[0], boxes[0], anchors, side)
            faces = faces * (whole.side / side)
            faces[:, (0, 1, 4, 5, 6, 7)] += np.tile([width / 2 - whole.side / 2, height / 2 - whole.side / 2], 3)
            faces = faces[[_inside(face[0], face[1], box) for face in faces]] if len(faces) else faces
            if len(faces):
                x, y, w, h, left_x, left_y, right_x, right_y = faces[np.argmax(faces[:, 2] * faces[:, 3])]
                angle = math.atan2(right_y - left_y, right_x - left_x)
                return Square(x=x, y=y, side=max(w, h) * _FACE_MARGIN, angle=angle)
        return None

    def _look(self, picture: NDArray[np.uint8], square: Square, box: Box) -> _Found | None:
        """The mesh of the face in a square, and its probability."""
        patch = self._patch(picture, square, _FACE_SIDE)
        points, flags = self._run(self._mesh, np.stack([patch, patch[:, ::-1]]))
        probability = float(1 / (1 + np.exp(-flags.mean().clip(-50, 50))))
        mesh, mirrored = points.reshape(2, MESH, 3).astype(np.float64)
        mirrored[:, 0] = _FACE_SIDE - mirrored[:, 0]
        corners = [(np.array([m[:, :2].min(0), m[:, :2].max(0)])) for m in (mesh, mirrored)]
        low, high = np.mean(corners, axis=0)
        mesh[_SYMMETRIC] = (mesh[_SYMMETRIC] + mirrored[_PARTNERS]) / 2
        placed = _placed(mesh, square, _FACE_SIDE)
        middle = square.to_picture(_FACE_SIDE) @ (*(low + high) / 2, 1)
        if probability < PRESENT or not _inside(middle[0], middle[1], box):
            return None
        (left_x, left_y), (right_x, right_y) = placed[CORNERS[0][0], :2], placed[CORNERS[1][0], :2]
        side = float((high - low).max()) * square.side / _FACE_SIDE * _FACE_MARGIN
        angle = math.atan2(right_y - left_y, right_x - left_x)
        return _Found(placed, probability, Square(x=float(middle[0]), y=float(middle[1]), side=side, angle=angle))

    def _eyes(self, picture: NDArray[np.uint8], mesh: Floats) -> tuple[Floats, Floats]:
        """Lids (2, 71, 2) and irises (2, 5, 2). The network knows one eye; the other is shown to it in a mirror."""
        squares = [_around_eye(mesh, *corners, mirrored=bool(eye)) for eye, corners in enumerate(CORNERS)]
        before = self._eye_squares
        squares = [now if old is None else old.or_else(now) for old, now in zip(before, squares, strict=True)]
        self._eye_squares = [*squares]
        lids, irises = self._run(self._eye, np.stack([self._patch(picture, square, _EYE_SIDE) for square in squares]))
        found = np.concatenate([lids.reshape(2, LIDS, 3), irises.reshape(2, IRIS, 3)], axis=1).astype(np.float64)
        placed = np.stack([_placed(points, square, _EYE_SIDE) for points, square in zip(found, squares, strict=True)])
        return placed[:, :LIDS, :2], placed[:, LIDS:, :2]


def decoded(scores: NDArray[np.float32], boxes: NDArray[np.float32], anchors: Floats, side: int) -> Floats:
    """The faces in a detector's outputs, best first, those that overlap merged by their scores.

    Args:
        scores: (anchors,), logits.
        boxes: (anchors × 16,): centre and size of a box, then six points, in pixels, all but the size from the anchor.
        anchors: (anchors, 2), shares of the side.
        side: of the input, pixels.

    Returns:
        (faces, 8): centre, width and height of each, then both eyes, that at the left of the picture first; pixels.
    """
    score = 1 / (1 + np.exp(-np.clip(scores.astype(np.float64), -80, 80)))
    likely = np.flatnonzero(score >= PRESENT)
    found = boxes.reshape(-1, 16)[likely, :8].astype(np.float64)
    found[:, (0, 1, 4, 5, 6, 7)] += np.tile(anchors[likely] * side, 3)
    likely = likely[(found[:, 2:4] > 0).all(1)]
    found = found[(found[:, 2:4] > 0).all(1)]
    left = list(np.argsort(-score[likely], kind="stable"))
    faces: list[Floats] = []
    while left:
        near = [i for i in left if _overlap(found[left[0]], found[i]) > _OVERLAP]
        weights = score[likely[near]]
        faces.append(weights @ found[near] / weights.sum())
        left = [i for i in left if i not in near]
    return np.array(faces).reshape(-1, 8)


def _overlap(one: Floats, other: Floats) -> float:
    """Intersection over union of two boxes by their centres."""
    near = np.maximum(one[:2] - one[2:4] / 2, other[:2] - other[2:4] / 2)
    far = np.minimum(one[:2] + one[2:4] / 2, other[:2] + other[2:4] / 2)
    shared = float(np.maximum(far - near, 0).prod())
    return shared / float(one[2:4].prod() + other[2:4].prod() - shared)


def _inside(x: float, y: float, box: Box) -> bool:
    return box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]


def _around_eye(mesh: Floats, outer: int, inner: int, *, mirrored: bool) -> Square:
    low, high = np.minimum(mesh[outer, :2], mesh[inner, :2]), np.maximum(mesh[outer, :2], mesh[inner, :2])
    (x, y), side = (low + high) / 2, float((high - low).max()) * _EYE_MARGIN
    left, right = (inner, outer) if mirrored else (outer, inner)
    across = mesh[right, :2] - mesh[left, :2]
    angle = math.atan2(across[1], across[0])
    return Square(x=float(x), y=float(y), side=max(side, 1.0), angle=angle, mirrored=mirrored)


def _placed(points: Floats, square: Square, side: int) -> Floats:
    """Points (N, 3) of a network's input in the picture."""
    to_picture = square.to_picture(side)
    flat = points[:, :2] @ to_picture[:, :2].T + to_picture[:, 2]
    return np.column_stack([flat, points[:, 2] * square.side / side])


def _anchors(*layers: tuple[int, int]) -> Floats:
    """The anchors of a detector, (N, 2): of each layer its cells' middles, row by row, each so many times."""
    middles = []
    for cells, times in layers:
        at = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(at, at, indexing="ij")
        middles.append(np.repeat(np.column_stack([x.ravel(), y.ravel()]), times, axis=0))
    return np.concatenate(middles)


_NEAR_ANCHORS = _anchors((16, 2), (8, 6))
_FAR_ANCHORS = _anchors((48, 1))
_FAR_OUTPUTS = ("reshaped_classifier_face_4", "reshaped_regressor_face_4")

"""From the points of a face to the pose of its head, and where its eyes look: geometry alone.

**Camera.** x runs to the right of the picture, y down, z away from the camera, as in OpenFace's tables. Near the head,
and near each eye, it is taken for a weak perspective along the ray there; directions are turned from that ray into the
camera's own axes. A video does not state its focal length: `assumed_focal` is OpenFace's guess, so that the two
trackers' millimetres and angles err alike.

**Head.** The mesh gives each point's depth too, as large as its x. The head's own axes are anatomical: x from points
of its right half to their partners in the left one, y from the forehead to the chin, z into the head. In these axes
the points that no expression moves have the same places in every picture: their medians over the video, made
symmetrical, are the person's shape, and a picture's pose is the turn, size and shift that lay that shape over its
points best (Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991).

**Millimetres.** The visible iris of adults is 11.7 mm wide, whoever they are (Rüfer, Schröder and Erb, "White-to-white
corneal diameter: normal values in healthy humans obtained with the Orbscan II topography system", 2005: 11.71 ± 0.42
mm). Its widths in all pictures together tell how large the head is; the head's size in one picture tells how far away
it is, with less noise than that picture's irises.

**Eyes.** An eyeball turns around its centre, 6 mm behind the middle of the eye's corners and 0.8 mm above it, and 10.5
mm behind the iris' rim: on a sphere of 12 mm, the eyeball's radius, a circle 11.7 mm across lies so far from the
centre. (6 mm: the cornea's top lies some 7.5 mm before the corners, and the eye turns around a point 13.5 mm behind
it. 0.8 mm: the median of ten talking heads that look into the camera.) Where the iris is seen beside the place where
the centre must be, the eye looks to that side: the sine of the angle is the distance over 10.5 mm. People differ by a
millimetre, which shifts all angles of a video by up to 5 degrees; what changes within a video does not suffer from
that. Healthy eyes turn together, so that what one of them is turned further in the median over the video is taken for
such a difference, and taken away from both by halves.

The networks of the mesh and of the eyes err in their own ways from picture to picture. Where an eye's corners jump in
one and not in the other, the iris jumps with those of its own network: as far as it does so, by least squares over the
video, such jumps (what differs from the median over 0.4 s) are taken away.

**Lids.** How far they are apart is measured along the head's y axis and held against the same eyes when open, the 80th
percentile over the video (Soukupová and Čech, "Real-Time Eye Blink Detection using Facial Landmarks", 2016, hold it
against the eye's width, which does not know how narrow somebody's eyes are).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

IRIS_MM = 11.7  #: across
CENTRE_TO_IRIS_MM = 10.5  #: from an eyeball's centre to the plane of its iris' rim
CENTRE_MM = (0.0, -0.8, 6.0)  #: from the middle of an eye's corners to the eyeball's centre, along the head's axes
CLOSED = 0.55  #: of the lids' distance when open: closer, an eye is closed
MOST_INTENSITY = 5.0  #: of a blink, as of OpenFace's action units

#: Points of the mesh that move with the skull alone: on the middle line, and pairs, the right half's first.
MIDLINE = (10, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1)
PAIRS = (
    *((33, 263), (133, 362), (234, 454), (127, 356), (162, 389), (21, 251), (54, 284), (103, 332), (67, 297)),
    *((109, 338), (93, 323), (116, 345), (129, 358), (98, 327), (122, 351), (188, 412)),
)
_FOREHEAD, CHIN = 10, 152
_RIGID = np.array([*MIDLINE, *(right for right, _ in PAIRS), *(left for _, left in PAIRS)])
_PARTNER = np.concatenate([np.arange(len(MIDLINE)), np.roll(np.arange(2 * len(PAIRS)), -len(PAIRS)) + len(MIDLINE)])
_CORNERS = np.array([(33, 133), (263, 362)])  # outer, inner; of the head's right eye first
#: Of the iris network's lids: points of the lower lid, and those of the upper one above them, about the eye's middle.
_LOWER, _UPPER = (3, 4, 5), (11, 12, 13)
_LID_CORNERS = (0, 8)
_OPEN_PERCENTILE = 80
_JUMP = 0.4  # seconds
_BY_CHANCE = 4.0  # standard errors: a share of jumps that is less is taken for none
_STEADY = math.radians(30)  # a head turned further hides a part of one eye
_MOST_SINE = 0.95  # an iris that is seen further away is looked for wrongly


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A pinhole, all in pixels."""

    focal: float
    centre_x: float
    centre_y: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Eyes:
    """What the eyes of a video's head do, each row a picture; those of the head's right come first, left in a picture.

    rotation: (N, 3, 3) from the head's axes to the camera's.
    position: (N, 3) of the head's middle, millimetres from the camera.
    gaze: (N, 2, 3) unit vectors of each eye's look, in the camera's axes; towards the camera is −z.
    outer: (N, 2, 3) outer corners, millimetres.
    iris: (N, 2, 3) centres of the irises, millimetres.
    openness: (N,) of the lids, over what it is when they are open; 0 closed, about 1 open.
    pixels: (N,) that a millimetre is wide at the head.
    """

    rotation: Floats
    position: Floats
    gaze: Floats
    outer: Floats
    iris: Floats
    openness: Floats
    pixels: Floats

    @property
    def angles(self) -> Floats:
        """(N, 2): of both eyes' mean look, radians from the camera's axis to the right of the picture, and down."""
        return angles(self.gaze.mean(axis=1))

    @property
    def blink(self) -> Floats:
        """(N,): how far the lids are from open, 0 to 5."""
        return MOST_INTENSITY * np.clip((1 - self.openness) / (1 - _SHUT), 0, 1)

    @property
    def closed(self) -> NDArray[np.bool_]:
        """(N,): whether the eyes are closed."""
        return np.asarray(self.openness < CLOSED)


_SHUT = 0.2  # the network draws two lids even where they touch


def assumed_focal(width: int, height: int) -> float:
    """Of a camera of which nothing is known, pixels: that of OpenFace, a webcam's."""
    return (500 * width / 640 + 500 * height / 480) / 2


def angles(gaze: Floats) -> Floats:
    """Of vectors (…, 3), as OpenFace gives them: (…, 2), radians to the right of the picture, and down."""
    return np.stack([np.arctan2(gaze[..., 0], -gaze[..., 2]), np.arctan2(gaze[..., 1], -gaze[..., 2])], axis=-1)


def eyes(mesh: Floats, lids: Floats, irises: Floats, camera: Camera, fps: float) -> Eyes:
    """What the eyes do, from the points of one person's face in the pictures of a video.

    Args:
        mesh: (N, 468, 3), N ≥ 1: pixels, see `sharding.gaze.face_mesh.Face`.
        lids: (N, 2, 71, 2).
        irises: (N, 2, 5, 2).
        camera: that took them.
        fps: pictures a second.
    """
    rigid = mesh[:, _RIGID]
    middle = rigid.mean(axis=1, keepdims=True)
    size = np.sqrt(((rigid - middle) ** 2).sum(axis=-1).mean(axis=-1))
    axes = _anatomical(mesh)
    shape = np.median(((rigid - middle) @ axes) / size[:, None, None], axis=0)
    shape = (shape + shape[_PARTNER] * (-1, 1, 1)) / 2
    turn, scale, shift = _laid(shape, rigid)

    # The corners of the eyes, in units of the shape, and then how large such a unit is.
    corners = ((mesh[:, _CORNERS] - shift[:, None, None]) @ turn[:, None]) / scale[:, None, None, None]
    corner = np.median(corners, axis=0)
    corner = (corner + corner[::-1] * (-1, 1, 1)) / 2
    across = np.linalg.norm(irises[:, :, 1] - irises[:, :, 3], axis=-1)
    upright = np.linalg.norm(irises[:, :, 2] - irises[:, :, 4], axis=-1)
    middles = shift[:, None, :2] + scale[:, None, None] * (corner.mean(axis=1) @ turn.transpose(0, 2, 1))[..., :2]
    beside = irises.mean(axis=2) - middles
    beside = beside - _jumps(lids[:, :, _LID_CORNERS].mean(axis=2) - middles, beside, max(1, round(_JUMP * fps / 2)))
    # The mesh's network has no idea of the camera: it sees a face as if that were in the middle of what it is given.
    to_camera = _along(_rays((mesh[..., :2].min(axis=1) + mesh[..., :2].max(axis=1)) / 2, camera))
    rotation = to_camera @ turn
    to_eyes = _along(_rays(middles.reshape(-1, 2), camera)).reshape(-1, 2, 3, 3)
    from_eyes = (
        to_eyes.transpose(0, 1, 3, 2) @ rotation[:, None]
    )  # the head's turns, each as it is seen from an eye's ray
    narrowed = np.ones((*across.shape, 2))
    for _ in range(2):  # a look to the side narrows the iris, and how far it is to the side its width must tell
        width = (across / narrowed[..., 0] + upright / narrowed[..., 1]) / 2
        unit = IRIS_MM * float(np.median(scale[:, None] / width))  # millimetres to a unit of the shape
        pixels = scale / unit
        sine = (beside / pixels[:, None, None] - (from_eyes @ CENTRE_MM)[..., :2]) / CENTRE_TO_IRIS_MM
        openness = _openness(lids, pixels, turn)
        sine = sine - _squint(sine, turn, openness)
        length = np.linalg.norm(sine, axis=-1, keepdims=True)
        sine = sine * np.minimum(1, _MOST_SINE / np.maximum(length, 1e-9))
        narrowed = np.sqrt(1 - sine**2)
    apparent = np.concatenate([sine, -np.sqrt(1 - (sine**2).sum(axis=-1, keepdims=True))], axis=-1)
    gaze = (to_eyes @ apparent[..., None])[..., 0]

    position = _rays(shift[:, :2], camera) * (camera.focal / pixels)[:, None]
    placed = position[:, None] + unit * corner[:, 0] @ rotation.transpose(0, 2, 1)
    eyeball = position[:, None] + (unit * corner.mean(axis=1) + CENTRE_MM) @ rotation.transpose(0, 2, 1)
    return Eyes(
        rotation=rotation,
        position=position,
        gaze=gaze,
        outer=placed,
        iris=eyeball + CENTRE_TO_IRIS_MM * gaze,
        openness=openness,
        pixels=pixels,
    )


def _jumps(corners: Floats, irises: Floats, reach: int) -> Floats:
    """What the places of irises (N, 2, 2) have of the jumps of their network's corners (N, 2, 2)."""
    quick, also = corners - _median(corners, reach), irises - _median(irises, reach)
    power = max(float((quick**2).sum()), 1e-9)
    share = float((quick * also).sum() / power)
    left = float(((also - share * quick) ** 2).sum())
    if share**2 * power * quick.size <= _BY_CHANCE**2 * left:  # a look that jumps may happen to do so with the noise
        return np.zeros_like(quick)
    return min(max(share, 0.0), 1.0) * quick


def _median(values: Floats, reach: int) -> Floats:
    """Of each row and as many before and after it, where the first and the last go on."""
    padded = np.concatenate([np.repeat(values[:1], reach, 0), values, np.repeat(values[-1:], reach, 0)])
    found: Floats = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0), axis=-1)
    return found


def _squint(sine: Floats, turn: Floats, openness: Floats) -> Floats:
    """By how much each eye's look (N, 2, 2) differs from both eyes' mean, in the median over the video."""
    ahead = (np.abs(euler(turn)[:, :2]) < _STEADY).all(axis=1) & (openness > CLOSED)
    ahead = ahead if ahead.any() else np.ones_like(ahead)
    apart = (np.linalg.inv(turn[:, :2, :2]) @ (sine[:, 1] - sine[:, 0])[..., None])[ahead]  # along the head's axes
    half = (turn[:, :2, :2] @ np.median(apart, axis=0) / 2)[..., 0]
    return np.stack([-half, half], axis=1)


def _openness(lids: Floats, pixels: Floats, turn: Floats) -> Floats:
    """Of both eyes, (N,), over what is usual when they are open."""
    apart = (lids[:, :, _LOWER] - lids[:, :, _UPPER]).mean(axis=2) / pixels[:, None, None]
    down = turn[:, :2, 1]  # the head's y axis, as it is seen
    along = np.maximum((apart * down[:, None]).sum(axis=-1), 0) / (down**2).sum(axis=-1)[:, None].clip(0.25)
    openness = along.mean(axis=1)
    return np.asarray(openness / max(float(np.percentile(openness, _OPEN_PERCENTILE)), 1e-6))


def _anatomical(mesh: Floats) -> Floats:
    """The head's axes in each picture, (N, 3, 3), as columns."""
    pairs = np.array(PAIRS)
    across = (mesh[:, pairs[:, 1]] - mesh[:, pairs[:, 0]]).sum(axis=1)
    down = mesh[:, CHIN] - mesh[:, _FOREHEAD]
    x = across / np.linalg.norm(across, axis=-1, keepdims=True)
    y = down - (down * x).sum(axis=-1, keepdims=True) * x
    y = y / np.linalg.norm(y, axis=-1, keepdims=True)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def _laid(shape: Floats, points: Floats) -> tuple[Floats, Floats, Floats]:
    """What turn (N, 3, 3), size (N,) and shift (N, 3) lay a shape (K, 3) over points (N, K, 3) best."""
    middle, centred = points.mean(axis=1), shape - shape.mean(axis=0)
    u, stretch, v = np.linalg.svd((points - middle[:, None]).transpose(0, 2, 1) @ centred)
    sign = np.ones((len(points), 3))
    sign[:, 2] = np.sign(np.linalg.det(u @ v))
    turn = (u * sign[:, None]) @ v
    scale = (stretch * sign).sum(axis=-1) / (centred**2).sum()
    return turn, scale, middle - scale[:, None] * (shape.mean(axis=0) @ turn.transpose(0, 2, 1))


def _rays(at: Floats, camera: Camera) -> Floats:
    """From the camera to pixels (N, 2): (N, 3), the last of which is 1."""
    aside = (at - (camera.centre_x, camera.centre_y)) / camera.focal
    return np.column_stack([aside, np.ones(len(at))])


def _along(ray: Floats) -> Floats:
    """The smallest turns (N, 3, 3) of the camera's axis to rays (N, 3) (Rodrigues)."""
    unit = ray / np.linalg.norm(ray, axis=-1, keepdims=True)
    x, y, z = unit.T
    zero = np.zeros_like(x)
    skew = np.stack([zero, zero, x, zero, zero, y, -x, -y, zero], axis=-1).reshape(-1, 3, 3)
    return np.asarray(np.eye(3) + skew + skew @ skew / (1 + z)[:, None, None])


def euler(rotation: Floats) -> Floats:
    """Pitch, yaw and roll in radians, (N, 3), of turns (N, 3, 3) = X(pitch) · Y(yaw) · Z(roll), as OpenFace's."""
    yaw = np.arcsin(np.clip(rotation[:, 0, 2], -1, 1))
    pitch = np.arctan2(-rotation[:, 1, 2], rotation[:, 2, 2])
    roll = np.arctan2(-rotation[:, 0, 1], rotation[:, 0, 0])
    return np.stack([pitch, yaw, roll], axis=-1)

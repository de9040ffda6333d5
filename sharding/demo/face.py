"""How the demo's people look: flat shapes, drawn at twice the size and averaged down, so that edges are smooth.

A picture is a list of `Shape`s in painting order. All outlines are computed for all frames at once; what is left to
do for each frame is to fill polygons. Lengths are in head units: the origin is the middle of the head, y points down
and 1 is the side of the frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sharding.demo.acting import Person, Scene, Take, Track

Colour: TypeAlias = tuple[float, float, float]

_OVERSAMPLING = 2
_HEAD_HEIGHT = 0.27  # half of it
_ACROSS = np.linspace(-1, 1, 11)

#: Hair from cool to warm, for `Person.hair_warmth`; skin tones and eye colours, for traits that go with nothing.
_HAIR = ((52, 60, 150), (46, 118, 168), (86, 160, 142), (196, 178, 92), (222, 132, 48), (176, 48, 38))
_SKIN = ((255, 224, 200), (240, 196, 160), (214, 160, 120), (170, 116, 80), (124, 82, 58))
_RED, _PALE = (235, 80, 70), (225, 225, 210)
_IRIS = ((70, 110, 160), (80, 130, 90), (120, 90, 50), (60, 45, 40))


@dataclass(frozen=True, slots=True)
class Shape:
    """A filled polygon that may move: `outline` is (frames or 1, corners, 2) in frame sides."""

    colour: tuple[int, int, int]
    outline: Track


def head_half_width(person: Person) -> float:
    """Half the head's width in frame sides: from 0.165 (narrow) to 0.275 (wide)."""
    return 0.165 + 0.11 * person.width


def film(person: Person, scene: Scene, take: Take, *, size: int) -> Iterator[NDArray[np.uint8]]:
    """The frames of a take, (size, size, 3) RGB each."""
    side = size * _OVERSAMPLING
    wall = _wall(scene, side)
    shapes = [
        (shape.colour, (shape.outline.reshape(len(shape.outline), -1) * side).tolist())
        for shape in portrait(person, scene, take)
    ]
    for frame in range(len(take.closure)):
        picture = wall.copy()
        brush = ImageDraw.Draw(picture)
        for colour, outlines in shapes:
            brush.polygon(outlines[frame % len(outlines)], fill=colour)
        yield np.asarray(picture.reduce(_OVERSAMPLING))


def portrait(person: Person, scene: Scene, take: Take) -> list[Shape]:
    """All that is painted on the wall, from back to front."""
    light = np.array(scene.light)

    def lit(colour: Colour) -> tuple[int, int, int]:
        red, green, blue = np.clip(np.array(colour) * light, 0, 255).astype(int).tolist()
        return red, green, blue

    body = _Body(person, scene, take)
    return [Shape(lit(colour), outline) for colour, outline in (*body.behind(), *body.head(), *body.features())]


class _Body:
    """The shapes of one person in one take, each as (colour, outline)."""

    def __init__(self, person: Person, scene: Scene, take: Take) -> None:
        self.person, self.scene, self.take = person, scene, take
        self.a, self.b = head_half_width(person), _HEAD_HEIGHT
        self.hair = _ramp(_HAIR, person.hair_warmth)
        self.skin = _blend(
            _ramp(_SKIN, person.skin), _RED if take.flush > 0 else _PALE, min(abs(take.flush), 1.0) * 0.45
        )
        self.shirt = _times(scene.shirt, 255)

    def behind(self) -> Iterator[tuple[Colour, Track]]:
        """Shirt, the hair that falls behind, and the neck."""
        a, b = self.a, self.b
        shoulder = 0.28 + 0.5 * a
        yield self.shirt, self._torso(_oval(0, 0.70, shoulder, 0.34, power=0.8, corners=36))
        if self.scene.stripes:
            for y in (0.40, 0.45):
                ends = shoulder * (1 - ((0.70 - np.array((y, y + 0.022))) / 0.34) ** 2.5) ** 0.4
                band = np.array([(-ends[0], y), (ends[0], y), (ends[1], y + 0.022), (-ends[1], y + 0.022)])
                yield _times(self.shirt, 0.8), self._torso(band)
        fall = -0.02 + 0.44 * self.person.hair_length
        back = _hair_behind(1.10 * a + 0.035 * self.person.hair_length, 1.08 * b, fall)
        yield _times(self.hair, 0.78), self._pose(back)
        half = 0.06 + 0.18 * a
        neck = np.array([(-half, 0.1), (half, 0.1), (1.1 * half, 0.375), (0, 0.43), (-1.1 * half, 0.375)])
        yield _times(self.skin, 0.88), self._torso(neck)
        shadow = np.array([(-half, 0.22), (half, 0.22), (half, 0.275), (0.5 * half, 0.31), (-half, 0.285)])
        yield _times(self.skin, 0.74), self._torso(shadow)

    def head(self) -> Iterator[tuple[Colour, Track]]:
        """Ears, head and the hair above the forehead."""
        a, b, person = self.a, self.b, self.person
        for side in (-1, 1):
            yield _times(self.skin, 0.94), self._pose(_oval(side * a * 0.98, 0.02, 0.035, 0.055))
        yield self.skin, self._pose(_jaw(a, b))
        for side in (-1, 1):
            blush = _blend(self.skin, (235, 90, 90), 0.16 + 0.14 * max(self.take.face.smile, 0))
            yield blush, self._feature(_oval(side * 0.58 * a, 0.085, 0.20 * a, 0.03))
        part = (person.parting - 0.5) * 1.2
        yield self.hair, self._pose(_fringe(a, b, part, 0.07 + 0.06 * person.fringe))
        shine = np.concatenate([_arc(0.86 * a, 0.97 * b, -2.35, -1.75), _arc(0.80 * a, 0.89 * b, -1.75, -2.35)])
        yield _blend(self.hair, (255, 255, 255), 0.28), self._pose(shine)

    def features(self) -> Iterator[tuple[Colour, Track]]:
        """Everything that acts: eyes, brows, nose, mouth; then what is worn on top."""
        for side in (-1, 1):
            yield from self._eye(side)
        nose = 0.022 + 0.014 * self.person.nose
        yield _times(self.skin, 0.80), self._feature(_oval(0.006, 0.07, nose, 0.75 * nose))
        yield _times(self.skin, 0.95), self._feature(_oval(0.0, 0.062, nose * 0.9, 0.7 * nose))
        if self.person.freckles:
            for x, y in ((-0.5, 0.05), (-0.38, 0.075), (-0.62, 0.08), (0.5, 0.05), (0.38, 0.075), (0.62, 0.08)):
                yield _times(self.skin, 0.78), self._feature(_oval(x * self.a, y, 0.006, 0.006, corners=8))
        yield from self._mouth()
        if self.person.glasses:
            for side in (-1, 1):
                rim = _oval(side * self._eye_x, -0.02, 0.078, 0.07, corners=28)
                hole = _oval(side * self._eye_x, -0.02, 0.069, 0.061, corners=28)
                yield (50, 46, 52), self._feature(np.concatenate([rim, rim[:1], hole[:1], hole[::-1]]))
            bridge = np.array([(-1, -0.03), (1, -0.03), (1, -0.02), (-1, -0.02)]) * (self._eye_x - 0.075, 1)
            yield (50, 46, 52), self._feature(bridge)

    @property
    def _eye_x(self) -> float:
        return 0.40 * self.a + 0.012

    def _eye(self, side: int) -> Iterator[tuple[Colour, Track]]:
        face, take = self.take.face, self.take
        x, y, rx, ry = side * self._eye_x, -0.02, 0.056, 0.054
        opening = float(np.clip(0.74 + 0.30 * face.eyes, 0.30, 1.05))
        yield (250, 250, 250), self._feature(_oval(x, y, rx, ry * max(opening, 0.85)))
        gaze = np.sin(np.stack([take.gaze[:, 0] - take.turn, take.gaze[:, 1]], axis=1)) * (0.070, 0.060)
        look = np.stack([x + gaze[:, 0], y + 0.008 + gaze[:, 1]], axis=1)[:, None]
        yield _ramp(_IRIS, self.person.eyes), self._feature(look + _oval(0, 0, 0.033, 0.034))
        pupil = (take.pupil / 4 * 0.016)[:, None, None]
        yield (15, 15, 20), self._feature(look + pupil * _oval(0, 0, 1, 1))
        yield (255, 255, 255), self._feature(look + _oval(-0.010, -0.012, 0.007, 0.007, corners=10))

        # The lids hide what of the ball is not open: from above most of it, from below a little.
        open_now = opening * (1 - take.closure)
        slant = 0.25 * np.clip(face.brow_slant, -1.2, 1.2) * side
        curve = (1 - _ACROSS**2) ** 0.5
        top = y + ry * (0.30 - 1.25 * open_now[:, None] * curve - slant * _ACROSS * (1 - curve * 0.3) * 0.5)
        bottom = y + ry * (0.30 + 0.62 * curve * (0.6 + 0.4 * open_now[:, None]))
        top = np.minimum(top, bottom)
        ball = y - 1.22 * ry * np.maximum(curve, 0.12)
        under = y + 1.22 * ry * np.maximum(curve, 0.12)
        xs = x + 1.10 * rx * _ACROSS
        yield _times(self.skin, 0.91), self._feature(_between(xs, ball, top))
        yield _times(self.skin, 0.97), self._feature(_between(xs, bottom, under))
        yield (40, 30, 35), self._feature(_between(xs, top - 0.004, top + 0.009))

        lift = 0.045 * np.clip(face.brow_raise, -1.2, 1.6) + 0.012 * side * face.sneer
        lean = 0.050 * np.clip(face.brow_slant, -1.3, 1.3)
        inward = -side * _ACROSS  # 1 at the end next to the nose
        middle = -0.108 - lift - lean * inward - 0.012 * (1 - _ACROSS**2)
        thick = 0.012 + 0.004 * inward
        yield _times(self.hair, 0.6), self._feature(_between(x + 0.066 * _ACROSS, middle - thick, middle + thick))

    def _mouth(self) -> Iterator[tuple[Colour, Track]]:
        take, smile = self.take, float(np.clip(self.take.face.smile, -1.4, 1.4))
        wide = (0.075 + 0.10 * self.a) * (1 + 0.22 * take.mouth_spread + 0.18 * smile)[:, None]
        hollow = (1 - _ACROSS**2)[None]
        middle = 0.158 + 0.055 * smile * (hollow - 0.55) + 0.022 * take.face.sneer * _ACROSS
        gape = take.mouth_open[:, None] * hollow**0.7
        upper, lower = middle - 0.022 * gape, middle + 0.003 + 0.085 * gape
        xs = wide * _ACROSS
        lip = 0.010 * hollow**0.5 + 0.004
        yield _blend(_times(self.skin, 0.9), (200, 60, 70), 0.55), self._feature(_between(xs, upper - lip, lower + lip))
        yield (70, 20, 28), self._feature(_between(xs, upper, lower))
        height = lower - upper
        yield (245, 242, 235), self._feature(_between(0.86 * xs, upper, upper + np.minimum(0.018, 0.45 * height)))
        tongue = np.minimum(0.03, 0.4 * height) * hollow
        yield (205, 90, 95), self._feature(_between(0.7 * xs, lower - tongue, lower))

    def _feature(self, points: Track) -> Track:
        """Points on the face, which slide as the head turns, in the picture."""
        moved = np.broadcast_to(points, (len(self.take.turn), *points.shape[-2:])).copy()
        moved[..., 0] += 0.18 * np.sin(self.take.turn)[:, None]
        return self._pose(moved)

    def _pose(self, points: Track) -> Track:
        """Points of the head in the picture: rolled about the neck, moved, and nearer or farther."""
        cos, sin = np.cos(self.take.roll)[:, None], np.sin(self.take.roll)[:, None]
        x, y = points[..., 0], points[..., 1] - 0.25
        rolled = np.stack([cos * x - sin * y, sin * x + cos * y + 0.25], axis=-1)
        return self._place(rolled, self.take.sway)

    def _torso(self, points: Track) -> Track:
        """Points of the body, which follow the head a little."""
        return self._place(np.broadcast_to(points, (len(self.take.turn), *points.shape)), 0.4 * self.take.sway)

    def _place(self, points: Track, sway: Track) -> Track:
        zoom = (self.scene.zoom * 450 / self.take.distance)[:, None, None]
        placed: Track = points * zoom + sway[:, None] + np.array(self.scene.place) + (0.5, 0.47)
        return placed


def _wall(scene: Scene, side: int) -> Image.Image:
    """A wall that is a little brighter on one side, in the scene's light."""
    colour = np.array(scene.wall) * np.array(scene.light) * 255
    slope = np.linspace(1.06, 0.88, side)[:, None, None] * np.linspace(1.02, 0.96, side)[None, :, None]
    return Image.fromarray(np.clip(colour * slope, 0, 255).astype(np.uint8))


def _oval(x: float, y: float, rx: float, ry: float, power: float = 1.0, corners: int = 20) -> Track:
    """(corners, 2): an ellipse; with a power under 1 its corners fill out."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    cos, sin = np.cos(angle), np.sin(angle)
    shape = np.stack([np.sign(cos) * np.abs(cos) ** power, np.sign(sin) * np.abs(sin) ** power], axis=1)
    points: Track = shape * (rx, ry) + (x, y)
    return points


def _arc(rx: float, ry: float, start: float, end: float) -> Track:
    angle = np.linspace(start, end, 12)
    return np.stack([rx * np.cos(angle), ry * np.sin(angle)], axis=1)


def _jaw(a: float, b: float) -> Track:
    """The head: an oval whose lower half narrows to the chin."""
    points = _oval(0, 0, a, b, power=0.9, corners=36)
    points[:, 0] *= 1 - 0.16 * np.clip(points[:, 1] / b, 0, 1) ** 1.5
    return points


def _hair_behind(a: float, b: float, fall: float) -> Track:
    """A helmet of hair down to `fall`, with round lower corners."""
    corner = min(0.05, 0.4 * a)
    right = np.array([(a, fall - corner), (a - 0.3 * corner, fall - 0.3 * corner), (a - corner, fall)])
    return np.concatenate([_arc(a, b, -np.pi, 0), right, right[::-1] * (-1, 1)])


def _fringe(a: float, b: float, part: float, depth: float) -> Track:
    """Hair over the forehead: the scalp's outline, and back along two curves that meet at the parting."""
    across = np.linspace(1, -1, 17)
    hairline = -b * 0.93 + depth + 0.16 * np.abs(across - part) ** 1.6 * 0.55
    under = np.stack([a * 0.97 * across, np.minimum(hairline, -0.02)], axis=1)
    return np.concatenate([_arc(1.06 * a, 1.07 * b, -np.pi * 1.02, np.pi * 0.02), under])


def _between(xs: Track, top: Track, bottom: Track) -> Track:
    """(frames, 2 k, 2): the area between two curves over the same k abscissae."""
    xs, top, bottom = np.broadcast_arrays(np.atleast_2d(xs), np.atleast_2d(top), np.atleast_2d(bottom))
    there, back = np.stack([xs, top], axis=-1), np.stack([xs, bottom], axis=-1)[:, ::-1]
    return np.concatenate([there, back], axis=1)


def _ramp(colours: tuple[Colour, ...], at: float) -> Colour:
    """The colour at 0..1 of the way along a list of colours."""
    places = np.linspace(0, 1, len(colours))
    red, green, blue = (float(np.interp(at, places, [colour[n] for colour in colours])) for n in range(3))
    return red, green, blue


def _blend(colour: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (np.array(colour) * (1 - share) + np.array(other) * share).tolist()
    return red, green, blue


def _times(colour: Colour, factor: float) -> Colour:
    red, green, blue = (factor * part for part in colour)
    return red, green, blue

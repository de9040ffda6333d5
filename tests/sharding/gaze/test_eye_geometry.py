"""A head of known anatomy, turned and looking about before a camera of known focal length: what is found of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from sharding.gaze.eye_geometry import Camera, Eyes, angles, assumed_focal, euler, eyes

Floats = NDArray[np.float64]

WIDTH, HEIGHT, FPS = 640, 480, 25.0
CAMERA = Camera(focal=assumed_focal(WIDTH, HEIGHT), centre_x=WIDTH / 2, centre_y=HEIGHT / 2)
IRIS_RADIUS, EYEBALL_RADIUS = 5.85, 12.0

# Where some points of a face mesh are on an adult's head, millimetres along its axes: to its left, down, inwards.
MIDDLE = {
    10: (0, -82, -43),
    151: (0, -65, -50),
    9: (0, -48, -53),
    8: (0, -37, -54),
    168: (0, -27, -55),
    6: (0, -18, -58),
    197: (0, -6, -64),
    195: (0, 3, -70),
    5: (0, 11, -74),
    4: (0, 19, -75),
    1: (0, 26, -72),
    152: (0, 94, -43),
}
RIGHT = {
    33: (-44.5, -26.5, -31.5),
    133: (-18.5, -26, -37.5),
    234: (-75, -6, 20),
    127: (-74, -27, 18),
    162: (-71, -46, 14),
    21: (-63, -60, 3),
    54: (-53, -70, -10),
    103: (-42, -77, -25),
    67: (-29, -80, -34),
    109: (-14, -82, -41),
    93: (-73, 18, 20),
    116: (-61, -8, -20),
    129: (-17, 21, -52),
    98: (-12, 26, -53),
    122: (-11, -16, -45),
    188: (-14, -4, -46),
}
PARTNER = {
    33: 263,
    133: 362,
    234: 454,
    127: 356,
    162: 389,
    21: 251,
    54: 284,
    103: 332,
    67: 297,
    109: 338,
    93: 323,
    116: 345,
    129: 358,
    98: 327,
    122: 351,
    188: 412,
}
RIGHT_EYE_PARTS = ((33, 133), (263, 362))


@dataclass(frozen=True)
class Film:
    """What networks would see of a head, and what it did."""

    mesh: Floats
    lids: Floats
    irises: Floats
    gaze: Floats  #: (N, 2, 3) in the camera's axes
    rotation: Floats  #: (N, 3, 3)
    position: Floats  #: (N, 3)
    opened: Floats  #: (N,)

    def seen(self, camera: Camera = CAMERA) -> Eyes:
        """What is found of it."""
        return eyes(self.mesh, self.lids, self.irises, camera, FPS)


def turned(pitch: Floats, yaw: Floats, roll: Floats) -> Floats:
    """X(pitch) · Y(yaw) · Z(roll), (N, 3, 3)."""
    one, zero = np.ones_like(pitch), np.zeros_like(pitch)
    c, s = np.cos, np.sin
    x = np.stack([one, zero, zero, zero, c(pitch), -s(pitch), zero, s(pitch), c(pitch)], -1).reshape(-1, 3, 3)
    y = np.stack([c(yaw), zero, s(yaw), zero, one, zero, -s(yaw), zero, c(yaw)], -1).reshape(-1, 3, 3)
    z = np.stack([c(roll), -s(roll), zero, s(roll), c(roll), zero, zero, zero, one], -1).reshape(-1, 3, 3)
    product: Floats = x @ y @ z
    return product


def film(
    seed: int,
    *,
    pictures: int = 60,
    noise: float = 1.0,
    most: float = 30.0,
    anatomy: float = 0.0,
    still: bool = False,
    camera: Camera = CAMERA,
) -> Film:
    """A person whose face is not the mean one, who turns the head up to ``most`` degrees and looks within 25 of it, or
    keeps still before the camera.

    Depth is along the ray to the head: the mesh's network sees the face in the middle of what it is given.
    """
    rng = np.random.default_rng(seed)
    mesh = np.tile((0.0, 26, -72), (468, 1))
    for point, place in MIDDLE.items():
        mesh[point] = np.array(place) + rng.normal(0, (0, 2, 2))
    for point, place in RIGHT.items():
        mesh[point] = np.array(place) + rng.normal(0, 2, 3)
        mesh[PARTNER[point]] = mesh[point] * (-1, 1, 1)
    corner = mesh[np.array(RIGHT_EYE_PARTS)].mean(axis=1)
    centre = corner + (0.0, -0.8, 6.0) + anatomy * rng.normal(0, (0.3, 0.3, 0.5))

    turns = 0.0 if still else 1.0
    angle = np.radians(most) * turns
    rotation = turned(*rng.uniform(-angle, angle, (2, pictures)), rng.uniform(-angle / 3, angle / 3, pictures))
    position = np.column_stack(
        [turns * rng.uniform(-60, 60, (pictures, 2)), 550 + turns * rng.uniform(-100, 100, pictures)]
    )
    look = np.radians(rng.uniform(-25, 25, (pictures, 2)) * turns)
    own = np.stack([np.sin(look[:, 0]), np.sin(look[:, 1]), np.zeros(pictures)], -1)
    own[:, 2] = -np.sqrt(1 - (own**2).sum(-1))
    gaze = (rotation @ own[..., None])[..., 0]

    def projected(points: Floats) -> Floats:
        """(N, …, 3) millimetres before the camera to pixels."""
        return points[..., :2] / points[..., 2:] * camera.focal + (camera.centre_x, camera.centre_y)

    def placed(points: Floats) -> Floats:
        return points @ rotation.transpose(0, 2, 1) + position[:, None]

    face = placed(np.broadcast_to(mesh, (pictures, 468, 3)))
    ray = position / np.linalg.norm(position, axis=-1, keepdims=True)
    depth = ((face - position[:, None]) @ ray[..., None])[..., 0] * camera.focal / position[:, None, 2]
    flat = np.concatenate([projected(face), depth[..., None]], axis=-1)
    towards = np.sqrt(EYEBALL_RADIUS**2 - IRIS_RADIUS**2)
    middle = placed(np.broadcast_to(centre, (pictures, 2, 3))) + towards * gaze[:, None]
    side = np.cross(gaze, np.broadcast_to((0.0, 1.0, 0.0), gaze.shape))
    side /= np.linalg.norm(side, axis=-1, keepdims=True)
    over = np.cross(side, gaze)
    rim = [middle, *(middle + IRIS_RADIUS * way[:, None] for way in (-side, -over, side, over))]
    irises = projected(np.stack(rim, axis=2))
    opened = np.ones(pictures) if still else rng.uniform(0.9, 1.1, pictures)
    if not still:
        opened[::6] = 0.1
    lids = np.zeros((pictures, 2, 71, 3))
    for eye, (outer, inner) in enumerate(RIGHT_EYE_PARTS):
        at = np.linspace(0, 1, 9)[:, None]
        line = mesh[outer] * (1 - at) + mesh[inner] * at
        arch = 5 * np.sin(np.pi * at[:, 0]) * opened[:, None]
        for points, edge, sign in ((slice(0, 9), slice(0, 9), 1), (slice(9, 16), slice(1, 8), -1)):
            lid = np.broadcast_to(line[edge], (pictures, len(line[edge]), 3)).copy()
            lid[..., 1] += sign * arch[:, edge]
            lids[:, eye, points] = placed(lid)
    lids[:, :, 16:] = lids[:, :, :1]

    def noisy(values: Floats) -> Floats:
        noisy: Floats = values + rng.normal(0, noise, values.shape) if noise else values
        return noisy

    both = np.broadcast_to(gaze[:, None], (pictures, 2, 3))
    return Film(noisy(flat), noisy(projected(lids)), noisy(irises), both, rotation, position, opened)


def apart(one: Floats, other: Floats) -> Floats:
    """Degrees between vectors."""
    cosine = (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def found_within(camera: Camera, *, anatomy: float, noise: float) -> float:
    """Degrees between both eyes' mean look and what is found of it, in the median over the pictures of 20 people."""
    errors = []
    for seed in range(20):
        took = film(seed, anatomy=anatomy, noise=noise, camera=camera)
        errors.append(apart(took.seen(camera).gaze.mean(1), took.gaze.mean(1)))
    return float(np.median(np.concatenate(errors)))


class TestGaze:
    def test_is_found_within_three_degrees_through_a_pixel_of_noise(self) -> None:
        assert found_within(CAMERA, anatomy=0, noise=1) <= 3.0

    def test_of_people_whose_eyes_lie_elsewhere_a_bias_is_added(self) -> None:
        larger = Camera(focal=2 * CAMERA.focal, centre_x=WIDTH, centre_y=HEIGHT)
        assert found_within(larger, anatomy=1, noise=1) <= 4.0

    def test_without_noise_what_is_left_is_the_weak_perspective(self) -> None:
        assert found_within(CAMERA, anatomy=0, noise=0) <= 1.6

    def test_of_a_wrong_focal_length_only_the_rays_to_the_eyes_are_wrong(self) -> None:
        took = film(3)
        wrong = Camera(focal=2 * CAMERA.focal, centre_x=CAMERA.centre_x, centre_y=CAMERA.centre_y)
        near, far = took.seen(), took.seen(wrong)
        assert np.median(far.position[:, 2] / near.position[:, 2]) == pytest.approx(2, rel=0.01)
        aside = took.mesh[:, 168, :2] - (CAMERA.centre_x, CAMERA.centre_y)
        rays = np.degrees(np.arctan(np.linalg.norm(aside, axis=1) / CAMERA.focal))
        assert (apart(near.gaze.mean(1), far.gaze.mean(1)) < rays / 2 + 4).all()

    def test_is_negated_by_a_mirror(self) -> None:
        took = film(5)
        pairs = np.arange(468)
        for right, left in PARTNER.items():
            pairs[[right, left]] = left, right

        def mirrored(points: Floats) -> Floats:
            result = points.copy()
            result[..., 0] = WIDTH - result[..., 0]
            return result

        irises = mirrored(took.irises)[:, ::-1][:, :, [0, 3, 2, 1, 4]]
        other = eyes(mirrored(took.mesh)[:, pairs], mirrored(took.lids)[:, ::-1], irises, CAMERA, FPS)
        one = took.seen()
        np.testing.assert_allclose(other.angles, one.angles * (-1, 1), atol=1e-9)
        np.testing.assert_allclose(other.openness, one.openness, atol=1e-9)

    def test_one_picture_alone_gives_finite_numbers(self) -> None:
        seen = film(1, pictures=1).seen()
        for values in (seen.gaze, seen.angles, seen.outer, seen.blink, seen.position):
            assert np.isfinite(values).all()

    def test_to_the_right_of_the_picture_and_down_are_positive(self) -> None:
        right, down = angles(np.array([[0.5, 0.0, -0.8], [0.0, 0.5, -0.8]]))
        assert right[0] > 0.4
        assert right[1] == down[0] == 0
        assert down[1] > 0.4


class TestJumps:
    def test_what_both_outputs_of_the_eyes_network_do_together_is_no_gaze(self) -> None:
        still = film(2, noise=0, still=True)
        before = still.seen()
        jumps = np.random.default_rng(0).normal(0, 1, (len(still.mesh), 2, 1, 2))
        mended = eyes(still.mesh, still.lids + jumps, still.irises + jumps, CAMERA, FPS)
        shaken = eyes(still.mesh, still.lids, still.irises + jumps, CAMERA, FPS)
        left, all_of_it = (np.median(apart(found.gaze, before.gaze)) for found in (mended, shaken))
        assert left < 0.5 * all_of_it  # what is left is the noise of the median itself

    def test_what_the_irises_do_alone_is_gaze(self) -> None:
        looks = film(4, noise=0, still=True)
        looks.irises[30:] += (3.0, 0.0)
        x = np.degrees(looks.seen().angles[:, 0])
        assert np.median(x[30:]) - np.median(x[:30]) > 10


class TestHead:
    def test_pose_distance_and_size(self) -> None:
        for seed in range(3):
            took = film(seed)
            seen = took.seen()
            turn = np.degrees(np.abs(euler(took.rotation) - euler(seen.rotation)))
            assert np.median(turn) < 3
            # The middle of the points is some 37 mm before the middle of the head.
            assert np.median(seen.position[:, 2] / (took.position[:, 2] - 37)) == pytest.approx(1, abs=0.05)

    def test_euler_angles_are_those_of_the_turn(self) -> None:
        told = np.random.default_rng(0).uniform(-1, 1, (20, 3))
        np.testing.assert_allclose(euler(turned(*told.T)), told, atol=1e-12)


class TestLids:
    def test_closed_eyes_are_told_from_open_ones_however_the_head_is_turned(self) -> None:
        for seed in range(5):
            took = film(seed)
            seen = took.seen()
            np.testing.assert_array_equal(seen.closed, took.opened < 0.5)
            assert (seen.blink[took.opened < 0.5] > 2.5).all()
            assert np.median(seen.blink[took.opened > 0.5]) < 1

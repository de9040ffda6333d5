"""The pupil of an eye that is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sharding.gaze.pupil import pupil_share, steadied


def eye(
    radius: float, share: float, *, lamp: bool = False, tilt: float = 0.0
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A dark pupil in a brighter iris in the white, lids above and below, blurred by half a pixel; and the iris."""
    size, times = int(3 * radius) + 8, 8
    y, x = (np.mgrid[: size * times, : size * times] + 0.5) / times
    centre = np.array([size / 2 + 0.3, size / 2 - 0.2])
    away = np.hypot(x - centre[0], y - centre[1])
    picture = np.where(away < radius * share, 20.0, np.where(away < radius, 90.0, 220.0))
    if lamp:
        picture[np.hypot(x - centre[0] - 0.3 * radius, y - centre[1] + 0.3 * radius) < 0.15 * radius] = 255
    up, over = np.array([np.sin(tilt), -np.cos(tilt)]), np.array([np.cos(tilt), np.sin(tilt)])
    height = (x - centre[0]) * up[0] + (y - centre[1]) * up[1]
    picture[np.abs(height) > 0.8 * radius] = 160
    small = picture.reshape(size, times, size, times).mean(axis=(1, 3))
    rim = [centre, centre - radius * over, centre + radius * up, centre + radius * over, centre - radius * up]
    return small.round().astype(np.uint8), np.array(rim)


@pytest.mark.parametrize("share", [0.25, 0.35, 0.5, 0.65])
@pytest.mark.parametrize(("radius", "most"), [(6.0, 0.06), (12.0, 0.04), (30.0, 0.02)])
def test_its_share_is_found(share: float, radius: float, most: float) -> None:
    assert pupil_share(*eye(radius, share)) == pytest.approx(share, abs=most)
    assert pupil_share(*eye(radius, share, tilt=0.5)) == pytest.approx(share, abs=most)


def test_a_reflection_moves_it_little() -> None:
    assert pupil_share(*eye(20, 0.4, lamp=True)) == pytest.approx(0.4, abs=0.03)


def test_it_is_finite_where_there_is_nothing_to_see() -> None:
    _, iris = eye(10, 0.4)
    for grey in (np.zeros((4, 4), np.uint8), np.full((40, 40), 255, np.uint8)):
        assert 0.2 <= pupil_share(grey, iris) <= 0.75


def test_one_picture_that_errs_is_smoothed_away_and_a_slow_change_is_not() -> None:
    slow = np.linspace(0.3, 0.5, 50)
    wrong = slow.copy()
    wrong[20] = 0.75
    np.testing.assert_allclose(steadied(wrong, 25)[10:40], slow[10:40], atol=0.01)
    assert len(steadied(slow[:1], 25)) == 1

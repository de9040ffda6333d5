"""What lies between MediaPipe's networks: squares of pictures, and a detector's outputs. No network runs here."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sharding.gaze.face_mesh import Square, decoded

SQUARE = Square(x=100.0, y=50.0, side=40.0, angle=0.3)


class TestSquare:
    @pytest.mark.parametrize("mirrored", [False, True])
    def test_its_middle_is_its_middle_and_its_corners_half_a_diagonal_away(self, mirrored: bool) -> None:
        to_picture = replace(SQUARE, mirrored=mirrored).to_picture(64)
        np.testing.assert_allclose(to_picture @ (32, 32, 1), (100, 50))
        corners = np.array([(0, 0, 1), (64, 0, 1), (0, 64, 1), (64, 64, 1)]) @ to_picture.T
        np.testing.assert_allclose(np.linalg.norm(corners - (100, 50), axis=1), 20 * math.sqrt(2))
        across = corners[1] - corners[0]
        assert math.atan2(across[1], across[0]) == pytest.approx(0.3 - math.pi if mirrored else 0.3)
        down = corners[2] - corners[0]
        assert down[1] > 0  # a mirror does not turn it upside down

    def test_it_stays_where_another_hardly_differs(self) -> None:
        for near in (replace(SQUARE, x=100.5), replace(SQUARE, side=41.0), replace(SQUARE, angle=0.3 + 2 * math.pi)):
            assert SQUARE.or_else(near) is SQUARE
        for far in (replace(SQUARE, y=52.0), replace(SQUARE, side=44.0), replace(SQUARE, angle=0.4)):
            assert SQUARE.or_else(far) is far


class TestDecoded:
    anchors = np.array([(0.25, 0.25), (0.26, 0.25), (0.75, 0.75), (0.5, 0.5)])

    def test_boxes_that_overlap_are_one_face_and_what_is_improbable_is_none(self) -> None:
        boxes = np.zeros((4, 16), np.float32)
        boxes[:, 2:4] = 20
        boxes[:, 4:8] = (-5, -4, 5, -4)
        faces = decoded(np.array([2.0, 2.0, 1.0, -1.0], np.float32), boxes.ravel(), self.anchors, 100)
        np.testing.assert_allclose(faces, [[25.5, 25, 20, 20, 20.5, 21, 30.5, 21], [75, 75, 20, 20, 70, 71, 80, 71]])

    def test_none(self) -> None:
        found = decoded(np.full(4, -200, np.float32), np.zeros(64, np.float32), self.anchors, 100)
        assert found.shape == (0, 8)

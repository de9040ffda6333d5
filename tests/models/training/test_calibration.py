"""The calibration error against its definition, bin by bin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.training.calibration import BINS, calibration_error


@given(st.integers(0, 1 << 30))
def test_it_is_what_the_bins_say(seed: int) -> None:
    draw = np.random.default_rng(seed)
    said, stated = draw.dirichlet(np.full(3, 0.5), 60), draw.integers(-1, 3, 60)
    rows = [(max(row), row.argmax() == true) for row, true in zip(said, stated, strict=True) if true >= 0]
    expected = 0.0
    for number in range(BINS):
        held = [row for row in rows if number / BINS < row[0] <= (number + 1) / BINS]
        if held:
            right, sure = np.mean([row[1] for row in held]), np.mean([row[0] for row in held])
            expected += len(held) / len(rows) * abs(right - sure)
    assert calibration_error(said, stated) == pytest.approx(expected)


def test_who_is_as_often_right_as_he_says_is_calibrated() -> None:
    sure = np.array([[0.75, 0.25]] * 4)
    assert calibration_error(sure, np.array([0, 0, 0, 1])) == pytest.approx(0)
    assert calibration_error(sure, np.array([1, 1, 1, 1])) == pytest.approx(0.75)
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([1])) == 1
    assert math.isnan(calibration_error(sure, np.full(4, -1)))

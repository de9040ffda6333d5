"""Gaze signals on a clip's clock."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharding.gaze.statistics import SIGNAL_NAMES, read_table, signals
from sharding.members.gaze_frames import resampled
from tests.films import write_table


@given(
    rate=st.sampled_from([10.0, 25.0, 29.97, 30.0, 60.0]),
    fps=st.sampled_from([5.0, 8.0, 25.0, 30.0, 100.0]),
    start=st.floats(0, 3),
)
def test_signals_on_a_clock_are_those_of_the_nearest_frame(
    tmp_path_factory: pytest.TempPathFactory, rate: float, fps: float, start: float
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    table = read_table(write_table(folder / "t.csv", round(4 * rate), rate, success=lambda row: row % 7 != 3))
    steps = round(2 * fps)
    result = resampled(table, start, steps, fps)
    assert result.shape == (steps, len(SIGNAL_NAMES) + 1)
    assert np.isfinite(result).all()
    every = signals(table)
    for step, row in enumerate(result):
        away = np.abs(table.timestamp - (start + step / fps))
        nearest = np.flatnonzero(away <= away.min() + 1e-9)
        if row[-1]:
            assert any(np.allclose(row[:-1], every[index], atol=1e-6) for index in nearest)
        else:
            beyond = away.min() > 0.5 / max(rate, fps)
            assert beyond or not table.success[nearest].all()
            assert not row.any()


def test_every_frame_is_there_where_the_clocks_are_one(tmp_path: Path) -> None:
    table = read_table(write_table(tmp_path / "t.csv", 100, 25))
    np.testing.assert_allclose(resampled(table, 2.0, 50, 25.0)[:, :-1], signals(table)[50:], atol=1e-6)


def test_beyond_the_table_nothing_is_valid(tmp_path: Path) -> None:
    table = read_table(write_table(tmp_path / "t.csv", 50, 25))
    valid = resampled(table, 1.0, 50, 25.0)[:, -1]
    assert valid[:25].all()
    assert not valid[26:].any()

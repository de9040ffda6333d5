"""The gaze tower's shape, and statistics seen in a mirror."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loaders.dataset.manifest import GAZE_STATISTICS
from models.towers.gaze import GazeTower, GazeTowerConfig, mirror

NAMES = Path(__file__).resolve().parents[3] / "../shared/reference/gaze103_names.txt"


def twelve(signal: NDArray[np.float64], fps: float = 30.0) -> list[float]:
    """The twelve statistics of one signal, in the order of the 103."""
    q1, median, q3 = np.quantile(signal, [0.25, 0.5, 0.75])
    slope, intercept = np.polyfit(np.arange(len(signal)) / fps, signal, 1)
    spread = [signal.std(ddof=1), median - q1, q3 - median, q3 - q1]
    return [signal.min(), signal.max(), signal.mean(), median, q1, q3, *spread, intercept, slope]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_the_mirror_gives_the_statistics_of_the_mirrored_signal(seed: int) -> None:
    generator = np.random.default_rng(seed)
    x, y, dx = generator.normal(generator.normal(size=(3, 1)), 1.0, size=(3, 40))
    rest = generator.normal(size=GAZE_STATISTICS - 36).tolist()
    gaze = torch.tensor([[*twelve(x), *twelve(y), *twelve(dx), *rest]])
    expected = torch.tensor([[*twelve(-x), *twelve(y), *twelve(-dx), *rest]])
    source, sign = mirror()
    torch.testing.assert_close(gaze[:, source] * sign, expected)


@pytest.mark.skipif(not NAMES.exists(), reason="the list of names is not at hand")
def test_the_mirror_touches_the_horizontal_angle_alone() -> None:
    names = NAMES.read_text().split()
    assert len(names) == GAZE_STATISTICS
    source, sign = mirror()
    touched = {names[k] for k in range(GAZE_STATISTICS) if source[k] != k or sign[k] != 1}
    still = {name for name in names if "angle_x" in name and name.endswith(("_SD", "IQR_1_3"))}
    assert touched == {name for name in names if "angle_x" in name} - still


def test_tower() -> None:
    tower = GazeTower(GazeTowerConfig())
    assert tower(torch.randn(5, GAZE_STATISTICS)).shape == (5, tower.embedding_dim) == (5, 128)
    # Two linear layers without bias and two batch norms.
    assert sum(p.numel() for p in tower.parameters()) == 103 * 128 + 128 * 128 + 4 * 128

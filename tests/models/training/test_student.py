"""Student's quantiles against SciPy's, and where they are known."""

from __future__ import annotations

import math

import pytest

from models.training.student import t_quantile


def test_quantiles_are_those_of_tables() -> None:
    assert t_quantile(0.5, 3) == pytest.approx(0, abs=1e-9)
    assert t_quantile(0.975, 1) == pytest.approx(math.tan(0.475 * math.pi))
    assert t_quantile(0.975, 2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)))
    assert t_quantile(0.975, 1e7) == pytest.approx(1.959964, rel=1e-5)


def test_quantiles_are_scipys() -> None:
    special = pytest.importorskip("scipy.special", reason="SciPy is not installed")
    for probability in (0.6, 0.9, 0.975, 0.995):
        for freedom in (1, 1.5, 2, 3.7, 10, 50, 1000):
            assert t_quantile(probability, freedom) == pytest.approx(special.stdtrit(freedom, probability), rel=1e-6)


@pytest.mark.parametrize(("probability", "freedom"), [(0.4, 3), (1.0, 3), (0.9, 0), (0.9, math.nan)])
def test_what_has_no_quantile_is_an_error(probability: float, freedom: float) -> None:
    with pytest.raises(ValueError, match="no quantile"):
        t_quantile(probability, freedom)

"""Confidence intervals."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.intervals import wilson


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_it_holds_the_share_and_solves_its_equation(case: tuple[int, int]) -> None:
    right, total = case
    share = right / total
    low, high = wilson(share, total)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    # Its ends are the p whose normal interval just reaches the share: |share − p| = z·sqrt(p(1−p)/n).
    for p in (low, high):
        assert abs(share - p) == pytest.approx(1.959964 * math.sqrt(p * (1 - p) / total), abs=1e-6)
    wider = wilson(share, total, z=2.575829)
    assert wider[0] <= low + 1e-12
    assert wider[1] >= high - 1e-12


@given(share=st.floats(0, 1), count=st.floats(1, 1e6))
def test_it_holds_the_share_and_stays_a_probability(share: float, count: float) -> None:
    low, high = wilson(share, count)
    assert 0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1


def test_it_is_the_published_one() -> None:
    assert wilson(0.5, 100) == pytest.approx((0.40383, 0.59617), abs=1e-5)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.27753), abs=1e-5)


def test_of_nothing_nothing_is_known() -> None:
    assert wilson(math.nan, 0) == (0.0, 1.0)

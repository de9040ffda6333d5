"""Draws are the hash that they claim to be, in range, uniform, and independent from stream to stream."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.sampling import randomness

WORD = 1 << 64
words = st.integers(0, WORD - 1)
parts = st.lists(st.integers(0, (1 << 32) - 1) | st.text(max_size=8), min_size=1, max_size=4)


def splitmix_finaliser(x: int) -> int:
    """The last two lines of figure 16 of Steele, Lea and Flood (OOPSLA 2014), in whole numbers, then one more shift."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % WORD
    return x ^ (x >> 31)


def assert_uniform(observed: np.ndarray, expected: float) -> None:
    """Pearson's test, at about five standard deviations of its statistic."""
    statistic = ((observed - expected) ** 2 / expected).sum()
    freedom = observed.size - 1
    assert statistic < freedom + 5 * np.sqrt(2 * freedom) + 5


@given(words, st.lists(st.integers(0, (1 << 62) - 1), min_size=1, max_size=20))
def test_bits_are_the_splitmix_hash_of_key_and_counter(stream: int, counters: list[int]) -> None:
    expected = [
        splitmix_finaliser(splitmix_finaliser((counter * 0x9E3779B97F4A7C15 + stream) % WORD) ^ stream)
        for counter in counters
    ]
    assert randomness.bits(stream, np.array(counters)).tolist() == expected


@given(parts)
def test_a_key_is_the_same_every_time_and_one_word_long(given_parts: list[int | str]) -> None:
    key = randomness.key(*given_parts)
    assert 0 <= key < WORD
    assert randomness.key(*given_parts) == key


@given(parts, parts)
def test_other_parts_give_another_key(one: list[int | str], other: list[int | str]) -> None:
    assert (randomness.key(*one) == randomness.key(*other)) == (one == other)


def test_no_two_seeds_or_epochs_share_a_key() -> None:
    keys = {randomness.key(seed, epoch, "order") for seed in range(100) for epoch in range(100)}
    assert len(keys) == 100 * 100


def test_uniform_fills_the_unit_interval_evenly() -> None:
    draws = randomness.uniform(randomness.key(1), np.arange(200_000))
    assert draws.min() >= 0
    assert draws.max() < 1
    assert_uniform(np.histogram(draws, bins=1000, range=(0, 1))[0], 200)


def test_draws_are_independent_of_their_neighbours_and_of_other_streams() -> None:
    counters = np.arange(200_000)
    draws = randomness.uniform(randomness.key(7, 0), counters)
    for other in (np.roll(draws, 1), np.roll(draws, 2), randomness.uniform(randomness.key(7, 1), counters)):
        squares = np.histogram2d(draws, other, bins=20, range=[[0, 1], [0, 1]])[0]
        assert_uniform(squares, len(draws) / squares.size)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100, 1000])
def test_below_reaches_every_number_under_its_limit_equally_often(limit: int) -> None:
    draws = randomness.below(np.array([limit]), randomness.key(2, limit), np.arange(100_000))
    assert_uniform(np.bincount(draws, minlength=limit), 100_000 / limit)


@given(st.integers(1, 1 << 62), words)
def test_below_never_reaches_its_limit(limit: int, stream: int) -> None:
    draws = randomness.below(np.array([limit]), stream, np.arange(1000))
    assert draws.min() >= 0
    assert draws.max() < limit


def test_every_draw_has_its_own_limit() -> None:
    limits = np.arange(1, 1001)
    draws = randomness.below(limits, randomness.key(3), np.zeros(1000, np.int64))
    assert (draws < limits).all()
    assert draws.max() > 0

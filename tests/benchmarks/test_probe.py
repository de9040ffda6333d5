"""A probe finds what is linear and nothing else, and is chosen over speakers."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.probe import STRENGTHS, class_probe, folds, number_probe
from loaders.errors import InputError
from models.training.agreement import agreement

DRAW = np.random.default_rng(0)
SPEAKERS = np.repeat(np.arange(20), 6)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """These products are tiny, and pytest-xdist fills the cores with processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def clouds(classes: int, apart: float, count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points in ten dimensions of unlike scales and places; classes lie apart in the first ones."""
    draw = np.random.default_rng(seed)
    codes = draw.integers(classes, size=count)
    points = draw.normal(size=(count, 10))
    points[np.arange(count), codes] += apart
    return points * np.logspace(-3, 3, 10) + np.linspace(-50, 50, 10), codes


def test_of_what_can_be_parted_all_is_right_and_of_noise_about_what_chance_gives() -> None:
    features, codes = clouds(4, 12.0, 120, 0)
    probe = class_probe(features, codes, 4, SPEAKERS)
    unseen, truth = clouds(4, 12.0, 500, 1)
    assert (probe.classes(unseen) == truth).all()
    noise, codes = clouds(4, 0.0, 120, 2)
    unseen, truth = clouds(4, 0.0, 2000, 3)
    probe = class_probe(noise, codes, 4, SPEAKERS)
    assert (probe.classes(unseen) == truth).mean() == pytest.approx(0.25, abs=0.05)
    assert probe.strength >= 0.1  # what cannot be learnt is held down


@pytest.mark.parametrize("strength", [1.0, 0.01])
def test_logistic_regression_is_where_the_gradient_is_nought(strength: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.probe.STRENGTHS", (strength,))
    features, codes = clouds(3, 1.0, 120, 4)
    probe = class_probe(features, codes, 3, SPEAKERS)
    x = (features - features.mean(0)) / features.std(0)
    logits = x @ probe.weights + probe.offsets
    likely = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error = likely - np.eye(3)[codes]
    assert np.abs(x.T @ error / len(x) + strength * probe.weights).max() < 2e-5
    assert np.abs(error.mean(0)).max() < 2e-5


def test_ridge_is_least_squares_of_rows_that_stand_for_the_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.probe.STRENGTHS", (0.3,))
    features = DRAW.normal(2, 5, (120, 4))
    values = features @ [1.0, -2.0, 0.0, 0.5] + DRAW.normal(size=120) + 7
    probe = number_probe(features, values, SPEAKERS)
    x = (features - features.mean(0)) / features.std(0)
    rows = np.vstack([x, math.sqrt(0.3 * 120) * np.eye(4)])
    expected = np.linalg.lstsq(rows, np.r_[values - values.mean(), np.zeros(4)], rcond=None)[0]
    assert probe.weights[:, 0] == pytest.approx(expected)
    assert probe.numbers(features) == pytest.approx(x @ expected + values.mean())


def test_what_is_linear_is_foretold_and_a_feature_that_does_not_vary_does_no_harm() -> None:
    features = np.hstack([DRAW.normal(size=(120, 3)), np.full((120, 1), 0.1)])
    values = features @ [3.0, 0.0, -1.0, 9.0] + 5
    probe = number_probe(features, values, SPEAKERS)
    assert probe.strength == min(STRENGTHS)
    assert agreement(probe.numbers(features), values).ccc == pytest.approx(1, abs=1e-4)


@given(st.lists(st.integers(-3, 9), min_size=2, max_size=60), st.integers(2, 7), st.integers(0, 99))
def test_a_speaker_is_in_one_fold(speakers: list[int], count: int, seed: int) -> None:
    if len(set(speakers)) < 2:
        with pytest.raises(InputError, match="its examples have 1: give more"):
            folds(np.array(speakers), count, seed)
        return
    of = folds(np.array(speakers), count, seed)
    found = dict(zip(speakers, of.tolist(), strict=True))
    assert [found[speaker] for speaker in speakers] == of.tolist()
    sizes = np.bincount(list(found.values()))
    assert len(sizes) == min(count, len(found))
    assert sizes.max() - sizes.min() <= 1


def test_what_only_marks_speakers_is_held_down() -> None:
    """Each speaker says one class, and features know the speaker: it looks like knowledge where folds mix speakers."""
    codes = np.random.default_rng(5).integers(2, size=20)[SPEAKERS]
    features = np.eye(20)[SPEAKERS] + 0.01 * np.random.default_rng(6).normal(size=(120, 20))
    assert class_probe(features, codes, 2, SPEAKERS).strength > 0.1
    assert class_probe(features, codes, 2, np.arange(120)).strength < 0.01

"""Which frames an example takes is a function of (seed, epoch, position), and as asked for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loaders.errors import InputError
from loaders.sampling import randomness
from loaders.sampling.frames import FrameChoice, Sample, evenly_spaced, frame_choice
from models.frontend.front_end import spaced

POSITIONS = np.arange(500)


@st.composite
def choices(draw: st.DrawFn, samples: tuple[Sample, ...] = ("window", "random", "even")) -> FrameChoice:
    given_frames, sample = draw(st.integers(1, 40)), draw(st.sampled_from(samples))
    count = draw(st.integers(1, given_frames))
    most = 1 if count == 1 or sample != "window" else (given_frames - 1) // (count - 1)
    return FrameChoice(given_frames, count, draw(st.integers(1, most)), sample)


@given(choice=choices(), seed=st.integers(0, 99), epoch=st.integers(0, 9), training=st.booleans())
def test_frames_rise_are_of_the_clip_and_heard_within_their_span(
    choice: FrameChoice, seed: int, epoch: int, training: bool
) -> None:
    frames = choice.draw(seed, epoch, POSITIONS, training=training)
    assert frames.shape == (500, choice.count)
    assert frames.dtype == np.int16
    assert (frames >= 0).all()
    assert (frames < choice.given).all()
    assert (np.diff(frames, axis=1) > 0).all()
    if choice.sample == "window" and not choice.is_whole:
        assert (np.diff(frames, axis=1) == choice.stride).all()
    heard = choice.heard_from(frames)
    assert (heard <= frames[:, 0]).all()
    assert (frames[:, -1] < heard + choice.span).all()
    assert (heard + choice.span <= choice.given).all()


@given(choice=choices(), data=st.data())
def test_an_examples_frames_do_not_depend_on_what_it_is_drawn_with(choice: FrameChoice, data: st.DataObject) -> None:
    some = np.array(data.draw(st.lists(st.integers(0, 499), max_size=20)), np.int64)
    whole = choice.draw(5, 3, POSITIONS, training=True)
    assert choice.draw(5, 3, some, training=True).tolist() == whole[some].tolist()


@given(st.integers(1, 40), st.data())
def test_windows_are_drawn_as_they_always_were(given_frames: int, data: st.DataObject) -> None:
    """A run's examples are named by (seed, epoch, position): these draws are what was published with results."""
    count = data.draw(st.integers(1, given_frames))
    windows = given_frames - count + 1
    first = randomness.below(np.full(500, windows), randomness.key(5, 3, "window"), POSITIONS)
    frames = FrameChoice(given_frames, count).draw(5, 3, POSITIONS, training=True)
    assert frames[:, 0].tolist() == first.tolist()
    middle = FrameChoice(given_frames, count).draw(5, 3, POSITIONS, training=False)
    assert set(middle[:, 0].tolist()) == {(windows - 1) // 2}


@pytest.mark.parametrize("changes", [{"seed": 6}, {"epoch": 4}])
def test_random_frames_change_with_seed_and_epoch_and_all_are_as_likely(changes: dict[str, int]) -> None:
    choice = FrameChoice(16, 4, sample="random")
    many = np.arange(40_000)
    place = {"seed": 5, "epoch": 3}
    frames = choice.draw(**place, positions=many, training=True)
    other = choice.draw(**{**place, **changes}, positions=many, training=True)
    assert (frames != other).any(axis=1).mean() > 0.99
    counts = np.bincount(frames.ravel(), minlength=16)
    # 10,000 of each are expected, with a deviation of 87.
    assert np.abs(counts - 10_000).max() < 5 * 87
    assert len(np.unique(frames, axis=0)) == 1820  # 16 over 4: none is left out


@given(st.integers(1, 40), st.data())
def test_even_frames_are_those_that_the_front_end_takes(given_frames: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, given_frames))
    taken = torch.arange(given_frames)[spaced(given_frames, count)].tolist()
    assert evenly_spaced(given_frames, count) == taken
    drawn = FrameChoice(given_frames, count, sample="even").draw(5, 3, POSITIONS[:3], training=False)
    assert drawn.tolist() == [taken] * 3


@given(frames=st.integers(1, 20), left_out=st.integers(0, 19), stride=st.integers(1, 9), training=st.booleans())
def test_what_is_let_through_can_be_had(frames: int, left_out: int, stride: int, training: bool) -> None:
    count = max(1, frames - left_out)
    for sample in ("window", "random", "even"):
        try:
            choice = frame_choice(frames, count, stride, sample, training=training)
        except InputError:
            assert stride > 1 or sample == "random"
            continue
        assert choice.span <= frames
        assert stride == 1 or (sample == "window" and count > 1)
        assert training or sample != "random" or count == frames
        choice.draw(0, 0, POSITIONS[:2], training=training)

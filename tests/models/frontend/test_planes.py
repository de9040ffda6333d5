"""Chroma is weighed as if it had been doubled first, and frames of planes come out as those of RGB."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.frontend.front_end import FrontEnd, FrontEndConfig
from models.frontend.planes import on_chroma, planes_of
from tests.planes import doubled, rgb_of

CONFIG = FrontEndConfig(frame_size=20, frames=3, n_fft=512, n_mels=20)
LEVEL = 255 * CONFIG.video_std[0]  # levels of 0 … 255 in a unit of what leaves the front end


def clips(number: int, size: int, frames: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Clips of colours that RGB has, as planes and as RGB."""
    draw = np.random.default_rng(seed)
    luma = draw.integers(90, 160, (number, frames, size, size))
    chroma = draw.integers(108, 148, (2, number, frames, size // 2, size // 2))
    planes = np.concatenate(
        [luma.reshape(number, frames, -1), *(c.reshape(number, frames, -1) for c in chroma)], axis=2
    ).astype(np.uint8)
    pixels = rgb_of(luma.astype(np.uint8), *(doubled(c.astype(np.uint8)) for c in chroma))
    return torch.from_numpy(planes.reshape(number, frames, size * 3 // 2, size)), torch.from_numpy(pixels)


@given(st.integers(1, 12), st.integers(1, 5))
def test_weights_on_chroma_are_those_of_the_pixels_doubled_from_it(half: int, out: int) -> None:
    weight = torch.rand(2, out, 2 * half, dtype=torch.float64)
    sample = torch.eye(half, dtype=torch.float64)
    # Doubled along rows, as every decoder does it; the columns of `sample` are samples.
    above, below = torch.cat([sample[:1], sample[:-1]]), torch.cat([sample[1:], sample[-1:]])
    pixels = torch.stack([0.75 * sample + 0.25 * above, 0.75 * sample + 0.25 * below], 1).flatten(0, 1)
    torch.testing.assert_close(on_chroma(weight), weight @ pixels)


def test_planes_are_views_of_a_frame_s_luma_and_both_chromas() -> None:
    frames = torch.arange(2 * 12 * 8).view(2, 12, 8)
    luma, blue, red = planes_of(frames)
    assert luma.tolist() == frames[:, :8].tolist()
    assert blue.flatten(1).tolist() == frames[:, 8:10].flatten(1).tolist()
    assert red.flatten(1).tolist() == frames[:, 10:].flatten(1).tolist()
    assert blue.shape == red.shape == (2, 4, 4)
    assert all(plane.untyped_storage().data_ptr() == frames.untyped_storage().data_ptr() for plane in (luma, blue, red))


@given(
    size=st.integers(2, 8).map(lambda k: 4 * k),
    target=st.integers(3, 30),
    crop=st.sampled_from([0.4, 0.7, 0.875, 1.0]),
    training=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=25, deadline=None)
def test_frames_of_planes_come_out_as_those_of_rgb(
    size: int, target: int, crop: float, training: bool, seed: int
) -> None:
    """Whatever the crop, also where it begins between two chroma samples, and whatever training draws."""
    config = dataclasses.replace(CONFIG, frame_size=target, crop=crop)
    front_end = FrontEnd(config).train(training)
    planes, pixels = clips(4, size, seed=seed)
    seeds = seed + torch.arange(4)
    video, expected = front_end(video=planes, seed=seeds).video, front_end(video=pixels, seed=seeds).video
    assert video is not None
    assert expected is not None
    assert video.shape == expected.shape == (4, 3, 3, target, target)
    # RGB was rounded to whole levels, and before it the doubled chroma, half a level of which is 0.89 of blue;
    # saturation stretches a colour's distance from grey by up to one and a half.
    assert ((video - expected).abs() * LEVEL).max() < (2 if training else 1) * 1.39


def test_fewer_frames_and_other_normalisations_of_planes() -> None:
    config = dataclasses.replace(CONFIG, frames=2, video_mean=(0.2, 0.4, 0.6), video_std=(0.3, 0.2, 0.25))
    planes, pixels = clips(2, 64, frames=5)
    video, expected = (FrontEnd(config).eval()(video=given_video).video for given_video in (planes, pixels))
    assert video is not None
    assert expected is not None
    assert ((video - expected).abs() * 255 * 0.3).max() < 1.39 * 0.3 / 0.2
    assert ((video - expected).mean() * 255 * 0.25).abs() < 0.05  # neither darker nor brighter


def test_colours_beyond_rgb_s_end_at_its_limits() -> None:
    planes, _ = clips(2, 16)
    planes[0, :, 16:], planes[1, :, :16] = 255, 255
    video = FrontEnd(CONFIG)(video=planes, seed=torch.arange(2)).video
    assert video is not None
    low, high = ((value - CONFIG.video_mean[0]) / CONFIG.video_std[0] for value in (0, 1))
    assert low - 1e-5 <= video.min()
    assert video.max() <= high + 1e-5


@pytest.mark.parametrize("shape", [(2, 3, 20, 16), (2, 3, 24, 15), (3, 24, 16)])
def test_what_are_no_planes_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(B, T, 3·H/2, W\) of planes"):
        FrontEnd(CONFIG).eval()(video=torch.zeros(shape, dtype=torch.uint8))

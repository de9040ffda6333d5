"""Spectrograms: what sounds where is bright there."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sharding.media.spectrogram import mel_power, spectrogram_png

RATE = 16_000


def tone(hertz: float, seconds: float = 1.0) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(RATE * seconds)) / RATE)).astype(np.float32)


def brightness(png: bytes) -> NDArray[np.int64]:
    """Sum of a picture's colours, (rows, columns)."""
    with Image.open(io.BytesIO(png)) as picture:
        colours: NDArray[np.int64] = np.asarray(picture.convert("RGB")).astype(np.int64).sum(axis=2)
    return colours


@pytest.mark.parametrize("hertz", [60, 200, 440, 1000, 2500, 7000])
def test_a_tone_is_loudest_in_the_band_around_it(hertz: float) -> None:
    spacing = 2595 * np.log10(1 + RATE / 2 / 700) / 65  # of 64 bands and their two ends, in mel
    band = 2595 * np.log10(1 + hertz / 700) / spacing - 1
    loudest = mel_power(tone(hertz), RATE)[:, 10:-10].argmax(axis=0)
    assert (np.abs(loudest - band) <= 1).all()


def test_low_is_at_the_bottom_and_early_at_the_left() -> None:
    low_then_high = np.concatenate([tone(300), tone(4000)])
    picture = brightness(spectrogram_png(low_then_high, RATE))
    rows, columns = picture.shape
    assert (rows, columns) == (64, 200)
    quarters = picture.reshape(2, 32, 2, 100).sum(axis=(1, 3))
    assert quarters[1, 0] > 2 * quarters[0, 0]  # first half: the lower half of the picture
    assert quarters[0, 1] > 2 * quarters[1, 1]


def test_no_band_is_without_a_frequency() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    assert (mel_power(noise, RATE) > 0).all()


@pytest.mark.parametrize("samples", [1, 7, 399, 400, 401, 32_000, 60 * RATE])
def test_any_length_gives_a_small_picture(samples: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)
    picture = brightness(spectrogram_png(noise, RATE))
    assert picture.shape[0] == 64
    assert 1 <= picture.shape[1] <= 600


def test_silence_is_dark() -> None:
    picture = brightness(spectrogram_png(np.zeros(RATE, np.float32), RATE))
    assert (picture == picture.min()).all()
    assert picture.max() < 100

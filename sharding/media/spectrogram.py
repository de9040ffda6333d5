"""A clip's sound as a picture: its log-mel spectrogram in one small PNG.

The front end of the models has a spectrogram of its own, `models.frontend`: a layer in torch, for batches, whose bands
and floor are settings of a run. This one is for the eye, needs NumPy alone, and shows a sound whatever a model takes of
it.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_WINDOW_SECONDS = 0.025
_STEP_SECONDS = 0.010
_BANDS = 64
_FFT = 1024  # at 16 kHz fine enough for every band, the narrowest spans 27 Hz, to hold a frequency
_MOST_COLUMNS = 600  # of long clips: more than a small picture can show
_RANGE_DB = 70.0
# From silence to the loudest: dark to light without a turn, so that it reads in grey as well.
_COLOURS = (
    (11, 9, 33),
    (52, 24, 104),
    (128, 37, 130),
    (205, 64, 113),
    (246, 122, 92),
    (254, 200, 128),
    (255, 251, 214),
)


def spectrogram_png(samples: NDArray[np.float32], sample_rate: int) -> bytes:
    """A PNG of 64 rows, low frequencies at the bottom, with a column every 10 ms of samples (n,) in -1 … 1.

    Colours span 70 dB below the clip's own loudest point.
    """
    level = 10 * np.log10(mel_power(samples, sample_rate) + 1e-12)
    brightness = np.clip((level - level.max()) / _RANGE_DB + 1, 0, 1) if level.max() > -119 else np.zeros_like(level)
    picture = Image.fromarray(np.round(255 * brightness[::-1]).astype(np.uint8))
    picture.putpalette(_palette().tobytes())
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return out.getvalue()


def mel_power(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Power in each of 64 mel bands, low to high, along time: (64, columns), from 0 Hz to half the sample rate.

    Hann windows of 25 ms, the first centred on the first sample.
    """
    window = min(round(_WINDOW_SECONDS * sample_rate), _FFT)
    step = max(round(_STEP_SECONDS * sample_rate), -(-len(samples) // _MOST_COLUMNS))
    padded = np.pad(samples, (window // 2, window))
    columns = max(1, -(-len(samples) // step))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, window)[: columns * step : step]
    spectrum = np.fft.rfft(pieces * np.hanning(window), _FFT) / np.hanning(window).sum()
    power: NDArray[np.float64] = _triangles(sample_rate) @ np.square(np.abs(spectrum)).T
    return power


def _triangles(sample_rate: int) -> NDArray[np.float64]:
    """The bands' weights on each frequency, (64, frequencies): triangles evenly spaced on the mel scale.

    The scale is O'Shaughnessy's, "Speech Communication: Human and Machine" (1987): m = 2595 · log₁₀(1 + f / 700).
    """
    highest = 2595 * np.log10(1 + sample_rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, highest, _BANDS + 2) / 2595) - 1)
    frequency = np.fft.rfftfreq(_FFT, 1 / sample_rate)
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    return np.maximum(0, np.minimum((frequency - low) / (centre - low), (high - frequency) / (high - centre)))


def _palette() -> NDArray[np.uint8]:
    """256 colours (256, 3) that run through `_COLOURS`."""
    anchors = np.array(_COLOURS, np.float64)
    place = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(place, np.arange(len(anchors)), channel) for channel in anchors.T]
    return np.stack(channels, axis=1).round().astype(np.uint8)

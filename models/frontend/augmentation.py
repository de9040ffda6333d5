"""What is changed about a clip in training, and by how much: settings, and the draw for each sample of a batch.

Every draw is a function of the sample's seed (`draws.py`). None knows whether audio and frames match, so nothing about
a match can be read from them; audio and frames draw from streams of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from models.frontend import draws


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecAugment:
    """Stripes of the log-mel that are set to its mean (Park et al.: SpecAugment, Interspeech 2019, without warping)."""

    #: Stripes over mel bands, and the widest of them in bands.
    band_stripes: int = 2
    band_width: int = 16
    #: Stripes over time, and the widest of them in spectrogram frames.
    time_stripes: int = 2
    time_width: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Ranges to draw from, for a whole clip at once; the defaults are those of Objects that Sound.

    A range of zero width switches its change off.
    """

    #: Where the crop lies is drawn; False: always the centre, as in evaluation. Its size is `FrontEndConfig.crop`.
    crop: bool = True
    #: Mirror half of the clips, and the gaze statistics with them.
    flip: bool = True
    #: Added to all channels, within ± this share of the full range.
    brightness: float = 32 / 255
    #: Distance of a pixel from its own grey, multiplied by a number in this range.
    saturation: tuple[float, float] = (0.5, 1.5)
    #: The waveform is multiplied by 1 ± this share.
    gain: float = 0.1
    #: Share of the clips whose gaze is withheld, as if there had been none. The statistics of a clip are its own like a
    #: name: with few clips, a network learns which sound goes with which name sooner than what joins faces and voices.
    gaze_dropout: float = 0.0
    spectrogram: SpecAugment | None = None


class Stream(IntEnum):
    """Which random number of a sample is which. Changing a number changes what a seed means."""

    TOP = 0
    LEFT = 1
    FLIP = 2
    BRIGHTNESS = 3
    SATURATION = 4
    GAIN = 5
    GAZE = 6
    #: The k-th stripe takes two numbers from here on.
    BANDS = 1000
    TIMES = 2000


_CLIP_STREAMS = [stream for stream in Stream if stream < Stream.BANDS]  # 0, 1, 2, …


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameChange:
    """How each clip's frames are changed, B values each; the same for all of a clip's frames."""

    top: Tensor  #: int64, first row of the crop
    left: Tensor  #: int64, first column of the crop
    flip: Tensor  #: bool
    brightness: Tensor  #: float32, added to values in 0 … 1
    saturation: Tensor  #: float32, factor


def no_frame_change(batch: int, room: tuple[int, int], device: torch.device) -> FrameChange:
    """The centre crop and nothing else, where the crop has `room` (rows, columns) to move."""
    zero = torch.zeros(batch, device=device)
    return FrameChange(
        top=torch.full((batch,), room[0] // 2, device=device),
        left=torch.full((batch,), room[1] // 2, device=device),
        flip=zero.bool(),
        brightness=zero,
        saturation=zero + 1,
    )


@dataclass(frozen=True, slots=True)
class Draws:
    """What each of a batch's seeds drew from the streams below `Stream.BANDS`, all at once."""

    bits: Tensor  #: (streams, B) int64, see `draws.bits`

    @staticmethod
    def of(seed: Tensor) -> Draws:
        """``seed``: (B,) int64."""
        return Draws(draws.bits(seed, torch.arange(len(_CLIP_STREAMS), device=seed.device)[:, None]))

    def uniform(self, stream: Stream, low: float, high: float) -> Tensor:
        """(B,) float32, see `draws.to_uniform`."""
        return draws.to_uniform(self.bits[stream], low, high)


def draw_frame_change(config: Augmentation, drawn: Draws, room: tuple[int, int]) -> FrameChange:
    """How each clip's frames are changed, where the crop has `room` (rows, columns) to move."""
    top, left, flip = drawn.bits[Stream.TOP], drawn.bits[Stream.LEFT], drawn.bits[Stream.FLIP]
    return FrameChange(
        top=draws.to_integer(top, room[0] + 1) if config.crop else torch.full_like(top, room[0] // 2),
        left=draws.to_integer(left, room[1] + 1) if config.crop else torch.full_like(left, room[1] // 2),
        flip=draws.to_coin(flip) if config.flip else torch.zeros_like(flip, dtype=torch.bool),
        brightness=drawn.uniform(Stream.BRIGHTNESS, -config.brightness, config.brightness),
        saturation=drawn.uniform(Stream.SATURATION, *config.saturation),
    )


def draw_gain(config: Augmentation, drawn: Draws) -> Tensor:
    """Factor for each waveform, (B,) float32."""
    return drawn.uniform(Stream.GAIN, 1 - config.gain, 1 + config.gain)


def draw_withheld(config: Augmentation, drawn: Draws) -> Tensor:
    """Whose gaze is withheld, (B,) bool."""
    return drawn.uniform(Stream.GAZE, 0.0, 1.0) < config.gaze_dropout


def draw_kept(config: SpecAugment, seed: Tensor, bands: int, frames: int) -> Tensor:
    """What SpecAugment leaves of a (bands, frames) log-mel: (B, bands, frames), False under a stripe."""
    band = _stripes(seed, Stream.BANDS, config.band_stripes, config.band_width, bands)
    time = _stripes(seed, Stream.TIMES, config.time_stripes, config.time_width, frames)
    return ~(band[:, :, None] | time[:, None, :])


def _stripes(seed: Tensor, stream: int, count: int, widest: int, length: int) -> Tensor:
    """(B, length), True under one of `count` stripes, each 0 … `widest` wide and lying anywhere."""
    position = torch.arange(length, device=seed.device)
    covered = torch.zeros(len(seed), length, dtype=torch.bool, device=seed.device)
    for k in range(count):
        width = draws.integer(seed, stream + 2 * k, min(widest, length) + 1)
        start = draws.integer(seed, stream + 2 * k + 1, length - width + 1)
        covered |= (position >= start[:, None]) & (position < (start + width)[:, None])
    return covered

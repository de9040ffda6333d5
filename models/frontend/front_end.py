"""The front end: what the loader yields → what the towers take.

uint8 frames, a waveform and raw gaze statistics go in; normalised frames, a log-mel spectrogram and normalised gaze
come out, augmented in training. All of it is tensor arithmetic on whatever device the batch is on, so that training,
evaluation and prediction, on a CPU or a GPU, share this one implementation.

On loudness. The log-mel is absolute by default: how loud someone speaks says something about how they feel. Level alone
cannot give a match away, because the audio of matching and of other pairs is drawn from the same clips, and the gain is
drawn without regard to the match. `clip_normalise` takes each clip's own mean and deviation away instead, and all trace
of level, gain included, with them: for corpora whose recording levels differ by speaker or label for reasons of
equipment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from loaders.batch import Batch
from loaders.dataset.manifest import GAZE_STATISTICS
from loaders.errors import InputError
from loaders.sampling.frames import evenly_spaced
from models.frontend._torchaudio import MelSpectrogram
from models.frontend.augmentation import (
    Augmentation,
    Draws,
    FrameChange,
    draw_frame_change,
    draw_gain,
    draw_kept,
    draw_withheld,
    no_frame_change,
)
from models.frontend.planes import NO_COLOUR, RGB_OF_PLANES, on_chroma, planes_of
from models.towers.gaze import mirror
from models.towers.tower import Masked, Stream

#: Shares of red, green and blue in a grey value (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)
#: Clips whose frames a GPU resamples at a time: of so many, a product fills it. A CPU takes one at a time: full frames
#: then exist as floats for one clip only, which keeps its caches warm.
_CLIPS_TOGETHER = 64
_ONES = 8  # columns of them: rows that are products' operands begin at multiples of 16 bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEndConfig:
    """Sizes and normalisation; the defaults are the thesis' 224×224 frames, and choices of ours where it is silent."""

    #: Side of the frames that leave, in pixels.
    frame_size: int = 224
    #: Frames of a clip that leave; where more come in, evenly spaced ones are taken, so they still span the audio.
    frames: int = 16
    #: Side of the square that is cut out, as a share of the frames' shorter side, in training and in evaluation
    #: (there from the centre). 224 of 256 is usual.
    crop: float = 0.875
    #: Of RGB values in 0 … 1; usual for video networks.
    video_mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    video_std: tuple[float, float, float] = (0.225, 0.225, 0.225)

    #: Samples a second of the waveform.
    sample_rate: int = 16000
    #: Window of the spectrogram and its step, in milliseconds; the window is padded to `n_fft` samples.
    window_ms: float = 25
    hop_ms: float = 10
    n_fft: int = 1024
    n_mels: int = 128
    #: Lower edge of the lowest band in Hz; the highest band ends at half the sample rate.
    f_min: float = 20
    #: Added to the power before the logarithm: about 100 dB under a full-scale tone.
    mel_floor: float = 1e-6
    #: Of the natural logarithm, measured over VoxCeleb2 speech with the full preset's bands; batch norm takes up
    #: what another corpus or preset differs by.
    mel_mean: float = -2.7
    mel_std: float = 3.7
    #: Normalise by the clip's own mean and deviation instead (see the top of this file).
    clip_normalise: bool = False

    #: A gaze statistic that hardly varies in the training split is divided by this instead of its deviation.
    gaze_std_floor: float = 1e-6
    #: Normalised gaze is limited to ± this many deviations: one lost pupil would outweigh all else.
    gaze_limit: float = 10.0

    #: None: training changes nothing either.
    augmentation: Augmentation | None = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1:
            raise InputError(f"crop is a share of the frame's side, above 0 and at most 1 (got {self.crop}).")
        if self.frame_size < 1 or self.frames < 1:
            raise InputError(f"frame_size and frames must be at least 1 (got {self.frame_size} and {self.frames}).")
        if self.window > self.n_fft:
            raise InputError(f"n_fft must hold the window of {self.window} samples (got {self.n_fft}).")

    @property
    def window(self) -> int:
        """Samples under one window."""
        return round(self.window_ms * self.sample_rate / 1000)

    @property
    def hop(self) -> int:
        """Samples from one window to the next."""
        return round(self.hop_ms * self.sample_rate / 1000)


class Inputs(Mapping[str, Stream]):
    """What the towers take, by the streams' names: ``network(**inputs)``. What was not given is not there.

    ======  ====================================================================================
    video   (B, 3, T, frame_size, frame_size) of `FrontEnd.frame_dtype`, channels last
    audio   (B, 1, n_mels, 1 + samples // hop) float32
    gaze    (B, 103) float32
    others  a member by its name, `models.towers.tower.Masked`, float32
    ======  ====================================================================================
    """

    def __init__(self, streams: Mapping[str, Stream | None]) -> None:
        """``streams``: by their names; those that are None are left out."""
        self._streams = {name: stream for name, stream in streams.items() if stream is not None}

    def __getitem__(self, name: str) -> Stream:
        return self._streams[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._streams)

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def video(self) -> Tensor | None:
        """The frames; None where they were not given."""
        return self._own("video")

    @property
    def audio(self) -> Tensor | None:
        """The log-mel; None where the waveform was not given."""
        return self._own("audio")

    @property
    def gaze(self) -> Tensor | None:
        """The gaze statistics; None where neither they nor frames were given."""
        return self._own("gaze")

    def _own(self, name: str) -> Tensor | None:
        stream = self._streams.get(name)
        return stream if isinstance(stream, Tensor) else None


def given_by(batch: Batch) -> dict[str, Any]:
    """What `FrontEnd` takes of a batch, its seed apart: all that the loader was asked for."""
    return {
        "video": batch.video if batch.video.ndim > 2 else None,
        "audio": batch.audio if batch.audio.shape[1] else None,
        "gaze": batch.gaze,
        "gaze_valid": batch.gaze_valid,
        "members": batch.members,
        "masks": batch.masks,
    }


class FrontEnd(nn.Module):
    """Normalise and, in training mode, augment a batch. It has buffers but nothing to learn.

    Args:
        config: sizes and normalisation.
        gaze_mean, gaze_std: (103,), of the raw statistics over the training split, as in dataset.json. They are kept
            as buffers, so a checkpoint brings its own; without them gaze passes unnormalised.

    Attributes:
        frame_dtype: of the frames that leave, and of the products that resample them: float32, or float16 where a GPU's
            network computes in half precision anyway (`models.training.execution`). Pixels are exact in either, and
            weights rounded to float16 move one by less than half a level.
        gaze_streams: what `Augmentation.gaze_dropout` withholds.
    """

    gaze_mean: Tensor
    gaze_std: Tensor
    mirror_source: Tensor
    mirror_sign: Tensor
    video_mean: Tensor
    video_std: Tensor
    luma: Tensor
    rgb_of_planes: Tensor

    def __init__(
        self,
        config: FrontEndConfig,
        *,
        gaze_mean: Tensor | None = None,
        gaze_std: Tensor | None = None,
        gaze_streams: Collection[str] = ("gaze",),
    ) -> None:
        super().__init__()
        self.config = config
        self.frame_dtype = torch.float32
        self.gaze_streams = frozenset(gaze_streams)
        mean = torch.zeros(GAZE_STATISTICS) if gaze_mean is None else gaze_mean.detach().float().clone()
        std = torch.ones(GAZE_STATISTICS) if gaze_std is None else gaze_std.detach().float().clone()
        if mean.shape != (GAZE_STATISTICS,) or std.shape != (GAZE_STATISTICS,):
            raise InputError(
                f"gaze mean and deviation need {GAZE_STATISTICS} values each (got {mean.shape}, {std.shape})."
            )
        self.register_buffer("gaze_mean", mean)
        self.register_buffer("gaze_std", std)
        # Constants, but buffers too: made anew on a GPU, each would cost a copy that the host waits for.
        source, sign = mirror()
        self.register_buffer("mirror_source", source, persistent=False)
        self.register_buffer("mirror_sign", sign, persistent=False)
        self.register_buffer("video_mean", torch.tensor(config.video_mean), persistent=False)
        self.register_buffer("video_std", torch.tensor(config.video_std), persistent=False)
        self.register_buffer("luma", torch.tensor(_LUMA).repeat(3, 1), persistent=False)
        self.register_buffer("rgb_of_planes", torch.tensor(RGB_OF_PLANES), persistent=False)
        self.mel = MelSpectrogram(
            sample_rate=config.sample_rate,
            n_fft=config.n_fft,
            win_length=config.window,
            hop_length=config.hop,
            f_min=config.f_min,
            n_mels=config.n_mels,
        )
        empty = int((self.mel.mel_scale.fb.amax(0) == 0).sum())
        if empty:
            raise InputError(
                f"{empty} of {config.n_mels} mel bands are narrower than a bin of {config.n_fft} points: "
                "take fewer bands or a longer n_fft."
            )

    def forward(
        self,
        video: Tensor | None = None,
        audio: Tensor | None = None,
        gaze: Tensor | None = None,
        gaze_valid: Tensor | None = None,
        seed: Tensor | None = None,
        members: Mapping[str, Tensor] | None = None,
        masks: Mapping[str, Tensor] | None = None,
    ) -> Inputs:
        """Prepare a batch; a modality that is left out stays out, except that frames without gaze get neutral gaze.

        Args:
            video: (B, T, H, W, 3) uint8 RGB; or (B, T, 3·H/2, W) uint8, luma and halved chroma (I420, see
                `loaders.decode.planes`), which become the same to within a level or two.
            audio: (B, samples) float32 in −1 … 1.
            gaze: (B, 103) float32, raw.
            gaze_valid: (B,) bool; all by default. Gaze that is not valid becomes zeros: the training split's mean.
            seed: (B,) int64, needed in training mode with augmentation; rows with equal seeds are changed alike.
            members, masks: as `loaders.Batch` has them, of any number type; they leave as `Masked`, not normalised.

        Raises:
            ValueError: shapes or types are not these, or the seed is missing.
        """
        augment = self.config.augmentation if self.training else None
        if augment is not None and seed is None:
            raise ValueError("in training mode the front end augments, and needs the batch's seed.")
        # Whatever surrounds it: autocast would put the matrix products into bfloat16, whose eight bits of mantissa are
        # too few for a logarithm of power over 100 dB, and for frames fewer than the pixels came with.
        further = {} if members is None else dict(members)
        of_batch = (video, audio, gaze, *further.values(), self.gaze_mean)
        device = next(tensor for tensor in of_batch if tensor is not None).device
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            drawn = None if augment is None or seed is None else Draws.of(seed)
            frames, change = None, None
            if video is not None:
                change = self._frame_change(video, augment, drawn)
                frames = self._frames(video, change)
                if gaze is None:
                    gaze = self.gaze_mean.expand(len(video), -1)
                    gaze_valid = torch.zeros(len(video), dtype=torch.bool, device=video.device)
            kept: Tensor | None = None
            if augment is not None and drawn is not None and augment.gaze_dropout > 0:
                kept = ~draw_withheld(augment, drawn)
                gaze_valid = kept if gaze_valid is None else gaze_valid & kept
            of_gaze = self.gaze_streams
            return Inputs(
                {
                    "video": frames,
                    "audio": None if audio is None else self._log_mel(audio, augment, seed, drawn),
                    "gaze": None if gaze is None else self._gaze(gaze, gaze_valid, change),
                    **{
                        name: _masked(values, (masks or {})[name], kept if name in of_gaze else None, change)
                        for name, values in further.items()
                    },
                }
            )

    def _frame_change(self, video: Tensor, augment: Augmentation | None, drawn: Draws | None) -> FrameChange:
        height, width = frame_size_of(video)
        side = self._crop_side(height, width)
        room = (height - side, width - side)
        if augment is None or drawn is None:
            return no_frame_change(len(video), room, video.device)
        return draw_frame_change(augment, drawn, room)

    def _crop_side(self, height: int, width: int) -> int:
        return max(1, round(self.config.crop * min(height, width)))

    def _frames(self, video: Tensor, change: FrameChange) -> Tensor:
        """Crop, resize, mirror, colour, normalise: RGB or planes → (B, 3, frames, size, size), channels last.

        Two products: one resamples the rows; the other takes what then is one row to a row of the result, (size·3,):
        columns, mirroring and colours at once. Ones beside the row take up what the colours add. Of RGB the row is
        (W·3,); of planes, whose rows are resampled each by themselves, it is luma and both kinds of chroma, (2·W,).
        """
        config = self.config
        size = config.frame_size
        batch, given = video.shape[:2]
        height, width = frame_size_of(video)
        if given != config.frames:
            video = video[:, spaced(given, config.frames)]
        side = self._crop_side(height, width)
        if height == width:
            rows, columns = resampling(torch.cat([change.top, change.left]), side, size, width).chunk(2)
        else:
            rows, columns = resampling(change.top, side, size, height), resampling(change.left, side, size, width)
        columns = torch.where(change.flip[:, None, None], columns.flip(1), columns)
        matrix, offset, limits = self._colour(change)
        if video.ndim == 5:
            layers = [_Layer(rows, columns, matrix)]
        else:
            matrix = matrix @ self.rgb_of_planes
            offset = offset - NO_COLOUR * matrix[:, None, :, 1:].sum(3)
            halved = on_chroma(rows), on_chroma(columns)
            layers = [
                _Layer(rows, columns, matrix[:, :, :1]),
                *(_Layer(*halved, matrix[:, :, k, None]) for k in (1, 2)),
            ]
        places = _side_by_side([layer.wide for layer in layers])
        wide = places[-1].stop
        across = torch.zeros(batch, wide + _ONES, size * 3, dtype=self.frame_dtype, device=video.device)
        for layer, place in zip(layers, places, strict=True):
            layer.write_across(across[:, place])
        across[:, wide] = offset.expand(-1, size, -1).flatten(1)
        rows_of = [layer.rows.to(self.frame_dtype) for layer in layers]
        out = torch.empty(batch, config.frames, size, size, 3, dtype=self.frame_dtype, device=video.device)
        together = _CLIPS_TOGETHER if video.device.type == "cuda" else 1
        for first in range(0, batch, together):
            some = slice(first, first + together)
            frames = video[some].to(self.frame_dtype).flatten(0, 1)
            pixels = [frames.flatten(2)] if video.ndim == 5 else planes_of(frames)
            short = frames.new_empty(len(frames), size, wide + _ONES)
            short[:, :, wide:] = 1
            for weights, plane, place in zip(rows_of, pixels, places, strict=True):
                torch.bmm(weights[some].repeat_interleave(config.frames, 0), plane, out=short[:, :, place])
            short = short.view(-1, config.frames * size, wide + _ONES)
            torch.bmm(short, across[some], out=out[some].view(len(short), config.frames * size, size * 3))
        # One limit for all colours is a number, and a kernel that reads many pixels at a time.
        return out.clamp_(*limits).permute(0, 4, 1, 2, 3)

    def _colour(self, change: FrameChange) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | tuple[float, float]]:
        """Saturation, brightness and normalisation as one affine map of RGB in 0 … 255, and its limits.

        Returns:
            matrix (B, 3, 3); offset (B, 1, 3); the least and the greatest value, (3,) or one for all: after the map,
            values are limited to what black and white would be, so that no image leaves the range that images have.
        """
        saturation = change.saturation[:, None, None]
        own = torch.eye(3, device=saturation.device)
        matrix = (saturation * own + (1 - saturation) * self.luma) / (255 * self.video_std[:, None])
        offset = (change.brightness[:, None, None] - self.video_mean) / self.video_std
        mean, std = set(self.config.video_mean), set(self.config.video_std)
        if len(mean) == len(std) == 1:
            middle, spread = mean.pop(), std.pop()
            return matrix, offset, (-middle / spread, (1 - middle) / spread)
        low, high = (((value - self.video_mean) / self.video_std).to(self.frame_dtype) for value in (0, 1))
        return matrix, offset, (low, high)

    def _log_mel(self, audio: Tensor, augment: Augmentation | None, seed: Tensor | None, drawn: Draws | None) -> Tensor:
        """(B, samples) → (B, 1, n_mels, frames), normalised; 0 is the mean."""
        config = self.config
        if not audio.is_floating_point() or audio.ndim != 2:
            raise ValueError(f"audio must be (B, samples) of floats (got {tuple(audio.shape)}, {audio.dtype}).")
        if audio.shape[1] <= config.n_fft // 2:
            raise ValueError(f"audio must be longer than {config.n_fft // 2} samples (got {audio.shape[1]}).")
        audio = audio.float()
        if augment is not None and drawn is not None:
            audio = audio * draw_gain(augment, drawn)[:, None]
        spectrogram: Tensor = torch.log(self.mel(audio) + config.mel_floor)
        if config.clip_normalise:
            std, mean = torch.std_mean(spectrogram, dim=(1, 2), keepdim=True)
            spectrogram = (spectrogram - mean) / std.clamp(min=1e-3)
        else:
            spectrogram = (spectrogram - config.mel_mean) / config.mel_std
        if augment is not None and augment.spectrogram is not None and seed is not None:
            spectrogram = spectrogram * draw_kept(augment.spectrogram, seed, *spectrogram.shape[1:])
        return spectrogram[:, None]

    def _gaze(self, gaze: Tensor, valid: Tensor | None, change: FrameChange | None) -> Tensor:
        """(B, 103) raw → (B, 103) in deviations from the mean; zeros where not valid."""
        if gaze.ndim != 2 or gaze.shape[1] != GAZE_STATISTICS:
            raise ValueError(f"gaze must be (B, {GAZE_STATISTICS}) (got {tuple(gaze.shape)}).")
        gaze = gaze.float()
        if change is not None:
            mirrored = gaze[:, self.mirror_source] * self.mirror_sign
            gaze = torch.where(change.flip[:, None], mirrored, gaze)
        limit = self.config.gaze_limit
        gaze = (gaze - self.gaze_mean) / self.gaze_std.clamp(min=self.config.gaze_std_floor)
        gaze = gaze.clamp(-limit, limit)
        return gaze if valid is None else torch.where(valid[:, None], gaze, 0.0)


def _masked(values: Tensor, mask: Tensor, kept: Tensor | None, change: FrameChange | None) -> Masked:
    """A member as the towers take it; zeros where there is none."""
    if kept is not None:
        mask = mask & kept.view(-1, *(1,) * (mask.ndim - 1))
    values = torch.where(mask.view(*mask.shape, *(1,) * (values.ndim - mask.ndim)), values.float(), 0.0)
    return Masked(values, mask, None if change is None else change.flip)


@dataclass(frozen=True, slots=True)
class _Layer:
    """What is resampled as one: all of RGB, or a plane."""

    rows: Tensor  #: (B, size, rows of the layer), weights
    columns: Tensor  #: (B, size, columns of the layer), weights
    matrix: Tensor  #: (B, 3, channels), what each of the layer's adds to red, green and blue

    @property
    def wide(self) -> int:
        """Numbers in a row of the layer."""
        return self.columns.shape[2] * self.matrix.shape[2]

    def write_across(self, out: Tensor) -> None:
        """Fill (B, wide, size·3): how much a channel of a column has of a channel of a column of the result."""
        batch, size, columns = self.columns.shape
        torch.mul(
            self.columns.transpose(1, 2)[:, :, None, :, None],
            self.matrix.transpose(1, 2)[:, None, :, None, :],
            out=out.view(batch, columns, -1, size, 3),
        )


def _side_by_side(lengths: Sequence[int]) -> list[slice]:
    return [slice(end - length, end) for length, end in zip(lengths, accumulate(lengths), strict=True)]


def frame_size_of(video: Tensor) -> tuple[int, int]:
    """Height and width of frames (B, T, H, W, 3) RGB, or (B, T, 3·H/2, W) planes. Raises ValueError for all else."""
    if video.dtype == torch.uint8 and video.ndim == 5 and video.shape[4] == 3:
        return video.shape[2], video.shape[3]
    if video.dtype == torch.uint8 and video.ndim == 4 and video.shape[2] % 6 == video.shape[3] % 2 == 0:
        return video.shape[2] * 2 // 3, video.shape[3]
    raise ValueError(
        f"video must be uint8 (B, T, H, W, 3), or (B, T, 3·H/2, W) of planes (got {tuple(video.shape)}, {video.dtype})."
    )


def spaced(given: int, wanted: int) -> slice | list[int]:
    """Which of `given` frames to take so that `wanted` are spread evenly over the clip: the middle of equal parts."""
    if wanted > given:
        raise ValueError(f"the front end is set to {wanted} frames, and the batch has {given}.")
    if given % wanted == 0:
        step = given // wanted
        return slice(step // 2, None, step)
    return evenly_spaced(given, wanted)


def resampling(first: Tensor, length: int, out: int, size: int) -> Tensor:
    """Weights that cut `length` of `size` samples from `first` on, and resize them to `out`, as one matrix product.

    A triangle filter about each output sample's centre, as wide as the reduction (so nothing is skipped) and never
    narrower than linear interpolation: what Pillow and torch call antialiased bilinear. Without resizing it is exactly
    the crop.

    Args:
        first: (B,) int64, where each crop begins.

    Returns:
        (B, out, size) float32; rows sum to 1.
    """
    scale = length / out
    steps = torch.arange(out, device=first.device, dtype=torch.float32)
    centres = first[:, None] + (steps + 0.5) * scale
    # A crop is all there is: samples outside it do not exist for the filter.
    index = torch.arange(size, device=first.device)
    inside = (index >= first[:, None]) & (index < first[:, None] + length)
    weight = 1 - (index + 0.5 - centres[:, :, None]).abs() / max(scale, 1.0)
    weight = weight.clamp(min=0) * inside[:, None, :]
    return weight / weight.sum(2, keepdim=True)

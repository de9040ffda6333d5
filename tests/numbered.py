"""Films that say of each moment which it is: pictures carry their number; sound is like itself at no other time.

So what has been read can be judged without a second reader of files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from numpy.typing import NDArray

RATE = 48000
SIDE, SQUARES = 64, 4  # pixels; squares across and down
PICTURES = {
    "h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "mpeg4": "mpeg4", "mpeg2": "mpeg2video",
    "mpeg1": "mpeg1video", "mjpeg": "mjpeg"
}  # fmt: skip
SOUND = {"avi": "pcm_s16le", "webm": "libopus", "mpg": "mp2"}  # AAC in others
OPTIONS = {
    "h264": {"bf": "3", "g": "25"},
    "hevc": {"x265-params": "log-level=none:bframes=4:keyint=25:pools=1:frame-threads=1"},
    "vp9": {"cpu-used": "8", "deadline": "realtime"},
    "mpeg4": {"bf": "2", "g": "25"},
    "mpeg2": {"bf": "2", "g": "12"},
    "mpeg1": {"bf": "2", "g": "12"},
    "mjpeg": {},
}


def numbered(number: int) -> NDArray[np.uint8]:
    """(64, 64, 3): eight squares that are the number's bits, and eight that are their opposites."""
    bits = [number >> bit & 1 for bit in range(8)]
    squares = np.array([*bits, *(1 - bit for bit in bits)]).reshape(SQUARES, SQUARES)
    grey = np.kron(squares, np.ones((SIDE // SQUARES,) * 2)) * 200 + 28
    return np.repeat(grey.astype(np.uint8)[..., None], 3, 2)


def number_of(frame: NDArray[np.uint8]) -> int:
    """The number that a picture carries; -1: it is no whole picture."""
    side = frame.shape[0] // SQUARES
    levels = frame.mean(2).reshape(SQUARES, side, SQUARES, side).mean((1, 3)).ravel()
    bits, opposites = levels[:8] > 128, levels[8:] > 128
    if (bits == opposites).any() or (np.abs(levels - 128) < 40).any():
        return -1
    return int((bits * 2 ** np.arange(8)).sum())


def rustle(seconds: float) -> NDArray[np.float32]:
    """(samples,) of noise below 3 kHz, the beginning of which does not depend on how long it lasts."""
    noise = np.random.default_rng(2).normal(size=round(seconds * RATE) + 512)
    at = np.arange(-256, 257) / RATE
    smooth = np.convolve(noise, np.sinc(6000 * at) * np.hanning(513), "valid")
    return np.asarray((0.2 * smooth / 2.83).clip(-0.95, 0.95), np.float32)


def delays_of(audio: NDArray[np.int16], sample_rate: int) -> NDArray[np.float64]:
    """By how many seconds each quarter of a second of `rustle` is late; NaN where it is not from around this time."""
    original = rustle(len(audio) / sample_rate + 1)[:: RATE // sample_rate].astype(np.float64)
    block, reach = sample_rate // 4, sample_rate // 2
    padded = np.concatenate([np.zeros(reach), original, np.zeros(reach + block)])
    delays = []
    for at in range(0, len(audio) - block + 1, block):
        heard = audio[at : at + block] / 32768.0
        around = padded[at : at + 2 * reach + block]
        likeness = np.correlate(around, heard, "valid") if heard.any() else np.zeros(2 * reach + 1)
        best = int(np.argmax(likeness))
        there = around[best : best + block]
        alike = likeness[best] / (np.linalg.norm(there) * np.linalg.norm(heard) + 1e-9)
        delays.append((reach - best) / sample_rate if alike > 0.7 else np.nan)
    return np.array(delays)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """What of a film is written, and with which times.

    starts: when pictures begin, in ticks of `time_base` after the film's beginning; picture i carries number i.
    first: the first picture that is written; the sound begins with it.
    picture_offset, sound_offset: seconds that are added to the times that are written.
    pauses: (number, seconds): before this picture so much time is left out, in pictures and sound.
    """

    starts: Sequence[int]
    time_base: Fraction = Fraction(1, 25)
    seconds: float = 3.0  # at which the sound ends
    first: int = 0
    picture_offset: float = 0.0
    sound_offset: float = 0.0
    pause: tuple[int, float] | None = None
    options: dict[str, str] = field(default_factory=dict)  # of the container


def write_moments(path: Path, moments: Moments, *, codec: str = "h264") -> Path:
    """A file of numbered pictures, and the sound of their time. The suffix decides the container."""
    base, began = moments.time_base, moments.starts[moments.first] * moments.time_base
    late, wait = moments.pause or (len(moments.starts), 0.0)
    late_at = float(moments.starts[late] * base) if moments.pause else moments.seconds
    with av.open(str(path), "w", options=moments.options) as container:
        video = cast(av.VideoStream, container.add_stream(PICTURES[codec], rate=1 / base, options=dict(OPTIONS[codec])))
        video.width = video.height = SIDE
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        video.codec_context.time_base = base
        video.codec_context.thread_count = 1
        video.bit_rate = 1_500_000
        audio = cast(av.AudioStream, container.add_stream(SOUND.get(path.suffix[1:], "aac"), rate=RATE, layout="mono"))
        audio.bit_rate = 128_000
        packets = []
        for number in range(moments.first, len(moments.starts)):
            frame = av.VideoFrame.from_ndarray(numbered(number), "rgb24").reformat(format=video.pix_fmt)
            added = moments.picture_offset + wait * (number >= late)
            frame.pts, frame.time_base = round(moments.starts[number] - began / base + Fraction(added) / base), base
            packets += video.encode(frame)
        packets += video.encode(None)
        container.mux(packets)
        sound = rustle(moments.seconds)[round(began * RATE) :]
        if path.suffix == ".avi":
            # AVI's time is that of decoding, which begins before the first picture is shown. Its sound begins at once.
            lead = -float((packets[0].dts or 0) * base)
            sound = np.concatenate([np.zeros(round(lead * RATE), np.float32), sound])
        resampler = av.AudioResampler((audio.codec_context.codec.audio_formats or [])[0].name, "mono", RATE)
        for at in range(0, len(sound), 960):
            piece = av.AudioFrame.from_ndarray(sound[None, at : at + 960], "fltp", "mono")
            added = moments.sound_offset + wait * (at / RATE >= late_at)
            piece.sample_rate, piece.time_base, piece.pts = RATE, Fraction(1, RATE), at + round(added * RATE)
            for resampled in resampler.resample(piece):
                container.mux(audio.encode(resampled))
        container.mux(audio.encode(None))
    return path


def wrong_frames(frames: NDArray[np.uint8], fps: float, starts: Sequence[Fraction]) -> list[tuple[int, int]]:
    """(frame, number that it shows) of each frame that shows what was not on screen at its time."""
    rounded = Fraction(16, 10000)  # containers round to milliseconds; what starts a millisecond late is on time
    ends = [*starts[1:], Fraction(10**6)]
    shown = [number_of(frame) for frame in frames]
    return [
        (k, number)
        for k, number in enumerate(shown)
        if not 0 <= number < len(starts) or not starts[number] - rounded <= k / Fraction(fps) < ends[number]
    ]

"""Containers, codecs and frame rates against each other: what is stored is what was shown and heard at that time.

Nothing that reads files has a say in what is right: each picture carries its number as black and white squares, and the
sound is noise that is like itself at no other time. Both are read off what `read_media` gives.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from sharding.media import Media, MediaError, read_media

SECONDS = 3
RATE = 48000
SIDE, SQUARES = 64, 4  # pixels; squares across and down
PICTURES = {
    "h264": "libx264",
    "hevc": "libx265",
    "vp9": "libvpx-vp9",
    "mpeg4": "mpeg4",
    "mpeg2": "mpeg2video",
    "mjpeg": "mjpeg",
}
SOUND = {"avi": "pcm_s16le", "webm": "libopus", "mpg": "mp2"}  # AAC in others
OPTIONS = {
    "h264": {"bf": "3", "g": "25"},
    "hevc": {"x265-params": "log-level=none:bframes=4:keyint=25:pools=1:frame-threads=1"},
    "vp9": {"cpu-used": "8", "deadline": "realtime"},
    "mpeg4": {"bf": "2", "g": "25"},
    "mpeg2": {"bf": "2", "g": "12"},
    "mjpeg": {},
}
CONTAINERS = ("mp4", "mov", "mkv", "avi", "ts", "flv", "webm", "mpg")
RATES = {"25": Fraction(25), "29.97": Fraction(30000, 1001), "variable": None}

UNWRITTEN = "FFmpeg does not write it"
QUICK = [
    ("avi", "h264", "25"),
    ("avi", "mpeg4", "29.97"),
    ("mp4", "h264", "variable"),
    ("mkv", "hevc", "29.97"),
    ("flv", "h264", "29.97"),
    ("mpg", "mpeg2", "25"),
]


def starts_of(rate: str) -> tuple[Fraction, list[int]]:
    """A time base, and when pictures begin, in its ticks."""
    fps = RATES[rate]
    if fps is not None:
        return 1 / fps, list(range(round(SECONDS * fps)))
    gaps = np.random.default_rng(5).integers(1, 5, 200)
    starts = np.concatenate([[0], np.cumsum(gaps)])
    return Fraction(1, 50), [int(start) for start in starts if start < SECONDS * 50]


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
    """(samples,) of noise below 3 kHz."""
    spectrum = np.fft.rfft(np.random.default_rng(2).normal(size=round(seconds * RATE)))
    spectrum[round(3000 * seconds) :] = 0
    noise = np.fft.irfft(spectrum)
    return np.asarray((0.2 * noise / noise.std()).clip(-0.95, 0.95), np.float32)


def delays_of(audio: NDArray[np.int16], sample_rate: int, seconds: float) -> NDArray[np.float64]:
    """By how many seconds each quarter of a second of sound is late; NaN where it is not that of around this time."""
    original = rustle(seconds)[:: RATE // sample_rate].astype(np.float64)
    block, reach = sample_rate // 4, sample_rate // 2
    padded = np.concatenate([np.zeros(reach), original, np.zeros(reach + block)])
    delays = []
    for at in range(0, min(len(audio), len(original)) - block + 1, block):
        heard = audio[at : at + block] / 32768.0
        around = padded[at : at + 2 * reach + block]
        likeness = np.correlate(around, heard, "valid") if heard.any() else np.zeros(2 * reach + 1)
        best = int(np.argmax(likeness))
        there = around[best : best + block]
        alike = likeness[best] / (np.linalg.norm(there) * np.linalg.norm(heard) + 1e-9)
        delays.append((reach - best) / sample_rate if alike > 0.7 else np.nan)
    return np.array(delays)


def write(path: Path, codec: str, time_base: Fraction, starts: Sequence[int], *, first: int = 0) -> Path:
    """A file with these numbered pictures, numbered from `first`, and the sound of their time."""
    with av.open(str(path), "w") as container:
        video = cast(
            av.VideoStream, container.add_stream(PICTURES[codec], rate=1 / time_base, options=dict(OPTIONS[codec]))
        )
        video.width = video.height = SIDE
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        video.codec_context.time_base = time_base
        video.codec_context.thread_count = 1
        video.bit_rate = 1_500_000
        audio = cast(av.AudioStream, container.add_stream(SOUND.get(path.suffix[1:], "aac"), rate=RATE, layout="mono"))
        audio.bit_rate = 128_000
        packets = []
        for number, start in enumerate(starts):
            frame = av.VideoFrame.from_ndarray(numbered(first + number), "rgb24").reformat(format=video.pix_fmt)
            frame.pts, frame.time_base = start, time_base
            packets += video.encode(frame)
        packets += video.encode(None)
        container.mux(packets)
        sound = rustle(SECONDS)
        if path.suffix == ".avi":
            # AVI's time is that of decoding, which begins before the first picture is shown. Its sound begins at once.
            lead = -float((packets[0].dts or 0) * time_base)
            sound = np.concatenate([np.zeros(round(lead * RATE), np.float32), sound])
        resampler = av.AudioResampler((audio.codec_context.codec.audio_formats or [])[0].name, "mono", RATE)
        for at in range(0, len(sound), 960):
            piece = av.AudioFrame.from_ndarray(sound[None, at : at + 960], "fltp", "mono")
            piece.sample_rate, piece.time_base, piece.pts = RATE, Fraction(1, RATE), at
            for resampled in resampler.resample(piece):
                container.mux(audio.encode(resampled))
        container.mux(audio.encode(None))
    return path


def wrong_frames(media: Media, starts: Sequence[Fraction]) -> list[tuple[int, int]]:
    """(frame, number that it shows) of each frame that shows what was not on screen at its time."""
    rounded = Fraction(16, 10000)  # containers round to milliseconds, and what starts a millisecond late is on time
    ends = [*starts[1:], Fraction(10**6)]
    shown = [number_of(frame) for frame in media.frames]
    times = [k / Fraction(media.fps) for k in range(len(shown))]
    return [
        (k, number)
        for k, (number, time) in enumerate(zip(shown, times, strict=True))
        if number < 0 or not starts[number] - rounded <= time < ends[number] + rounded
    ]


def outcome(tmp_path: Path, container: str, codec: str, rate: str) -> str:
    """ "right", or why there is nothing; fails where something is wrong."""
    time_base, ticks = starts_of(rate)
    path = tmp_path / f"{codec}.{container}"
    try:
        write(path, codec, time_base, ticks)
    except (av.FFmpegError, ValueError) as error:
        return f"{UNWRITTEN}: {error}"
    try:
        media = read_media(path, fps=25, size=SIDE)
    except MediaError as error:
        return f"refused, {error}"
    starts = [tick * time_base for tick in ticks]
    assert wrong_frames(media, starts) == []
    assert len(media.frames) >= 25 * SECONDS - 3
    delays = delays_of(media.audio, media.sample_rate, SECONDS)
    assert len(delays) >= 4 * SECONDS - 1
    assert np.abs(delays).max() <= 0.010, delays
    return "right"


@pytest.mark.parametrize(("container", "codec", "rate"), QUICK)
def test_frames_and_sound_are_those_of_their_time(tmp_path: Path, container: str, codec: str, rate: str) -> None:
    assert outcome(tmp_path, container, codec, rate) == "right"

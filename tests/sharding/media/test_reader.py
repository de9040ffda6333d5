"""Frames and sound of real files: where they lie in time, what they look like, and how reading fails."""

import itertools
import math
import pickle
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import cast

import av
import av.stream
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sharding.media.reader import (
    ON_TIME,
    Media,
    MediaError,
    centre_square,
    crop_resize,
    inside,
    on_clock,
    read_frames,
    read_media,
)
from tests.numbered import Moments, delays_of, number_of, write_moments, wrong_frames

REAL = Path(__file__).parents[3] / "../shared/real"
needs_real_clips = pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real is not here")

NTSC = Fraction(30000, 1001)
RATES = [Fraction(2213, 100), Fraction(24), Fraction(25), NTSC, Fraction(30)]
FINE = 200.0  # a clock fine enough to measure by


def regular(fps: Fraction, seconds: float = 1.2, start: Fraction = Fraction(0)) -> list[Fraction]:
    return [start + i / fps for i in range(round(seconds * fps))]


def irregular(seconds: float = 1.2) -> list[Fraction]:
    gaps = np.random.default_rng(7).integers(10, 90, 100)
    starts = [Fraction(int(t), 1000) for t in np.concatenate([[0], np.cumsum(gaps)])]
    return [start for start in starts if start < seconds]


def flash(width: int, height: int, white: bool) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 255 if white else 0, np.uint8)


def beep(seconds: float, sample_rate: int, channels: int, since: float, start: float = 0.0) -> NDArray[np.float32]:
    """(channels, samples): a 1 kHz tone from `since` on, in a stream that begins at `start`."""
    t = start + np.arange(round((seconds - start) * sample_rate)) / sample_rate
    tone = np.where(t >= since, 0.5 * np.sin(2 * np.pi * 1000 * (t - since)), 0)
    return np.tile(tone.astype(np.float32), (channels, 1))


def write_media(
    path: Path,
    *,
    pictures: Sequence[NDArray[np.uint8]] = (),
    starts: Sequence[Fraction] = (),
    audio: NDArray[np.float32] | None = None,
    audio_start: Fraction = Fraction(0),
    sample_rate: int = 48000,
    video_codec: str = "libx264",
    audio_codec: str = "aac",
    pix_fmt: str = "yuv420p",
    rotation: tuple[float, bool, bool] | None = None,
    video_options: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """A file with these pictures (RGB) at these times, and this audio (channels, samples) from `audio_start` on."""
    steps = [later - earlier for earlier, later in pairwise(starts)]
    time_base = steps[0] if len(set(steps)) == 1 else Fraction(1, 90000)
    layout = "mono" if audio is None or len(audio) == 1 else "stereo"
    with av.open(str(path), "w", options=options or {}) as container:
        # All streams before the first packet: then the header is written.
        if pictures:
            rate = 1 / time_base if len(set(steps)) == 1 else Fraction(25)
            video = cast(av.VideoStream, container.add_stream(video_codec, rate=rate, options=video_options or {}))
            video.height, video.width, _ = pictures[0].shape
            video.pix_fmt, video.codec_context.time_base = pix_fmt, time_base
            if rotation is not None:
                video.set_display_rotation(rotation[0], hflip=rotation[1], vflip=rotation[2])
        if audio is not None:
            sound = cast(av.AudioStream, container.add_stream(audio_codec, rate=sample_rate, layout=layout))
            formats = sound.codec_context.codec.audio_formats or []
            resampler = av.AudioResampler(formats[0].name, layout, sample_rate)
        for picture, start in zip(pictures, starts, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = round(start / time_base), time_base
            container.mux(video.encode(frame))
        if pictures:
            container.mux(video.encode(None))
        if audio is not None:
            for at in range(0, audio.shape[1], 960):
                samples = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio[:, at : at + 960]), "fltp", layout)
                samples.sample_rate, samples.time_base = sample_rate, Fraction(1, sample_rate)
                samples.pts = at + round(audio_start * sample_rate)
                for piece in resampler.resample(samples):
                    container.mux(sound.encode(piece))
            container.mux(sound.encode(None))
    return path


def write_flash_and_beep(
    path: Path,
    starts: Sequence[Fraction],
    *,
    size: tuple[int, int] = (48, 32),
    audio_start: Fraction = Fraction(0),
    sample_rate: int = 48000,
    channels: int = 1,
    **more: str,
) -> float:
    """A clip that turns white, and beeps, halfway; returns when, in seconds from the first picture."""
    turns = len(starts) // 2
    until = float(starts[-1]) + 0.1
    write_media(
        path,
        pictures=[flash(*size, white=i >= turns) for i in range(len(starts))],
        starts=starts,
        audio=beep(until, sample_rate, channels, float(starts[turns]), float(audio_start)),
        audio_start=audio_start,
        sample_rate=sample_rate,
        **more,  # type: ignore[arg-type]
    )
    return float(starts[turns] - starts[0])


def turns_white(media: Media) -> float:
    return int(np.argmax(media.frames.mean((1, 2, 3)) > 127)) / media.fps


def begins_to_beep(media: Media) -> float:
    return int(np.argmax(np.abs(media.audio.astype(int)) > 0.25 * 32768 * 0.5)) / media.sample_rate


def assert_in_sync(path: Path, at: float, audio_path: Path | None = None) -> Media:
    media = read_media(path, fps=FINE, size=16, audio_path=audio_path)
    assert len(media.audio) == round(len(media.frames) / FINE * 16000)
    assert at - 0.002 <= turns_white(media) <= at + 1 / FINE + 1e-6
    assert begins_to_beep(media) == pytest.approx(at, abs=0.005)
    return media


# --- sync ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", RATES, ids=lambda fps: f"{float(fps):.2f}")
def test_flash_and_beep_stay_together_at_any_frame_rate(tmp_path: Path, fps: Fraction) -> None:
    at = write_flash_and_beep(tmp_path / "clip.mp4", regular(fps))
    media = assert_in_sync(tmp_path / "clip.mp4", at)
    assert media.source_fps == pytest.approx(float(fps), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "video_codec", "audio_codec", "pix_fmt"),
    [
        ("clip.mkv", "libx264", "aac", "yuv420p"),
        ("clip.webm", "libvpx-vp9", "libopus", "yuv420p"),
        ("clip.mov", "mpeg4", "pcm_s16le", "yuv420p"),
        ("clip.mpg", "mpeg1video", "mp2", "yuv420p"),
        ("clip.ts", "libx264", "aac", "yuv420p"),
        ("clip.mp4", "libx264", "libmp3lame", "yuv420p"),
        ("clip.avi", "mjpeg", "pcm_s16le", "yuvj420p"),
        ("clip: 7.mkv", "ffv1", "flac", "yuv444p"),  # and FFmpeg takes what stands before a colon for a protocol
    ],
)
def test_flash_and_beep_stay_together_in_any_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, video_codec: str, audio_codec: str, pix_fmt: str
) -> None:
    at = write_flash_and_beep(
        tmp_path / name, regular(Fraction(25)), video_codec=video_codec, audio_codec=audio_codec, pix_fmt=pix_fmt
    )
    monkeypatch.chdir(tmp_path)
    assert_in_sync(Path(name), at)


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
def test_flash_and_beep_stay_together_at_a_variable_rate(tmp_path: Path, container: str) -> None:
    path = tmp_path / f"clip.{container}"
    assert_in_sync(path, write_flash_and_beep(path, irregular()))


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize(
    ("video_start", "audio_start"), [(Fraction(2, 5), Fraction(0)), (Fraction(0), Fraction(3, 10))]
)
def test_flash_and_beep_stay_together_where_streams_start_apart(
    tmp_path: Path, container: str, video_start: Fraction, audio_start: Fraction
) -> None:
    path = tmp_path / f"clip.{container}"
    at = write_flash_and_beep(path, regular(Fraction(25), start=video_start), audio_start=audio_start)
    assert_in_sync(path, at)


@pytest.mark.parametrize(("sample_rate", "channels"), [(8000, 1), (16000, 2), (44100, 2), (96000, 1)])
def test_flash_and_beep_stay_together_at_any_sample_rate(tmp_path: Path, sample_rate: int, channels: int) -> None:
    at = write_flash_and_beep(tmp_path / "clip.mp4", regular(Fraction(25)), sample_rate=sample_rate, channels=channels)
    assert_in_sync(tmp_path / "clip.mp4", at)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.wav", "pcm_s16le"), ("a.m4a", "aac"), ("a.mp3", "libmp3lame"), ("a.opus", "libopus")]
)
def test_audio_apart_starts_with_the_first_frame(tmp_path: Path, name: str, codec: str) -> None:
    starts = regular(Fraction(25), start=Fraction(2, 5))  # the container's clock means nothing to another file
    at = write_flash_and_beep(tmp_path / "clip.mp4", starts)
    sound = beep(1.3, 48000, 2, at)
    assert_in_sync(tmp_path / "clip.mp4", at, write_media(tmp_path / name, audio=sound, audio_codec=codec))


# --- which picture at which tick ----------------------------------------------------------------------------------

ticks_of_1ms = st.lists(st.integers(0, 3000), min_size=1, max_size=60)


@settings(deadline=None)
@given(ticks_of_1ms, st.integers(0, 5000), st.sampled_from([1.0, 7.5, 8.0, 25.0, 29.97, 100.0]), st.booleans())
def test_a_tick_gets_the_last_picture_that_has_started(
    starts_ms: list[int], offset_ms: int, fps: float, in_order: bool
) -> None:
    starts_ms = sorted(starts_ms) if in_order else starts_ms
    starts = [(ms + offset_ms) / 1000 for ms in starts_ms]
    shown = [(k, i) for ticks, i in on_clock(((s, s + 0.04, i) for i, s in enumerate(starts)), fps) for k in ticks]
    assert [k for k, _ in shown] == list(range(len(shown)))  # every tick once, in order
    on_time = [i for i, start in enumerate(starts) if start == max(starts[: i + 1])]  # the others come too late
    end = max(starts) + 0.04 - starts[0]
    assert (len(shown) - 1) / fps < end <= len(shown) / fps + ON_TIME + 1e-9
    for k, i in shown:
        assert i in on_time
        assert starts[i] - starts[0] <= k / fps + ON_TIME + 1e-9
        following = [j for j in on_time if j > i]
        assert not following or starts[following[0]] - starts[0] > k / fps + ON_TIME - 1e-9


@settings(deadline=None)
@given(st.integers(1, 400), st.sampled_from([25.0, 30.0, 30000 / 1001, 60.0]), st.integers(0, 999))
def test_timestamps_in_whole_milliseconds_lose_no_picture(count: int, fps: float, first_ms: int) -> None:
    starts = [round(first_ms + 1000 * i / fps) / 1000 for i in range(count)]
    shown = [(ticks, i) for ticks, i in on_clock(((s, s + 1 / fps, i) for i, s in enumerate(starts)), fps)]
    assert shown == [(range(i, i + 1), i) for i in range(count)]


@pytest.mark.parametrize("starts", [*(regular(fps, 2.0) for fps in RATES), irregular(2.0)], ids=len)
@pytest.mark.parametrize("fps", [8.0, 25.0, 40.0])
def test_frames_of_a_file_are_those_on_screen(tmp_path: Path, starts: list[Fraction], fps: float) -> None:
    """With the default encoder settings, so with pictures that are not decoded in the order of showing."""
    greys = [20 + 3 * i for i in range(len(starts))]
    pictures = [np.full((16, 16, 3), grey, np.uint8) for grey in greys]
    write_media(tmp_path / "clip.mp4", pictures=pictures, starts=starts, video_options={"crf": "4"})
    for k, frame in enumerate(read_frames(tmp_path / "clip.mp4", fps=fps)):
        latest = max(i for i, start in enumerate(starts) if start <= k / Fraction(fps) + Fraction(1, 1000))
        assert abs(int(frame.mean()) - greys[latest]) <= 1, k


def test_the_last_picture_stays_as_long_as_its_file_says(tmp_path: Path) -> None:
    write_picture(tmp_path / "clip.mov", quarters())
    with av.open(str(tmp_path / "clip.mov")) as source, av.open(str(tmp_path / "long.mov"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.dts is not None]
        packets[-1].duration = 6 * (packets[0].duration or 0)
        for packet in packets:
            packet.stream = stream
            target.mux(packet)
    assert len(list(read_frames(tmp_path / "clip.mov", fps=10))) == 10
    assert len(list(read_frames(tmp_path / "long.mov", fps=10))) == 15


# --- audio --------------------------------------------------------------------------------------------------------


def noise(seconds: float) -> NDArray[np.float32]:
    """(1, samples) at 16 kHz, that int16 holds exactly."""
    rng = np.random.default_rng(3)
    return (rng.integers(-9000, 9000, (1, round(seconds * 16000))) / 32768).astype(np.float32)


def grey_video(seconds: float, start: Fraction = Fraction(0)) -> dict[str, list[NDArray[np.uint8]] | list[Fraction]]:
    starts = regular(Fraction(25), seconds, start)
    return {"pictures": [np.full((16, 16, 3), 99, np.uint8)] * len(starts), "starts": starts}


def read_pcm(path: Path, *, video: float, audio: float, video_start: float = 0.0, audio_start: float = 0.0) -> Media:
    """Write and read a clip whose sound, `noise`, passes without loss."""
    write_media(
        path,
        **grey_video(video, Fraction(str(video_start))),  # type: ignore[arg-type]
        audio=noise(audio),
        audio_start=Fraction(str(audio_start)),
        sample_rate=16000,
        audio_codec="pcm_s16le",
    )
    return read_media(path, fps=8, size=16)


def as_int16(audio: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.asarray(audio[0] * 32768, np.int16)


def test_sound_is_cut_where_it_starts_first_and_silent_where_it_starts_last(tmp_path: Path) -> None:
    first = read_pcm(tmp_path / "first.mkv", video=2.0, audio=3.0, video_start=0.4)
    assert np.array_equal(first.audio, as_int16(noise(3.0))[6400:38400])
    last = read_pcm(tmp_path / "last.mkv", video=2.0, audio=1.75, audio_start=0.25)
    assert not last.audio[:4000].any()
    assert np.array_equal(last.audio[4000:], as_int16(noise(1.75)))


@pytest.mark.parametrize(
    ("video", "audio", "frames"), [(2.0, 1.95, 16), (2.0, 1.9, 15), (2.0, 1.0, 8), (1.96, 3.0, 16)]
)
def test_what_one_stream_lacks_is_made_up_for_by_a_codec_frame_at_most(
    tmp_path: Path, video: float, audio: float, frames: int
) -> None:
    media = read_pcm(tmp_path / "clip.mkv", video=video, audio=audio)
    assert len(media.frames) == frames
    assert media.seconds == frames / 8
    assert media.source_seconds == pytest.approx(video)
    expected = np.concatenate([as_int16(noise(audio)), np.zeros(32000, np.int16)])
    assert np.array_equal(media.audio, expected[: frames * 2000])


@pytest.mark.parametrize("sample_rate", [16000, 48000])
def test_a_gap_in_the_sound_stays_a_gap(tmp_path: Path, sample_rate: int) -> None:
    with av.open(str(tmp_path / "gap.mka"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=sample_rate, layout="mono")
        for start in (0, sample_rate * 3 // 2):
            frame = av.AudioFrame.from_ndarray(np.full((1, sample_rate // 2), 999, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = sample_rate, start
            container.mux(stream.encode(frame))
    write_media(tmp_path / "clip.mp4", **grey_video(2.0))  # type: ignore[arg-type]
    media = read_media(tmp_path / "clip.mp4", fps=8, size=16, audio_path=tmp_path / "gap.mka")
    expected = np.repeat([999, 0, 0, 999], 8000)
    # A resampler's filter rings where the sound starts and stops: up to half the level, for some samples.
    assert np.abs(media.audio - expected).max() <= (0 if sample_rate == 16000 else 500)
    far = np.convolve(np.abs(np.diff(expected, prepend=0, append=0)), np.ones(50), "same")[:-1] == 0
    assert np.abs(media.audio - expected)[far].max() <= 1


def test_a_moment_of_sound_counts_as_silence(tmp_path: Path) -> None:
    write_media(tmp_path / "clip.mp4", **grey_video(1.0))  # type: ignore[arg-type]
    tick = write_media(tmp_path / "tick.wav", audio=beep(5 / 48000, 48000, 1, 0), audio_codec="pcm_s16le")
    media = read_media(tmp_path / "clip.mp4", fps=25, size=16, audio_path=tick)
    assert len(media.frames) == 1
    assert len(media.audio) == 640


def test_a_change_of_channels_within_the_sound(tmp_path: Path) -> None:
    mono = write_media(tmp_path / "mono.aac", audio=beep(1.024, 16000, 1, 0.5), sample_rate=16000)
    stereo = write_media(tmp_path / "stereo.aac", audio=beep(1.024, 16000, 2, 0.5), sample_rate=16000)
    (tmp_path / "both.aac").write_bytes(mono.read_bytes() + stereo.read_bytes())
    write_media(tmp_path / "clip.mp4", **grey_video(2.0))  # type: ignore[arg-type]
    media = read_media(tmp_path / "clip.mp4", fps=8, size=16, audio_path=tmp_path / "both.aac")
    loud = np.abs(media.audio.astype(int)).reshape(-1, 1000).max(1) > 8000
    assert (loud[11:16].all(), loud[18:24].any(), loud[29:].all()) == (True, False, True)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left = beep(2.0, 16000, 2, 0.0)
    left[1] = 0
    write_media(
        tmp_path / "clip.mkv",
        **grey_video(2.0),  # type: ignore[arg-type]
        audio=left,
        sample_rate=16000,
        audio_codec="pcm_s16le",
    )
    media = read_media(tmp_path / "clip.mkv", fps=8, size=16)
    assert np.abs(media.audio - left[0] * 32768 / 2).max() <= 1


# --- pictures -----------------------------------------------------------------------------------------------------


def quarters(width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = 255, 0, 0
    picture[: height // 2, width // 2 :] = 0, 255, 0
    picture[height // 2 :, : width // 2] = 0, 0, 255
    return picture


def write_picture(path: Path, picture: NDArray[np.uint8], rotation: tuple[float, bool, bool] | None = None) -> Path:
    """A clip of one second that shows nothing but this picture, without loss, and hums."""
    return write_media(
        path,
        pictures=[picture] * 10,
        starts=regular(Fraction(10), 1.0),
        video_codec="png" if path.suffix == ".mov" else "ffv1",
        pix_fmt="rgb24" if path.suffix == ".mov" else "bgr0",
        rotation=rotation,
        audio=beep(1.0, 16000, 1, 0.0),
        sample_rate=16000,
    )


@pytest.mark.parametrize("flipped", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_pictures_are_turned_upright(tmp_path: Path, degrees: int, flipped: tuple[bool, bool]) -> None:
    path = write_picture(tmp_path / "clip.mov", quarters(), rotation=(degrees, *flipped))
    expected = np.rot90(quarters(), degrees // 90)
    expected = expected[:: -1 if flipped[1] else 1, :: -1 if flipped[0] else 1]
    assert np.array_equal(next(read_frames(path, fps=8)), expected)
    media = read_media(path, fps=8, size=48)
    assert (media.height, media.width) == expected.shape[:2]
    assert np.array_equal(media.frames[0], crop_resize(expected, centre_square(media.width, media.height), 48))


def test_a_picture_is_turned_as_its_exif_data_say(tmp_path: Path) -> None:
    from PIL import Image  # the one writer of EXIF data at hand

    image = Image.fromarray(quarters())
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    image.save(tmp_path / "picture.jpg", exif=exif, quality=95)
    frame = next(read_frames(tmp_path / "picture.jpg", fps=25))
    assert np.abs(frame.astype(int) - np.rot90(quarters(), -1)).mean() < 8


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 2), (33, 17), (7, 301), (224, 224)])
def test_any_size_of_picture(tmp_path: Path, width: int, height: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path = write_picture(tmp_path / "clip.mkv", picture)
    assert np.array_equal(next(read_frames(path, fps=8)), picture)
    media = read_media(path, fps=8, size=224)
    assert media.frames.shape == (8, 224, 224, 3)
    if (width, height) == (224, 224):
        assert np.array_equal(media.frames[3], picture)  # nothing to do, nothing lost


@pytest.mark.parametrize(
    ("colorspace", "color_range", "red", "blue"),
    [(1, 1, 0.2126, 0.0722), (5, 1, 0.299, 0.114), (2, 1, 0.299, 0.114), (1, 2, 0.2126, 0.0722)],
    ids=["709", "601", "unsaid", "709-full"],
)
def test_colours_come_back(tmp_path: Path, colorspace: int, color_range: int, red: float, blue: float) -> None:
    rgb = np.array([200, 60, 120]) / 255
    luma = red * rgb[0] + (1 - red - blue) * rgb[1] + blue * rgb[2]
    chroma = [(rgb[2] - luma) / (2 - 2 * blue), (rgb[0] - luma) / (2 - 2 * red)]
    full = color_range == 2
    levels = [255 * luma if full else 16 + 219 * luma, *(128 + (255 if full else 224) * c for c in chroma)]
    frame = av.VideoFrame(32, 32, "yuv420p")
    frame.pts, frame.colorspace, frame.color_range = 0, colorspace, color_range
    for plane, level in zip(frame.planes, levels, strict=True):
        plane.update(bytes([round(level)]) * plane.buffer_size)
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        video = container.add_stream("ffv1", rate=10)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        video.codec_context.colorspace, video.codec_context.color_range = colorspace, color_range
        container.mux(video.encode(frame))
        container.mux(video.encode(None))
    image = next(read_frames(tmp_path / "clip.mkv", fps=10))
    assert np.abs(image.astype(int) - [200, 60, 120]).max() <= 1


def test_the_centre_is_cropped_by_default_and_boxes_move_it(tmp_path: Path) -> None:
    bands = np.zeros((32, 96, 3), np.uint8)
    for band in range(3):
        bands[:, 32 * band : 32 * band + 32, band] = 255
    path = write_picture(tmp_path / "clip.mkv", bands)
    assert (read_media(path, fps=8, size=32).frames == bands[:, 32:64]).all()
    boxes = np.array([[-50.0, 0, 32, 32], [64, 5, 32, 32], [32, 0, 32, 32]])
    frames = read_media(path, fps=8, size=32, boxes=boxes).frames
    assert (frames[0] == bands[:, :32]).all()
    assert (frames[1] == bands[:, 64:]).all()
    assert (frames[2:] == bands[:, 32:64]).all()  # the last row stands for the rest
    with pytest.raises(ValueError, match="boxes"):
        read_media(path, fps=8, size=32, boxes=boxes[0])


@pytest.mark.parametrize("rotation", [None, (90.0, False, False)])
def test_wide_pixels_are_cropped_to_what_looks_square(
    tmp_path: Path, rotation: tuple[float, bool, bool] | None
) -> None:
    assert centre_square(100, 50) == (25.0, 0.0, 50.0, 50.0)
    assert centre_square(100, 50, Fraction(2)) == (37.0, 0.0, 25.0, 50.0)
    assert centre_square(50, 100, Fraction(1, 2)) == (0.0, 37.0, 50.0, 25.0)
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, 20:44] = 255
    path = write_media(
        tmp_path / "clip.mp4",
        pictures=[picture] * 10,
        starts=regular(Fraction(10), 1.0),
        video_options={"x264-params": "sar=2/1", "crf": "1"},
        rotation=rotation,
        audio=noise(1.0),
        sample_rate=16000,
    )
    assert read_media(path, fps=8, size=48).frames.min() > 200


sizes = st.integers(1, 90)
box_edges = st.floats(-200, 200)
box_sides = st.floats(0.5, 300)


@settings(deadline=None)
@given(box_edges, box_edges, box_sides, box_sides, sizes, sizes)
def test_boxes_move_inside_by_as_little_as_possible(
    x: float, y: float, w: float, h: float, width: int, height: int
) -> None:
    left, top, across, down = inside((x, y, w, h), width, height)
    assert left >= 0
    assert top >= 0
    assert left + across <= width + 1e-9
    assert top + down <= height + 1e-9
    assert across / down == pytest.approx(w / h)
    if w <= width and h <= height:
        assert (across, down) == (w, h)
        assert left == pytest.approx(np.clip(x, 0, width - w))
        assert top == pytest.approx(np.clip(y, 0, height - h))
    assert inside((left, top, across, down), width, height) == pytest.approx((left, top, across, down), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(box_edges, box_edges, box_sides, box_sides, sizes, sizes, st.integers(1, 64))
def test_a_crop_shows_the_box(x: float, y: float, w: float, h: float, width: int, height: int, size: int) -> None:
    """On a slope that is even in each direction, each pixel has the level of the place it shows."""
    across = np.linspace(20, 230, width) if width > 1 else np.array([20.0])
    down = np.linspace(230, 20, height) if height > 1 else np.array([20.0])
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0], frame[..., 1] = np.round(across)[None], np.round(down)[:, None]
    out = crop_resize(frame, (x, y, w, h), size)
    assert out.shape == (size, size, 3)
    assert not out[..., 2].any()
    left, top, w, h = inside((x, y, w, h), width, height)
    middle = (np.arange(size) + 0.5) / size
    # Near the edges the filter has less to average over: a slope is flatter there, by a pixel's step or two.
    step_across, step_down = 210 / max(width - 1, 1), 210 / max(height - 1, 1)
    red = np.interp(left + middle * w - 0.5, np.arange(width), across)
    green = np.interp(top + middle * h - 0.5, np.arange(height), down)
    assert np.abs(out[..., 0] - red[None]).max() <= 2 + step_across * max(1.0, 2 * w / size)
    assert np.abs(out[..., 1] - green[:, None]).max() <= 2 + step_down * max(1.0, 2 * h / size)


def test_a_box_between_pixels_shows_what_lies_between() -> None:
    slope = np.repeat(np.arange(0, 200, 10, dtype=np.uint8), 60).reshape(1, 20, 60)[..., :3].repeat(20, 0)
    assert np.array_equal(crop_resize(slope, (4.0, 0, 8, 8), 8), slope[:8, 4:12])
    assert np.array_equal(crop_resize(slope, (4.5, 0, 8, 8), 8)[:, 1:-1], slope[:8, 5:11] + 5)


def test_shrinking_averages_what_is_too_fine_to_see() -> None:
    checks = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    out = crop_resize(checks, (0, 0, 512, 512), 100).astype(int)
    assert np.abs(out - 127).max() <= 3


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (0, 0, 5, -1), (math.nan, 0, 5, 5), (0, math.inf, 5, 5)])
def test_boxes_without_sense_are_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="box"):
        crop_resize(np.zeros((9, 9, 3), np.uint8), box, 4)


# --- two passes, twice the same -----------------------------------------------------------------------------------


def test_both_passes_give_the_same_frames_and_twice_the_same_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    starts = irregular()
    pictures = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in starts]
    path = write_media(tmp_path / "clip.mp4", pictures=pictures, starts=starts, audio=beep(1.3, 44100, 2, 0.3),
                       sample_rate=44100)  # fmt: skip
    media, again = read_media(path, fps=25, size=32), read_media(path, fps=25, size=32)
    assert np.array_equal(media.frames, again.frames)
    assert np.array_equal(media.audio, again.audio)
    frames = list(read_frames(path, fps=25))
    assert len(media.frames) <= len(frames) <= len(media.frames) + 2
    assert np.array_equal(media.frames, frames[: len(media.frames)])


# --- what cannot be read ------------------------------------------------------------------------------------------


def reason(path: Path, **more: float | Path) -> str:
    with pytest.raises(MediaError) as caught:
        read_media(path, fps=8, size=16, **more)  # type: ignore[arg-type]
    assert caught.value.detail
    assert "\n" not in str(caught.value)
    return caught.value.reason


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip with something to see, its index in front, so that a part of it opens."""
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (32, 48, 3), dtype=np.uint8) for _ in range(50)]
    return write_media(
        tmp_path_factory.mktemp("media") / "whole.mp4",
        pictures=pictures,
        starts=regular(Fraction(25), 2.0),
        audio=np.tile(noise(2.0), (1, 1)),
        sample_rate=16000,
        options={"movflags": "faststart"},
    )


def test_files_that_are_no_media(tmp_path: Path) -> None:
    assert reason(tmp_path / "none.mp4") == "missing"
    assert reason(tmp_path) == "missing"
    (tmp_path / "empty.mp4").touch()
    assert reason(tmp_path / "empty.mp4") == "undecodable"
    (tmp_path / "text.mp4").write_text("not a video\n" * 999)
    assert reason(tmp_path / "text.mp4") == "undecodable"


def test_damage_is_refused_and_silently(tmp_path: Path, whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = whole.read_bytes()
    assert len(read_media(whole, fps=8, size=16).frames) == 16
    hurt, headless = tmp_path / "hurt.mp4", tmp_path / "headless.mp4"
    middle = len(data) // 2
    hurt.write_bytes(
        data[:middle] + bytes(byte ^ 0x5A for byte in data[middle : middle + 4000]) + data[middle + 4000 :]
    )
    headless.write_bytes(data[len(data) // 3 :])
    with av.open(str(whole)) as container:
        packet = list(container.demux(video=0))[20]
    assert packet.pos is not None
    blank = tmp_path / "blank.mp4"  # FFmpeg paints over such damage, and goes on
    half, stop = packet.pos + packet.size // 2, packet.pos + packet.size
    blank.write_bytes(data[:half] + bytes(stop - half) + data[stop:])
    for path in (hurt, headless, blank):
        assert reason(path) == "undecodable"
    with pytest.raises(MediaError, match="undecodable"):
        list(read_frames(hurt, fps=8))
    assert capfd.readouterr() == ("", "")


def test_titles_in_an_unknown_encoding_do_no_harm(tmp_path: Path, whole: Path) -> None:
    assert b"Lavf" in whole.read_bytes()
    (tmp_path / "clip.mp4").write_bytes(whole.read_bytes().replace(b"Lavf", b"\xff\xfe\xfd\xfc"))
    assert len(read_media(tmp_path / "clip.mp4", fps=8, size=16).frames) == 16


def test_a_stream_that_merely_stops_counts_up_to_there(tmp_path: Path, whole: Path) -> None:
    with av.open(str(whole)) as source, av.open(str(tmp_path / "clip.mkv"), "w") as target:
        streams = [target.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    data = (tmp_path / "clip.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 2 // 3])
    assert 4 < len(read_media(tmp_path / "cut.mkv", fps=8, size=16).frames) < 16


@pytest.mark.parametrize("part", [0.5, 0.62, 0.83])
@pytest.mark.parametrize("name", ["film.mp4", "film.flv", "film.ts", "film.avi", "film.mpg"])
def test_what_is_whole_of_a_file_that_was_cut_short_is_used(tmp_path: Path, name: str, part: float) -> None:
    """In mid-packet as a rule, and before pictures that were to be shown between those that are there."""
    options = {"movflags": "faststart"} if name == "film.mp4" else {}
    film = Moments(starts=range(75), options=options)
    path = write_moments(tmp_path / name, film, codec="mpeg2" if name == "film.mpg" else "h264")
    data = path.read_bytes()
    index = data.find(b"mdat") if name == "film.mp4" else 0
    cut = path.with_stem("cut")
    cut.write_bytes(data[: index + round((len(data) - index) * part)])
    media = read_media(cut, fps=25, size=64)
    assert wrong_frames(media.frames, 25, regular(Fraction(25), 3.0)) == []
    assert np.nanmax(np.abs(delays_of(media.audio, 16000))) <= 0.01
    assert 75 * part - (14 if part < 1 else 2) <= len(media.frames) <= 77


@pytest.mark.parametrize("empty", [10, 28])
def test_an_empty_packet_repeats_the_picture(tmp_path: Path, empty: int) -> None:
    """As Theora's do. The last ones, too."""
    path = write_moments(tmp_path / "film.mp4", Moments(starts=range(30), seconds=1.2), codec="mjpeg")
    data = bytearray(path.read_bytes())
    # The table of sizes, ISO/IEC 14496-12, 8.7.3.2. Bytes behind a JPEG's end do no harm.
    table = np.frombuffer(data, ">u4", 30, data.index(b"stsz") + 16)
    table[empty - 1] += table[empty : empty + 2].sum()
    table[empty : empty + 2] = 0
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert [packet.size for packet in container.demux(video=0) if packet.dts is not None].count(0) == 2
    media = read_media(path, fps=25, size=64)
    expected = [i if not empty <= i < empty + 2 else empty - 1 for i in range(30)]
    assert [number_of(frame) for frame in media.frames] == expected


def copied(source: Path, target: Path, *, as_decoded: bool = False) -> Path:
    """The same packets in another container, with the times that FFmpeg makes up for AVI, or with those of decoding."""
    with av.open(str(source)) as film, av.open(str(target), "w") as copy:
        streams = [copy.add_stream_from_template(stream) for stream in film.streams]
        for packet in film.demux():
            if packet.dts is not None:
                if as_decoded and packet.stream.type == "video":
                    packet.pts = packet.dts
                packet.stream = streams[packet.stream_index]
                copy.mux(packet)
    return target


@pytest.mark.parametrize("as_decoded", [False, True])
def test_pictures_with_times_of_decoding_are_shown_in_their_order_or_refused(tmp_path: Path, as_decoded: bool) -> None:
    source = write_moments(tmp_path / "film.avi", Moments(starts=range(75)))
    media = read_media(copied(source, tmp_path / "clip.mov", as_decoded=as_decoded), fps=25, size=64)
    assert len(media.frames) >= 74
    assert wrong_frames(media.frames, 25, regular(Fraction(25), 3.0)) == []
    assert np.abs(delays_of(media.audio, 16000)).max() <= 0.01
    assert reason(copied(source, tmp_path / "clip.mkv", as_decoded=as_decoded)) == "clock"


LATE_STARTS = {
    "clip.mkv": {},
    "clip.webm": {},
    "clip.ts": {},
    "clip.flv": {},
    "clip.mp4": {},
    "fragments.mp4": {"movflags": "frag_keyframe+empty_moov"},
}


@pytest.mark.parametrize("name", LATE_STARTS)
def test_a_clock_may_start_at_any_time(tmp_path: Path, name: str) -> None:
    moments = Moments(
        starts=range(75), picture_offset=3600.0, sound_offset=3600.0, options=cast(dict[str, str], LATE_STARTS[name])
    )
    path = write_moments(tmp_path / name, moments, codec="vp9" if name == "clip.webm" else "h264")
    media = read_media(path, fps=25, size=64)
    assert len(media.frames) == 75
    assert wrong_frames(media.frames, 25, regular(Fraction(25), 3.0)) == []
    assert np.abs(delays_of(media.audio, 16000)).max() <= 0.01
    part = read_media(path, fps=25, size=64, start=1.0, stop=2.0)
    assert [number_of(frame) for frame in part.frames] == list(range(25, 50))
    assert reason(path, max_seconds=2.5) == "too_long"


def test_a_stream_that_is_not_there(tmp_path: Path) -> None:
    mute = write_media(tmp_path / "mute.mp4", **grey_video(1.0))  # type: ignore[arg-type]
    blind = write_media(tmp_path / "blind.m4a", audio=noise(1.0), sample_rate=16000)
    assert reason(mute) == "no_audio"
    assert reason(blind) == "no_video"
    assert reason(mute, audio_path=mute) == "no_audio"
    assert reason(mute, audio_path=tmp_path / "none.wav") == "missing"
    assert len(read_media(mute, fps=8, size=16, audio_path=blind).frames) == 8
    with pytest.raises(MediaError, match="no_audio"):
        read_pcm(tmp_path / "late.mkv", video=1.0, audio=1.0, audio_start=1.5)
    with pytest.raises(MediaError, match="no_audio"):
        read_pcm(tmp_path / "early.mkv", video=1.0, audio=1.0, video_start=1.2)


def test_a_cover_is_no_video(tmp_path: Path) -> None:
    write_picture(tmp_path / "picture.mov", quarters())
    with av.open(str(tmp_path / "cover.mp4"), "w") as container, av.open(str(tmp_path / "picture.mov")) as source:
        video = container.add_stream_from_template(source.streams.video[0])
        video.disposition = av.stream.Disposition.attached_pic
        audio = container.add_stream_from_template(source.streams.audio[0])
        cover = next(source.demux(video=0))
        cover.stream = video
        container.mux(cover)
        source.seek(0)
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = audio
                container.mux(packet)
    with av.open(str(tmp_path / "cover.mp4")) as container:
        assert container.streams.video
    assert reason(tmp_path / "cover.mp4") == "no_video"


def test_too_short_and_too_long(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="too_short"):
        read_pcm(tmp_path / "short.mkv", video=0.08, audio=0.04)
    assert reason(write_picture(tmp_path / "clip.mkv", quarters()), max_seconds=0.5) == "too_long"


def test_a_file_that_states_its_length_is_not_even_read(tmp_path: Path) -> None:
    path = write_media(tmp_path / "clip.mp4", **grey_video(4.0))  # type: ignore[arg-type]
    with pytest.raises(MediaError, match="4 s or more"):
        next(read_frames(path, fps=8, max_seconds=1.0))


def test_a_file_that_hides_its_length_is_read_no_further_than_allowed(tmp_path: Path) -> None:
    path = write_media(
        tmp_path / "live.mkv",
        **grey_video(4.0),  # type: ignore[arg-type]
        audio=noise(4.0),
        sample_rate=16000,
        options={"live": "1"},
    )
    with av.open(str(path)) as container:
        assert container.duration is None
    short = write_picture(tmp_path / "short.mkv", quarters())
    assert reason(path, max_seconds=1.5) == "too_long"
    assert reason(path, max_seconds=1.5, audio_path=short) == "too_long"
    assert reason(short, max_seconds=1.5, audio_path=path) == "too_long"
    frames = read_frames(path, fps=8, max_seconds=1.0)
    with pytest.raises(MediaError, match="too_long"):
        assert sum(1 for _ in itertools.islice(frames, 9)) < 9
    assert len(read_media(path, fps=8, size=16, max_seconds=4.1).frames) == 32


def test_errors_survive_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(MediaError("too_long", "700 s")))
    assert (error.reason, error.detail, str(error)) == ("too_long", "700 s", "too_long: 700 s")


@pytest.mark.parametrize("fps", [0.0, -8.0, math.nan, math.inf])
def test_a_clock_must_tick(tmp_path: Path, fps: float) -> None:
    with pytest.raises(ValueError, match="fps"):
        read_media(tmp_path / "any.mp4", fps=fps, size=16)


# --- real clips ---------------------------------------------------------------------------------------------------


@needs_real_clips
def test_real_voxceleb2_clips_frame_by_frame_and_sample_by_sample() -> None:
    clips = sorted((REAL / "voxceleb2").rglob("*.mp4"))
    assert len(clips) == 9
    for clip in clips:
        media = read_media(clip, fps=8, size=224)
        with av.open(str(clip)) as container:
            pictures = list(container.decode(video=0))
        with av.open(str(clip)) as container:
            sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        assert media.source_fps == pytest.approx(25)
        assert len(media.frames) == math.floor((len(pictures) / 25 + 0.065) * 8)
        for k in range(0, len(media.frames), 7):
            # PyAV's own conversion is a level or so darker; the pictures beside this one are further off.
            picture = pictures[k * 25 // 8].to_ndarray(format="rgb24")
            assert np.abs(media.frames[k] - picture.astype(int)).mean() < 2.5
        both = min(len(sound), len(media.audio))
        assert np.abs(media.audio[:both] - sound[:both] * 32768).max() <= 1
        assert len(media.audio) - both <= 0.065 * 16000


@needs_real_clips
@pytest.mark.parametrize(
    ("name", "frames", "fps"),
    [
        ("grid/bbaf2n.mpg", 24, 25.0),
        ("grid/swiz3n.mpg", 24, 25.0),
        ("wide/fps22.mp4", 49, 22.13),
        ("wide/fps30.mp4", 53, 30.0),
        ("edge/silent_audio.mp4", 58, 30.0),
        ("edge/no_face.mp4", 32, 23.7),
        ("edge/single_face_30fps.mp4", 19, 30.0),
        ("edge/short_10fps_no_face.mp4", 8, 10.0),
    ],
)
def test_real_clips(name: str, frames: int, fps: float) -> None:
    media = read_media(REAL / name, fps=8, size=64)
    assert len(media.frames) == frames
    assert len(media.audio) == frames * 2000
    assert media.source_fps == pytest.approx(fps, abs=0.05)
    assert media.audio.any() == (name != "edge/silent_audio.mp4")


@needs_real_clips
def test_real_clip_whose_sound_starts_late() -> None:
    media = read_media(REAL / "edge/face_leaves_hevc.mov", fps=8, size=64)
    with av.open(str(REAL / "edge/face_leaves_hevc.mov")) as container:
        late = (container.streams.audio[0].start_time or 0) / 44100
    assert late > 2
    assert not media.audio[: int(late * 16000)].any()
    assert media.audio[int(late * 16000) :].any()


@needs_real_clips
def test_real_clip_without_sound() -> None:
    assert reason(REAL / "edge/no_audio_track.mp4") == "no_audio"

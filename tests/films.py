"""Small video files and OpenFace tables for tests, made with PyAV."""

import io
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]


def shades(width: int = 64, height: int = 64) -> Callable[[float], Picture]:
    """Pictures that differ from moment to moment: a bright bar wanders over a shaded ground."""
    ground = np.linspace(20, 120, width)[None, :, None] * np.array([1.0, 0.8, 0.6])

    def at(seconds: float) -> Picture:
        picture = np.broadcast_to(ground, (height, width, 3)).copy()
        bar = int(seconds * 40) % width
        picture[:, bar : bar + 6] = 230
        return picture.astype(np.uint8)

    return at


def tone(seconds: float, sample_rate: int = 16000, level: float = 0.3) -> NDArray[np.float32]:
    """(samples,): 300 Hz, louder and softer twice a second."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 2 * t)
    return (level * swell * np.sin(2 * np.pi * 300 * t)).astype(np.float32)


def write_film(
    path: Path,
    seconds: float = 2.0,
    *,
    fps: Fraction | int = 25,
    times: Sequence[float] | None = None,
    picture: Callable[[float], Picture] | None = None,
    sound: NDArray[np.float32] | str | None = "tone",
    sample_rate: int = 16000,
    options: dict[str, str] | None = None,
) -> Path:
    """A video file with sound; its folders are made.

    ``times`` places the pictures, to the 90,000th of a second, instead of a frame rate; ``sound`` is mono samples, None
    for no audio track at all, or a tone. The suffix decides the container.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = picture or shades()
    if times is None:
        base, starts = Fraction(1) / fps, list(range(round(seconds * fps)))
    else:
        base, starts = Fraction(1, 90000), [round(t * 90000) for t in times]
    samples = tone(seconds, sample_rate) if isinstance(sound, str) else sound
    with av.open(str(path), "w") as container:
        codec = "libvpx" if path.suffix == ".webm" else "libx264"
        video = cast(av.VideoStream, container.add_stream(codec, rate=Fraction(fps), options=options or {}))
        first = draw(0.0)
        video.height, video.width, video.pix_fmt = first.shape[0], first.shape[1], "yuv420p"
        video.codec_context.time_base = base
        video.codec_context.thread_count = 1
        if samples is not None:
            codec = "libopus" if path.suffix == ".webm" else "aac"
            rate = 48000 if path.suffix == ".webm" else sample_rate
            audio = cast(av.AudioStream, container.add_stream(codec, rate=rate, layout="mono"))
        for start in starts:
            frame = av.VideoFrame.from_ndarray(draw(float(start * base)), "rgb24")
            frame.pts, frame.time_base = start, base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if samples is not None:
            resampler = av.AudioResampler((audio.codec_context.codec.audio_formats or [])[0].name, "mono", rate)
            for at in range(0, len(samples), 960):
                piece = av.AudioFrame.from_ndarray(samples[None, at : at + 960].copy(), "fltp", "mono")
                piece.sample_rate, piece.time_base, piece.pts = sample_rate, Fraction(1, sample_rate), at
                for resampled in resampler.resample(piece):
                    container.mux(audio.encode(resampled))
            for resampled in resampler.resample(None):
                container.mux(audio.encode(resampled))
            container.mux(audio.encode(None))
    return path


COLUMNS = (
    *("frame", "face_id", "timestamp", "confidence", "success", "gaze_angle_x", "gaze_angle_y"),
    *("eye_lmk_X_51", "eye_lmk_X_55", "eye_lmk_Z_8", "eye_lmk_Z_42", "AU45_r", "AU45_c"),
)


def write_table(
    path: Path, rows: int, fps: float = 25.0, *, success: Callable[[int], bool] = lambda row: True, seed: int = 0
) -> Path:
    """An OpenFace 2 table of so many frames of a gaze that wanders; its folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    turn = np.cumsum(draw.normal(0, 0.01, (rows, 2)), axis=0)
    lines = [", ".join(COLUMNS)]
    for row in range(rows):
        values = [row + 1, 0, round(row / fps, 3), 0.98, int(success(row)), *turn[row].round(3)]
        values += [round(34 + draw.normal(0, 0.2), 1), round(28 + draw.normal(0, 0.2), 1), 220.5, 244.1]
        values += [round(abs(draw.normal()), 2), int(draw.random() < 0.1)]
        lines.append(", ".join(str(value) for value in values))
    path.write_text("\n".join(lines) + "\n")
    return path


def write_changing_film(
    path: Path,
    pictures: Sequence[Picture],
    *,
    fps: int = 10,
    rotations: Sequence[int] | None = None,
    aspects: Sequence[Fraction] | None = None,
) -> Path:
    """A film of JPEG pictures that need not be of one size, with a tone; its folders are made.

    Each picture may say for itself how it is to be turned, as EXIF's orientation 1 … 8, and how wide its pixels are for
    their height.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = tone(len(pictures) / fps)
    with av.open(str(path), "w") as container:
        video = cast(av.VideoStream, container.add_stream("mjpeg", rate=fps))
        video.height, video.width, video.pix_fmt = *pictures[0].shape[:2], "yuvj444p"
        audio = cast(av.AudioStream, container.add_stream("pcm_s16le", rate=16000, layout="mono"))
        for number, picture in enumerate(pictures):
            packet = av.Packet(
                _jpeg(
                    picture, 1 if rotations is None else rotations[number], None if aspects is None else aspects[number]
                )
            )
            packet.stream, packet.time_base, packet.pts, packet.dts = video, Fraction(1, fps), number, number
            packet.duration, packet.is_keyframe = 1, True
            container.mux(packet)
        sound = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], "s16", "mono")
        sound.sample_rate, sound.time_base, sound.pts = 16000, Fraction(1, 16000), 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return path


def _jpeg(picture: Picture, orientation: int, aspect: Fraction | None) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    more = {} if orientation == 1 else {"exif": exif.tobytes()}
    Image.fromarray(picture).save(out, "JPEG", quality=95, subsampling=0, **more)
    data = out.getvalue()
    if aspect is not None:  # JFIF's densities, without a unit
        at = data.index(b"JFIF\0") + 7
        data = data[:at] + struct.pack(">BHH", 0, aspect.numerator, aspect.denominator) + data[at + 5 :]
    return data

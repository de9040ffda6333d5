"""An utterance becomes clips: filmstrip, audio, gaze and description of each, or one reason why there are none."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgpack
import numpy as np
from numpy.typing import NDArray

from sharding.corpora.utterance import Utterance
from sharding.filmstrip import encode_filmstrip
from sharding.gaze import GazeError, read_table, statistics
from sharding.media import Media, MediaError, read_media
from sharding.settings import SAMPLE_RATE, BuildSettings
from sharding.waveform import encode_waveform


class RejectedError(Exception):
    """The utterance gives no clip: ``reason`` is a word to count by, ``detail`` a line for a person."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedClip:
    """A clip as it goes into a shard."""

    key: str
    members: Mapping[str, bytes]  #: by the member's name, in the order of the tar
    start: float  #: seconds from the start of the utterance
    padded: float  #: seconds of last frame and silence at its end
    gaze: NDArray[np.float32] | None  #: as stored


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedUtterance:
    """An utterance's clips, and why they have no gaze where they have none."""

    clips: tuple[EncodedClip, ...]
    gaze_problem: str | None  #: a word to count by


def encode_utterance(utterance: Utterance, settings: BuildSettings) -> EncodedUtterance:
    """The utterance's clips, end to end from its start; what is left at the end is shorter than a clip and dropped.

    Raises:
        RejectedError: with the reason, where there are none.
    """
    clip = settings.clip
    try:
        media = read_media(
            utterance.video_path,
            fps=clip.fps,
            size=clip.size,
            audio_path=utterance.audio_path,
            sample_rate=SAMPLE_RATE,
            max_seconds=settings.max_seconds,
        )
    except MediaError as error:
        raise RejectedError(error.reason, error.detail) from error
    _require_sound(media.audio, settings.min_loudness)
    gaze, gaze_problem = _gaze(utterance, settings)
    count = len(media.frames) // clip.frames
    padded = 0.0
    if count == 0:
        missing = (clip.frames - len(media.frames)) / clip.fps
        if not settings.pad_short:
            raise RejectedError("too_short", f"{missing:.3g} s short of a clip of {clip.seconds:g} s")
        media, count, padded = _pad(media, clip.frames, clip.samples), 1, missing
    clips = []
    for number in range(count):
        frames = media.frames[number * clip.frames : (number + 1) * clip.frames]
        samples = media.audio[number * clip.samples : (number + 1) * clip.samples]
        start = number * clip.seconds
        members = {
            "filmstrip": encode_filmstrip(frames, quality=settings.quality, subsampling=settings.subsampling),
            "audio": encode_waveform(samples, sample_rate=SAMPLE_RATE, audio_format=settings.audio_format),
        }
        if gaze is not None:
            members["gaze"] = _npy(gaze)
        members["clip"] = msgpack.packb(_description(utterance, settings, start, padded))
        clips.append(
            EncodedClip(key=f"{utterance.key}+{number:03d}", members=members, start=start, padded=padded, gaze=gaze)
        )
    return EncodedUtterance(clips=tuple(clips), gaze_problem=gaze_problem)


def _require_sound(audio: NDArray[np.int16], min_loudness: float) -> None:
    """Reject where no tenth of a second is as loud as ``min_loudness`` (dB of full scale, RMS)."""
    block = SAMPLE_RATE // 10
    whole = audio[: len(audio) // block * block] if len(audio) >= block else audio
    power = np.square(whole.reshape(-1, min(block, max(len(whole), 1))).astype(np.float64)).mean(axis=1)
    loudness = 10 * math.log10(power.max() / 32768.0**2 + 1e-12) if power.size else -120.0
    if loudness < min_loudness:
        raise RejectedError("silent", f"its loudest tenth of a second has {loudness:.0f} dB of full scale")


def _gaze(utterance: Utterance, settings: BuildSettings) -> tuple[NDArray[np.float32] | None, str | None]:
    try:
        if utterance.gaze_path is None:
            raise GazeError("gaze_missing", "no OpenFace table was given")
        return statistics(read_table(utterance.gaze_path)).astype(np.float32), None
    except GazeError as error:
        if settings.require_gaze:
            raise RejectedError(error.reason, error.detail) from error
        return None, error.reason


def _pad(media: Media, frames: int, samples: int) -> Media:
    """The media with its last frame held, and silence, up to a clip's length."""
    held = np.repeat(media.frames[-1:], frames - len(media.frames), axis=0)
    silence = np.zeros(samples - len(media.audio), np.int16)
    return replace(media, frames=np.concatenate([media.frames, held]), audio=np.concatenate([media.audio, silence]))


def _npy(array: NDArray[np.float32]) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def _description(utterance: Utterance, settings: BuildSettings, start: float, padded: float) -> dict[str, object]:
    """clip.msgpack: what the catalog says of the clip, for readers that know only the tar."""
    return {
        "corpus": utterance.corpus,
        "speaker": utterance.speaker,
        "video": utterance.video,
        "utterance": utterance.utterance,
        "start": start,
        "padded": padded,
        "fps": settings.fps,
        "emotion": utterance.emotion,
        "arousal": utterance.arousal,
        "valence": utterance.valence,
    }

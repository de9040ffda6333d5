"""An utterance becomes clips: filmstrip, audio, gaze, arrays, description of each, or one reason why there are none."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import msgpack
import numpy as np
from numpy.typing import NDArray

from loaders.dataset.columns import DESCRIBED, values, with_labels
from loaders.dataset.labels import Label
from sharding.corpora.boxes import BoxesError
from sharding.crops.crop_plan import CropPlan, NoFaceError, crop_plan_of
from sharding.crops.faces import MINIMUM_COVERAGE
from sharding.media.filmstrip import encode_filmstrip
from sharding.media.reader import SLACK, Media, MediaError, read_media
from sharding.media.waveform import encode_waveform, loudness
from sharding.members.registry import WrongArrayError
from sharding.packing.clip_arrays import UtteranceArrays
from sharding.packing.clip_gaze import ClipGaze, UtteranceGaze
from sharding.packing.faceless import NO_FACE
from sharding.packing.members import npy
from sharding.settings import SAMPLE_RATE, BuildSettings, Modality
from sharding.sources.read_errors import failures_named
from sharding.stages import Stopwatch
from sharding.utterance import Utterance

STILL_SECONDS = 1.0
"""A picture that stands so long, where the others do not, shows nobody who speaks."""


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
    gaze_problem: str | None  #: why it has none: a word to count by
    problems: Mapping[str, str] = field(default_factory=dict)  #: the same of other members, by the member's name


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedUtterance:
    """An utterance's clips, and how many were left out, by reason."""

    clips: tuple[EncodedClip, ...]
    left_out: Mapping[str, int]
    cut_short: str | None = None  #: where its film ends before it does: a line for a person


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stretch:
    """A stretch of an utterance, as long as a clip."""

    start: float  #: seconds from the start of the utterance
    end: float  #: the same, without what was added at the end of a short one
    frames: NDArray[np.uint8]  #: (T, size, size, 3); none where the utterance has no pictures
    samples: NDArray[np.int16]  #: (samples,); none where it has no sound
    level: float  #: of the loudest tenth of a second that was there, in dB of full scale
    has_sound: bool  #: it has some, which is loud enough
    sees_face: bool  #: False where a face was looked for, and not seen in enough frames
    is_still: bool  #: it shows one and the same picture, where the utterance otherwise moves
    gaze: ClipGaze


class UtteranceMedia:
    """An utterance that was read: any stretch of it can be taken as a clip.

    Attributes:
        source: what was read.
        frames: how many there are, a clip's at least; or would be, where the sound is alone.
        padded: seconds of last frame and silence that were added to make a clip.
        lacking: why it has no pictures, or no sound, by the member's name.
        cut_short: where its film ends before it does: a line for a person.
    """

    def __init__(
        self, utterance: Utterance, settings: BuildSettings, watch: Stopwatch, *, without: Modality | None = None
    ) -> None:
        """Read it.

        Args:
            utterance: which.
            settings: of the build.
            watch: is told where the time goes.
            without: what is not to be read though it may be there.

        Raises:
            RejectedError: with the reason, where it gives no clip.
            SourceError: the file system of its files fails.
        """
        self._utterance, self._settings, self._watch = utterance, settings, watch
        self._view, source, self.lacking = _looked_at(utterance, settings, watch, without)
        if settings.requires("audio"):
            _require_sound(source.audio, settings.min_loudness)
        self.source = source
        self.cut_short = _cut_short(utterance, source)
        self._still = still_frames(source.changes, source.fps)
        self._gaze: UtteranceGaze | None = None
        if len(source.frames):
            with watch.stage("gaze"), _rejecting(utterance):  # OpenFace may be run on its film
                self._gaze = UtteranceGaze(utterance, source, self._view, settings)
        with _rejecting(utterance):
            self._arrays = UtteranceArrays(utterance, source, self._view.start, settings, self._gaze, watch)
        self._media, self.padded = _whole_clips(source, settings, self.cut_short)
        self.frames = _frames_in(self._media)

    def stretch(self, first: int) -> Stretch:
        """The stretch that begins with a frame, 0 … `frames` less a clip's."""
        clip, source, still = self._settings.clip, self.source, self._still
        # Clips lie end to end, and the samples of one are a whole number.
        number, rest = divmod(first, clip.frames)
        start = number * clip.seconds + rest / clip.fps
        end = (number + 1) * clip.seconds + rest / clip.fps - self.padded
        sample = number * clip.samples + round(rest / clip.fps * SAMPLE_RATE)
        gaze = ClipGaze(problem="gaze_no_video", detail="it has no pictures")
        if self._gaze is not None:
            with self._watch.stage("gaze"):
                gaze = self._gaze.of(start, end)
        # What was there is judged, not what was added to it.
        heard = source.audio[sample : sample + clip.samples]
        last = min(first + clip.frames, len(still)) - 1
        level = loudness(heard, SAMPLE_RATE)
        face = self._view.face
        return Stretch(
            start=start,
            end=end,
            frames=self._media.frames[first : first + clip.frames],
            samples=self._media.audio[sample : sample + clip.samples],
            level=level,
            has_sound=len(heard) > 0 and level >= self._settings.min_loudness,
            sees_face=face is None or face.coverage(start, end) >= MINIMUM_COVERAGE,
            is_still=bool(len(still) and still[first] and not source.changes[first + 1 : last + 1].any()),
            gaze=gaze,
        )

    def encode(
        self, stretch: Stretch, *, pictures: bool = True, sound: bool = True
    ) -> tuple[dict[str, bytes], dict[str, str]]:
        """Its members in the order of a tar, but for the description; and why it lacks some, by their names.

        Args:
            stretch: of this utterance.
            pictures, sound: whether they are encoded where they are there.

        Raises:
            RejectedError: an array is not what is declared.
        """
        settings = self._settings
        with _rejecting(self._utterance):
            arrays, problems = self._arrays.of(stretch.start, stretch.end)
        members: dict[str, bytes] = {}
        with self._watch.stage("encode"):
            if len(stretch.frames) and pictures:
                members["filmstrip"] = encode_filmstrip(
                    stretch.frames,
                    quality=settings.quality,
                    subsampling=settings.subsampling,
                    restart_markers=settings.restart_markers,
                )
            if len(stretch.samples) and sound:
                members["audio"] = encode_waveform(
                    stretch.samples, sample_rate=SAMPLE_RATE, audio_format=settings.audio_format
                )
            if stretch.gaze.statistics is not None:
                members["gaze"] = npy(stretch.gaze.statistics)
        return members | arrays, {**self.lacking, **problems}


def encode_utterance(
    utterance: Utterance, settings: BuildSettings, watch: Stopwatch, labels: Sequence[Label] = ()
) -> EncodedUtterance:
    """The utterance's clips, end to end from its start; what is left at the end is shorter than a clip and dropped.

    A clip is numbered by its place in the utterance, whether or not those before it were left out. ``watch`` is told
    where the time goes; of the ``labels`` the clips' descriptions say what is stated.

    Raises:
        RejectedError: with the reason, where there are none.
        SourceError: the file system of its files fails.
    """
    media = UtteranceMedia(utterance, settings, watch)
    clips: list[EncodedClip] = []
    left_out: list[tuple[str, str]] = []
    for number in range(media.frames // settings.clip.frames):
        stretch = media.stretch(number * settings.clip.frames)
        problem = _problem(stretch, settings)
        if problem is not None:
            left_out.append(problem)
            continue
        members, problems = media.encode(stretch, sound=stretch.has_sound)
        of_clip = {"start": stretch.start, "padded": media.padded, "fps": settings.fps}
        members["clip"] = msgpack.packb(values(with_labels(DESCRIBED, labels), utterance, utterance.labels, of_clip))
        silent = {} if stretch.has_sound else {"audio": "silent"}
        clips.append(
            EncodedClip(
                key=f"{utterance.key}+{number:03d}",
                members=members,
                start=stretch.start,
                padded=media.padded,
                gaze=stretch.gaze.statistics,
                gaze_problem=stretch.gaze.problem,
                problems={**silent, **problems},
            )
        )
    if not clips:
        raise RejectedError(*left_out[0])
    return EncodedUtterance(
        clips=tuple(clips), left_out=Counter(reason for reason, _ in left_out), cut_short=media.cut_short
    )


def _frames_in(media: Media) -> int:
    """Frames, or how many there would be where the sound is alone."""
    return len(media.frames) or round(media.seconds * media.fps)


def _looked_at(
    utterance: Utterance, settings: BuildSettings, watch: Stopwatch, without: Modality | None
) -> tuple[CropPlan, Media, Mapping[str, str]]:
    """How it is looked at, and its media: without sound, or without pictures, where it has none and may lack them; then
    also why, by the member's name."""
    with _rejecting(utterance):
        if without is not None:
            return *_read(utterance, settings, watch, without), {}
        try:
            return *_read(utterance, settings, watch, None), {}
        except MediaError as error:
            lacks, why = _lacks(error, utterance)
            if lacks not in settings.allow_missing:
                raise
        return *_read(utterance, settings, watch, lacks), {"filmstrip" if lacks == "video" else "audio": why}


def _lacks(error: MediaError, utterance: Utterance) -> tuple[Modality | None, str]:
    """Which of the two an utterance has not got, where that is what is wrong with it, and a word for why."""
    if error.reason == "missing" and error.detail == str(utterance.audio_path):
        return "audio", "audio_missing"
    if error.reason == "no_video" and utterance.boxes is not None:  # which are of pictures
        return None, error.reason
    return {"no_audio": "audio", "no_video": "video"}.get(error.reason), error.reason  # type: ignore[return-value]


def _read(
    utterance: Utterance, settings: BuildSettings, watch: Stopwatch, lacks: Modality | None
) -> tuple[CropPlan, Media]:
    clip = settings.clip
    if lacks == "video":
        start, stop = utterance.start or 0.0, math.inf if utterance.end is None else utterance.end
        view = CropPlan(start=start, stop=stop, audio_start=start)
    else:
        view = crop_plan_of(utterance, settings, watch)
    with watch.stage("decode"):
        media = read_media(
            utterance.video_path,
            fps=clip.fps,
            size=clip.size,
            audio_path=utterance.audio_path,
            sample_rate=SAMPLE_RATE,
            max_seconds=settings.max_seconds,
            boxes=view.boxes(clip.fps),
            start=view.start,
            stop=view.stop,
            audio_start=view.audio_start,
            needs_video=lacks != "video",
            needs_audio=lacks != "audio",
        )
    return view, media


@contextmanager
def _rejecting(utterance: Utterance) -> Iterator[None]:
    """What is wrong with the utterance's own files rejects it; what is wrong with their file system stops the build."""
    try:
        with failures_named(utterance.video_path):
            yield
    except MediaError as error:
        raise RejectedError(error.reason, error.detail) from error
    except BoxesError as error:
        raise RejectedError(error.reason, str(error)) from error
    except NoFaceError as error:
        raise RejectedError(NO_FACE, str(error)) from error
    except WrongArrayError as error:
        raise RejectedError(error.reason, error.detail) from error
    except OSError as error:  # a folder that may not be entered
        raise RejectedError("unreadable", f"{error.filename or utterance.video_path}: {error.strerror}") from error


def _require_sound(audio: NDArray[np.int16], min_loudness: float) -> None:
    """Reject where no tenth of a second is as loud as ``min_loudness`` (dB of full scale, RMS)."""
    found = loudness(audio, SAMPLE_RATE)
    if found < min_loudness:
        raise RejectedError("silent", f"its loudest tenth of a second has {found:.0f} dB of full scale")


def still_frames(changes: NDArray[np.bool_], fps: float) -> NDArray[np.bool_]:
    """Which frames lie in a stretch in which nothing moves, of an utterance that otherwise does.

    Such a stretch is one picture, the same in every pixel, that stands for `STILL_SECONDS` and more, and at least twice
    as long as pictures of this utterance usually do (the median). So an utterance of one photograph has none, nor has
    one with a picture every few seconds: there a still picture is the rule, and the corpus' own choice.

    Args:
        changes: (N,) whether a frame shows another picture than the one before.
        fps: of the frames.

    Returns:
        (N,).
    """
    if not len(changes):
        return np.zeros(0, np.bool_)
    starts = np.flatnonzero(changes | (np.arange(len(changes)) == 0))
    lasting = np.diff(starts, append=len(changes))
    least = max(STILL_SECONDS * fps, 2 * float(np.median(lasting)))
    return np.repeat(lasting >= least, lasting)


def _cut_short(utterance: Utterance, media: Media) -> str | None:
    """What is to be said of a part of a film that would end after the film; None where it does not."""
    if utterance.end is None or utterance.boxes is not None:
        return None
    start = utterance.start or 0.0
    if media.source_seconds + SLACK >= utterance.end - start:
        return None
    return f"its end, {utterance.end:.9g} s, lies beyond the film's, {start + media.source_seconds:.2f} s"


def _whole_clips(media: Media, settings: BuildSettings, cut_short: str | None) -> tuple[Media, float]:
    """The media, at least a clip long, and how many seconds of last frame and silence were added for that."""
    clip = settings.clip
    missing = clip.frames - _frames_in(media)
    if missing <= 0:
        return media, 0.0
    if not settings.pad_short:
        why = "" if cut_short is None else f": {cut_short}"
        raise RejectedError("too_short", f"{missing / clip.fps:.3g} s short of a clip of {clip.seconds:g} s{why}")
    held = np.repeat(media.frames[-1:], missing, axis=0)
    silence = np.zeros(clip.samples - len(media.audio) if len(media.audio) else 0, np.int16)
    padded = replace(media, frames=np.concatenate([media.frames, held]), audio=np.concatenate([media.audio, silence]))
    return padded, missing / clip.fps


def _problem(stretch: Stretch, settings: BuildSettings) -> tuple[str, str] | None:
    """Why a clip is left out: reason and detail."""
    start = stretch.start
    if not stretch.sees_face:
        return NO_FACE, f"no face in enough frames from {start:g} s on"
    # Where it may lack one of the two, it must have the other.
    if not stretch.has_sound and (settings.requires("audio") or not len(stretch.frames)):
        return "silent", f"from {start:g} s on, its loudest tenth of a second has {stretch.level:.0f} dB of full scale"
    if stretch.is_still:
        return "still", f"from {start:g} s on it shows one and the same picture"
    if settings.require_gaze and stretch.gaze.problem is not None:
        return stretch.gaze.problem, stretch.gaze.detail
    return None

"""An utterance's frames on a fixed clock, and the audio under them.

The clock starts when the first picture of the video appears and ticks `fps` times a second. Frame *k* is what was on
screen at tick *k*; sample 0 of the audio sounds at tick 0. Everything is placed by timestamps, never by counting: frame
rates vary, the streams of a file start apart, and encoders put silence before the sound. Where a file's own clock
jumps, `sharding.media.clock` joins it.

Two passes over a clip (find the faces, then crop them) are `read_frames`, then `read_media` with `boxes`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.buffer import Buffer
from av.container import Flags, InputContainer
from av.filter import Graph
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from sharding.media.clock import BACK, JUMP, ClockError, JoinedClock, Stretch
from sharding.sources.packed import opened_file
from sharding.sources.read_errors import is_of_one_file
from sharding.sources.watched_file import WatchedFile

Reason = Literal["missing", "undecodable", "no_video", "no_audio", "too_short", "too_long", "clock"]
Box = tuple[float, float, float, float]  # left, top, width, height in pixels of the upright source, fractions allowed
Boxes = NDArray[np.floating] | Callable[[int, int], NDArray[np.floating]]  # see `read_media`
Orientation = tuple[bool, bool, bool]  # swap rows with columns, then reverse the rows, then reverse the columns
T = TypeVar("T")

ON_TIME = 0.00105
"""Seconds. Containers round timestamps, Matroska to whole milliseconds, so that the time from the first picture to
another is up to one too long: what starts this soon after a tick is on time for it."""

SLACK = 0.065
"""Seconds that may lack at the end. One stream may stop a codec frame early; AAC's lasts 64 ms at 16 kHz."""

AUDIO_GAP = 0.02
"""Seconds. Audio timestamps further than this from the count of samples mean a gap or an overlap, not rounding."""

_LATE, _LATE_AT_FIRST = 0.05, 4  # pictures that may come late: this part, or so many until a decoder knows the order
_DEEPEST = 16  # pictures: codecs reorder no further
_LEFT_OUT = 0.1  # part of an MPEG program stream that may lack pictures: a broadcast that was lost for a moment
_ANY_RATE = 16_000
_LONGEST = 4  # times as wide as high, or the reverse: pixels of which more is said are no camera's

_AUDIO_BATCH = 64  # audio frames that are resampled in one go
_AUDIO_PIECE = 16_384  # samples that come of it at once, but for the last
_AUDIO_LEAD = 0.5  # seconds: decoders of sound need a few frames after a seek until what they give is right

# swscale's default way to RGB takes a fifth of the time, but is a level too dark, and what it gives depends on the
# processor's instruction set; the bytes of a dataset must not. Planes (gbrp) come faster than pixels. The flags stand
# in libswscale/swscale.h: bilinear, full chroma interpolation, accurate rounding, bit-exact; PyAV 17 names not all.
_TO_RGB = 0x2 | 0x2000 | 0x40000 | 0x80000

# PyAV up to 18 refuses a file whose titles are not UTF-8, unless it is told otherwise. PyAV 19 keeps such bytes itself.
ANY_TITLES: dict[str, Any] = {"metadata_errors": "replace"} if hasattr(InputContainer, "metadata_errors") else {}


class MediaError(Exception):
    """A file that gives no clip: `reason` is a slug to count by, `detail` a line for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)  # both in `args`: that is what survives pickling on the way from a worker
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Media:
    """N ≥ 1 frames and exactly the sound under them; or frames alone, without a sample, or sound without a frame.

    frames: (N, size, size, 3) uint8 RGB; frame k was on screen k / fps seconds after the first picture appeared.
    changes: (N,) whether frame k is of a picture that looks different, in any pixel of the source, from frame k − 1's.
    audio: (round(N / fps · sample_rate),) int16, mono; sample 0 sounds as frame 0 appears.
    source_fps: pictures a second in the source, on average.
    source_starts: (pictures,) when each picture of the source appeared, in seconds after the first, as decoded; of a
        part, those of the part.
    source_seconds: how long the source's video lasts; where that is far more than `seconds`, its sound ended first.
    width, height: of the source's first picture, upright, in pixels.
    """

    frames: NDArray[np.uint8]
    changes: NDArray[np.bool_]
    audio: NDArray[np.int16]
    fps: float
    sample_rate: int
    source_fps: float
    source_starts: NDArray[np.float64]
    source_seconds: float
    width: int
    height: int

    @property
    def seconds(self) -> float:
        """The time that the frames stand for: N / fps; that of the sound where it is alone."""
        return len(self.frames) / self.fps if len(self.frames) else len(self.audio) / self.sample_rate


def read_media(
    path: Path,
    *,
    fps: float,
    size: int,
    audio_path: Path | None = None,
    sample_rate: int = 16000,
    max_seconds: float = 600.0,
    boxes: Boxes | None = None,
    start: float = 0.0,
    stop: float = math.inf,
    audio_start: float = 0.0,
    needs_video: bool = True,
    needs_audio: bool = True,
) -> Media:
    """Frames of a video, cropped and resized to size×size RGB, and the sound under them.

    Frame k stands for the time from k / fps to (k + 1) / fps. Frames are kept while a picture shows at k / fps and both
    streams last to (k + 1) / fps, give or take `SLACK`: under that last stretch the picture is held and the sound is
    silent. Before a sound that starts after the video there is silence; a sound that starts before is cut.

    audio_path: a file with the sound, where that lies apart. Its first sample sounds as frame 0 appears, or that at
        `audio_start`.
    boxes: (rows, 4), each row a `Box`: row k is the crop of frame k, and the last row that of all frames beyond. Boxes
        that reach over an edge are moved inside (`inside`). As an array they are of pictures of the first one's size,
        and where the size changes in mid-file the same shares of the picture are cropped; as a function of a picture's
        width and height they are of pictures of that size. Default: the centred square.
    max_seconds: what lasts longer is refused: before decoding where the container says so, otherwise while decoding.
    start, stop: seconds after the first picture: only this part is read, as if it were all there is, and nothing far
        before it is decoded.
    audio_start: seconds after the first sample of audio that lies apart: the one there sounds as frame 0 appears.
    needs_video, needs_audio: where one is False, only the other is read, and sets the length alone. The part of a file
        without pictures counts from where its sound begins.

    Raises MediaError: "missing"; "undecodable" (damage in mid-file too; a stream that only stops early, in mid-packet
    even, counts up to there); "no_video"; "no_audio" (also where no sound falls on the frames); "too_short" (no whole
    frame); "too_long"; "clock" (the file's clock jumps in one of its streams alone, in the part that is read, or where
    the sound lies apart; or its pictures' times are in disorder).
    """
    _check(fps)
    if isinstance(boxes, np.ndarray):
        _check_boxes(boxes)
    is_part = start > 0 or stop < math.inf
    if not needs_video:
        begins = start if audio_path is None else audio_start
        bounds = (begins, begins + stop - start) if is_part else None
        return _sound_alone(audio_path or path, fps, size, sample_rate, max_seconds, bounds)
    part = _part(path, start, stop) if is_part else None
    if not needs_audio:
        film, frames = _pictures(path, max_seconds, part, None, boxes, fps, size)
        count = min(frames.count, math.floor((film.seconds + SLACK) * fps))
        return _media(film, frames, count, np.zeros(0, np.int16), fps, sample_rate)
    # The sound first: it is decoded in no time, and the lack of it spares decoding the pictures.
    if audio_path is None:
        sound = own = _listen(path, sample_rate, max_seconds, part)
    else:
        sounding = _part(audio_path, audio_start, audio_start + stop - start, "audio") if audio_start > 0 else None
        sound, own = _listen(audio_path, sample_rate, max_seconds, sounding), None
    film, frames = _pictures(path, max_seconds, part, own, boxes, fps, size)
    stretches = _joined(film, sound, apart=audio_path is not None)
    sound_start, sound_stop = sound.span(stretches)
    heard_from = film.start if audio_path is None else sounding[0] if sounding else sound_start
    lasts = min(film.seconds, sound_stop - heard_from)
    count = min(frames.count, math.floor((lasts + SLACK) * fps))
    if sound_stop <= heard_from or sound_start >= heard_from + max(count, 1) / fps:
        raise MediaError("no_audio", f"its sound, {sound_start - heard_from:+.3f} s off the video, falls on no frame")
    if count < 1:
        raise MediaError("too_short", f"{lasts:.3f} s of video with sound; a frame stands for {1 / fps:.3f} s")
    audio = sound.cut(heard_from, round(count / fps * sample_rate), stretches)
    return _media(film, frames, count, audio, fps, sample_rate)


def _pictures(
    path: Path,
    max_seconds: float,
    part: tuple[float, float] | None,
    sound: "_Sound | None",
    boxes: Boxes | None,
    fps: float,
    size: int,
) -> tuple["_Film", "_Frames"]:
    """The film, read to its end, and all frames that its pictures make."""
    film = _Film(path, max_seconds, part, sound)
    frames = _Frames(size)
    crops = _Crops(boxes)
    for ticks, (picture, coded_aspect) in on_clock(film.looked_at(), fps):
        image, pixel_aspect = film.upright(picture, coded_aspect)
        crop = crops.of(image, pixel_aspect, (film.width, film.height))
        for k in ticks:
            frames.add(_crop(image, crop(k), size), shows=image)
    return film, frames


def _media(
    film: "_Film", frames: "_Frames", count: int, audio: NDArray[np.int16], fps: float, sample_rate: int
) -> Media:
    if count < 1:
        raise MediaError("too_short", f"{film.seconds:.3f} s of video; a frame stands for {1 / fps:.3f} s")
    return Media(
        frames=frames.first(count),
        changes=np.array(frames.changes[:count], np.bool_),
        audio=audio,
        fps=fps,
        sample_rate=sample_rate,
        source_fps=film.count / film.seconds,
        source_starts=np.array(film.starts) - film.start,
        source_seconds=film.seconds,
        width=film.width,
        height=film.height,
    )


def _sound_alone(
    path: Path, fps: float, size: int, sample_rate: int, max_seconds: float, bounds: tuple[float, float] | None
) -> Media:
    """What `read_media` gives where no pictures are asked for; ``bounds`` are seconds after the first sample."""
    part = None if bounds is None else _part(path, *bounds, "audio")
    sound = _listen(path, sample_rate, max_seconds, part)
    if len(sound.eras()) > 1:
        raise MediaError("clock", f"the clock of its sound goes back {len(sound.eras()) - 1} times")
    stretches = (Stretch(),)
    first, last = sound.span(stretches)
    if part is not None:
        first, last = max(first, part[0]), min(last, part[1])
    lasts = last - first
    _limit(lasts, max_seconds)
    count = math.floor((lasts + SLACK) * fps)
    if count < 1:
        raise MediaError("too_short", f"{lasts:.3f} s of sound; a frame stands for {1 / fps:.3f} s")
    return Media(
        frames=np.zeros((0, size, size, 3), np.uint8),
        changes=np.zeros(0, np.bool_),
        audio=sound.cut(first, round(count / fps * sample_rate), stretches),
        fps=fps,
        sample_rate=sample_rate,
        source_fps=0.0,
        source_starts=np.zeros(0),
        source_seconds=lasts,
        width=0,
        height=0,
    )


def read_frames(
    path: Path,
    *,
    fps: float,
    max_seconds: float = 600.0,
    start: float = 0.0,
    stop: float = math.inf,
    square_pixels: bool = False,
) -> Iterator[NDArray[np.uint8]]:
    """Frames k = 0, 1, 2, … of `read_media`, upright, whole and in the source's own size, one at a time.

    square_pixels: where the source's are not, pictures are made wider or higher, so that what is round looks round.

    Yields (height, width, 3) uint8 RGB, of another size where the source's changes in mid-file. The same array comes
    again while the same picture is on screen. There may be more frames than `read_media` gives, never fewer: here the
    sound sets no limit. ``start`` and ``stop`` are those of `read_media`. Raises MediaError, while it is read.
    """
    _check(fps)
    film = _Film(path, max_seconds, _part(path, start, stop) if start > 0 or stop < math.inf else None)
    for ticks, (picture, coded_aspect) in on_clock(film.looked_at(), fps):
        image, pixel_aspect = film.upright(picture, coded_aspect)
        if square_pixels:
            image = _squared(image, pixel_aspect)
        for _ in ticks:
            yield image


def _squared(image: NDArray[np.uint8], pixel_aspect: Fraction) -> NDArray[np.uint8]:
    """A picture with pixels so wide for their height, enlarged in one direction to square ones."""
    if pixel_aspect == 1 or not 1 / _LONGEST <= pixel_aspect <= _LONGEST:
        return image
    height, width, _ = image.shape
    size = round(width * max(pixel_aspect, Fraction(1))), round(height / min(pixel_aspect, Fraction(1)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def on_clock(pictures: Iterable[tuple[float, float, T]], fps: float) -> Iterator[tuple[range, T]]:
    """Which picture is on screen at which ticks of a clock that starts with the first picture.

    pictures: (start, stop, picture) in seconds, as decoded. A picture stays until the next one starts; `stop` counts
        for the last alone. One that comes late, when its successor has been shown, is left out.
    Yields (ticks, picture) for the pictures that are on screen at a tick. The ranges follow on from each other: tick k
    falls at k / fps and gets the last picture that starts by then, or within `ON_TIME` after.
    """
    origin, due = 0.0, 0
    held: tuple[float, float, T] | None = None

    def ticks(until: float) -> range:
        return range(due, math.ceil((until - origin - ON_TIME) * fps))

    for start, stop, picture in pictures:
        if held is None:
            origin = start
        elif start < held[0]:
            continue
        elif passed := ticks(start):
            yield passed, held[2]
            due = passed.stop
        held = start, stop, picture
    if held is not None and (passed := ticks(held[1])):
        yield passed, held[2]


def exact_rgb(picture: VideoFrame, reformatter: VideoReformatter) -> NDArray[np.uint8]:
    """A decoded picture as (height, width, 3) uint8 RGB, the same on every processor.

    reformatter: one for all pictures of a film: setting it up is slow.
    """
    planes = reformatter.reformat(picture, format="gbrp", interpolation=_TO_RGB, threads=1)
    return cast(NDArray[np.uint8], planes.to_ndarray())


def centre_square(width: int, height: int, pixel_aspect: Fraction = Fraction(1)) -> Box:
    """The largest box in the middle of a frame that looks square when pixels are `pixel_aspect` as wide as high."""
    side = min(width * pixel_aspect, Fraction(height))
    w, h = side / pixel_aspect, side
    # On whole pixels, so that a frame of the wanted size passes through as it is.
    return float((width - w) // 2), float((height - h) // 2), float(w), float(h)


def inside(box: Box, width: int, height: int) -> Box:
    """The box moved by as little as brings it into a width×height frame; one too large is first shrunk to fit."""
    x, y, w, h = box
    if not (w > 0 and h > 0 and math.isfinite(x + y + w + h)):
        raise ValueError(f"box must be finite and not empty: {box}")
    scale = min(1.0, width / w, height / h)
    x, y, w, h = x + (w - w * scale) / 2, y + (h - h * scale) / 2, w * scale, h * scale
    return max(min(x, width - w), 0.0), max(min(y, height - h), 0.0), w, h


def crop_resize(frame: NDArray[np.uint8], box: Box, size: int) -> NDArray[np.uint8]:
    """The box of a frame, moved `inside` it, as a size×size image.

    frame: (height, width, 3) uint8; the box need not be square nor lie on whole pixels. Returns (size, size, 3) uint8,
    a copy. Bicubic, with the filter widened when shrinking, so that nothing aliases; what has the size is copied.
    """
    return _crop(frame, box, size).copy()


def _crop(frame: NDArray[np.uint8], box: Box, size: int) -> NDArray[np.uint8]:
    """As `crop_resize`, but for reading only, and a view of the frame where nothing is resized."""
    height, width, _ = frame.shape
    x, y, w, h = inside(box, width, height)
    left, top = math.floor(x), math.floor(y)
    right, bottom = min(math.ceil(x + w), width), min(math.ceil(y + h), height)
    region = frame[top:bottom, left:right]
    if (x, y, w, h) == (left, top, size, size):
        return region
    edges = (x - left, y - top, min(x + w, right) - left, min(y + h, bottom) - top)
    # A gap of 2: shrinking by four or more begins with a plain average, and looks the same.
    image = Image.fromarray(region).resize((size, size), Image.Resampling.BICUBIC, box=edges, reducing_gap=2.0)
    return np.asarray(image)


class _Crops:
    """The crop of each frame, in pictures of every size that a file has."""

    def __init__(self, boxes: Boxes | None) -> None:
        self._boxes = boxes
        self._by_size: dict[tuple[int, int], NDArray[np.floating]] = {}

    def of(self, image: NDArray[np.uint8], pixel_aspect: Fraction, first: tuple[int, int]) -> Callable[[int], Box]:
        """The box of frame k in this picture, of a film whose first one has ``first``'s width and height."""
        height, width, _ = image.shape
        if self._boxes is None:
            square = centre_square(width, height, pixel_aspect)
            return lambda _: square
        rows = self._by_size.get((width, height))
        if rows is None:
            rows = self._by_size[width, height] = self._rows(self._boxes, width, height, first)
        return lambda k: cast(Box, tuple(rows[min(k, len(rows) - 1)].tolist()))

    @staticmethod
    def _rows(boxes: Boxes, width: int, height: int, first: tuple[int, int]) -> NDArray[np.floating]:
        if not isinstance(boxes, np.ndarray):
            rows = boxes(width, height)
            _check_boxes(rows)
            return rows
        return boxes if (width, height) == first else boxes * np.tile(np.array((width, height)) / first, 2)


def _check_boxes(boxes: NDArray[np.floating]) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) == 0:
        raise ValueError(f"boxes: (rows, 4) with a row or more, not {boxes.shape}")


def _same(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether two pictures are alike in every pixel; a look at few of them settles it nearly always."""
    if one is other:
        return True
    return np.array_equal(one[::16, ::16], other[::16, ::16]) and np.array_equal(one, other)


class _Frames:
    """Frames, laid one after the other into one array as they come: stacking them in the end would copy them all."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.changes: list[bool] = []
        self._room = np.empty((0, size, size, 3), np.uint8)
        self._shown: NDArray[np.uint8] | None = None

    def add(self, frame: NDArray[np.uint8], *, shows: NDArray[np.uint8]) -> None:
        """A frame, cropped from the picture that it ``shows``."""
        self.changes.append(self._shown is None or not _same(self._shown, shows))
        self._shown = shows
        if self.count == len(self._room):
            wider = np.empty((max(2 * self.count, 128), *self._room.shape[1:]), np.uint8)
            wider[: self.count] = self._room
            self._room = wider
        self._room[self.count] = frame
        self.count += 1

    def first(self, count: int) -> NDArray[np.uint8]:
        return self._room[:count]


@dataclass(slots=True)
class _Film:
    """The pictures of a file's video, and what is known of it once they have been read."""

    path: Path
    max_seconds: float
    part: tuple[float, float] | None = None  # first and last second on the container's clock; None: all of it
    sound: "_Sound | None" = None  # of the same file and part; None: it is listened to where it is asked for
    start: float = 0.0  # when the first picture appears, in seconds on the joined clock
    stop: float = 0.0
    count: int = 0
    width: int = 0
    height: int = 0
    orientation: Orientation = (False, False, False)
    pixel_aspect: Fraction = Fraction(1)  # of the latest picture, as coded
    decoded_aspect: Fraction | None = None  # the same as the decoder says
    decoder: VideoCodecContext | None = None
    starts: list[float] = field(default_factory=list)  # of the pictures, in seconds on the container's clock
    to_rgb: VideoReformatter = field(default_factory=VideoReformatter)
    clock: JoinedClock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = JoinedClock(self._silence)

    @property
    def seconds(self) -> float:
        return self.stop - self.start

    def pictures(self) -> Iterator[tuple[float, float, VideoFrame]]:
        """(start, stop, picture), in seconds on the joined clock, in the order of decoding.

        The last of a part comes once more where the next one shows that it stays longer than its container says.
        """
        first, last = self.part or (-math.inf, math.inf)
        with _opened(self.path, self.max_seconds if self.part is None else math.inf) as container:
            stream = cast(VideoStream, _stream(container, "video"))
            tick, usual = _time_base(stream), 1 / float(stream.average_rate or stream.guessed_rate or 25)
            shift = 0.0
            newest: tuple[float, VideoFrame] | None = None  # of the part: when it appears, and which it is
            for picture in cast(Iterator[VideoFrame], _decoded(container, stream, first)):
                start = self.stop - shift if picture.pts is None else picture.pts * tick
                lasts = picture.duration * tick or usual
                if start >= last:
                    # Matroska and others say of no picture how long it stays: that is until this one.
                    if newest is not None and self.stop < last and start - newest[0] <= JUMP:
                        self.stop, self.count = last, max(self.count, 1)
                        yield max(newest[0], first), last, newest[1]
                    break
                if picture.is_corrupt and start + lasts > first:
                    raise MediaError("undecodable", f"damaged picture {self.seconds:.2f} s into its video")
                before, shift = shift, self.clock.shift(start, lasts, usual)
                start += shift
                stop = start + lasts
                if self.width == 0:
                    self.start = self.stop = max(start, first)
                    self._see(picture, stream)
                if shift != before:
                    self.stop = start  # not as long as the picture before the jump says that it stays
                    if self.part is not None:
                        raise MediaError("clock", f"it jumps, {self.seconds:.2f} s into the part that is to be read")
                if newest is None or start >= newest[0]:
                    newest = start, picture
                # What is on screen as the part begins appeared before: its time is cut, and so is the last one's.
                start, stop = max(start, first), min(stop, last)
                self.count += stop > first
                _limit(start - self.start, self.max_seconds)
                self.stop = max(self.stop, stop)
                yield start, stop, picture
        if self.width == 0:
            raise MediaError("undecodable", "its video holds no picture")
        if self.count == 0:
            raise MediaError("too_short", "its video ends before its part")
        _limit(self.seconds, self.max_seconds)
        if self.clock.late > max(_LATE_AT_FIRST, self.count * _LATE):
            raise MediaError("clock", f"{self.clock.late} of its {self.count} pictures come after later ones")

    def _silence(self, era: int, begin: float, end: float) -> tuple[float, float] | None:
        if self.sound is None:
            try:
                self.sound = _listen(self.path, _ANY_RATE, math.inf, self.part)
            except MediaError:  # without sound, time that passes between two pictures may be meant
                self.sound = _Sound(_ANY_RATE)
        return self.sound.silence(era, begin, end)

    def _see(self, first: VideoFrame, stream: VideoStream) -> None:
        self.width, self.height = first.width, first.height
        self.orientation = _orientation(first)
        if self.orientation[0]:
            self.width, self.height = self.height, self.width
        self.decoder, self.decoded_aspect = stream.codec_context, stream.codec_context.sample_aspect_ratio
        self.pixel_aspect = Fraction(stream.sample_aspect_ratio or 1)

    def looked_at(self) -> Iterator[tuple[float, float, tuple[VideoFrame, Fraction]]]:
        """`pictures`, each with the width of its pixels over their height; notes when each picture starts."""
        latest: VideoFrame | None = None
        for start, stop, picture in self.pictures():
            if picture is latest:
                pass  # told before
            elif self.part is not None and start <= self.start and self.starts:
                self.starts[-1] = start  # those before were decoded on the way to the part, and are none of it
            else:
                self.starts.append(start)
            # What the container says of all pictures holds until the decoder meets pixels of another shape, at a key
            # picture; those that still come out of the decoder before it are of the old shape.
            if picture.key_frame and self.decoder is not None:
                decoded = self.decoder.sample_aspect_ratio
                if decoded and decoded != self.decoded_aspect:
                    self.decoded_aspect = self.pixel_aspect = Fraction(decoded)
            latest = picture
            yield start, stop, (picture, self.pixel_aspect)

    def upright(self, picture: VideoFrame, pixel_aspect: Fraction = Fraction(1)) -> tuple[NDArray[np.uint8], Fraction]:
        """(height, width, 3) uint8 RGB, and the shape of its pixels: each picture says itself which way is up."""
        with _blamed("its pictures do not convert to RGB"):
            image = exact_rgb(picture, self.to_rgb)
        swap, reverse_rows, reverse_columns = _orientation(picture)
        if swap:
            image, pixel_aspect = image.swapaxes(0, 1), 1 / pixel_aspect
        return image[:: -1 if reverse_rows else 1, :: -1 if reverse_columns else 1], pixel_aspect


@dataclass(slots=True)
class _Run:
    """Audio frames that follow on from each other, as mono int16 at another rate."""

    start: float  # seconds on the container's clock
    source: tuple[str, str, int]  # sample format, channel layout, sample rate
    resampler: Graph
    era: int  # how often the clock of the sound had gone back before
    heard: int = 0  # samples at the source's rate
    waiting: int = 0  # frames given to the resampler since it was last asked
    pieces: list[NDArray[np.int16]] = field(default_factory=list)

    @property
    def stop(self) -> float:
        return self.start + self.heard / self.source[2]

    def take(self, frame: AudioFrame | None) -> None:
        """Resample the frame, or what is left in the resampler; its filter's delay is made up for there."""
        self.heard += frame.samples if frame is not None else 0
        self.resampler.push(frame)
        self.waiting += 1
        # Asking what has been resampled costs more than resampling a frame of 64 ms does, so it is asked for seldom.
        if frame is not None and self.waiting < _AUDIO_BATCH:
            return
        self.waiting = 0
        while True:
            try:
                piece = self.resampler.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            self.pieces.append(cast(NDArray[np.int16], piece.to_ndarray())[0])


@dataclass(slots=True)
class _Sound:
    """A file's audio, laid out by its timestamps: where they jump, or the format changes, another run begins."""

    sample_rate: int
    seconds: float = 0.0  # heard in all
    runs: list[_Run] = field(default_factory=list)

    def add(self, frame: AudioFrame, tick: float) -> None:
        """The next frame, whose timestamps count in ticks of so many seconds."""
        source = frame.format.name, frame.layout.name, frame.sample_rate
        follows = self.runs[-1].stop if self.runs else 0.0
        start = follows if frame.pts is None else frame.pts * tick
        if not self.runs or source != self.runs[-1].source or abs(start - follows) > AUDIO_GAP:
            self.end()
            era = 0 if not self.runs else self.runs[-1].era + (start < follows - BACK)
            self.runs.append(_Run(start, source, _resampler(source, self.sample_rate), era))
        self.runs[-1].take(frame)
        self.seconds += frame.samples / frame.sample_rate

    def end(self) -> None:
        if self.runs:
            self.runs[-1].take(None)

    def eras(self) -> list[tuple[float, float]]:
        """First and last second of the sound between one time that its clock goes back and the next."""
        found: dict[int, tuple[float, float]] = {}
        for run in self.runs:
            first, last = found.get(run.era, (run.start, run.stop))
            found[run.era] = min(first, run.start), max(last, run.stop)
        return list(found.values())

    def silence(self, era: int, begin: float, end: float) -> tuple[float, float] | None:
        """The longest time from `begin` to `end` without sound, if there is sound before it and after it."""
        spans = [(run.start, run.stop) for run in self.runs if run.era == era]
        pauses = [(max(before[1], begin), min(after[0], end)) for before, after in pairwise(spans)]
        return max(
            (pause for pause in pauses if pause[0] < pause[1]), key=lambda pause: pause[1] - pause[0], default=None
        )

    def span(self, stretches: Sequence[Stretch]) -> tuple[float, float]:
        """When the sound begins and ends, in seconds on the joined clock."""
        placed = [
            (max(run.start, part.begin) + part.shift, min(run.stop, part.end) + part.shift)
            for part in stretches
            for run in self.runs
            if run.era == part.era and run.start < part.end and run.stop > part.begin
        ]
        if not placed:
            raise MediaError("no_audio", "its audio falls on no frame")
        return placed[0][0], placed[-1][1]

    def cut(self, start: float, samples: int, stretches: Sequence[Stretch]) -> NDArray[np.int16]:
        """(samples,) from `start` on the joined clock, silent where there is nothing."""
        audio = np.zeros(samples, np.int16)
        for part in stretches:
            first, last = (self._sample(edge + part.shift - start, samples) for edge in (part.begin, part.end))
            for run in self.runs:
                if run.era != part.era:
                    continue
                heard = np.concatenate([np.empty(0, np.int16), *run.pieces])
                at = round((run.start + part.shift - start) * self.sample_rate)
                begin, end = max(at, first), min(at + len(heard), last)
                if begin < end:
                    audio[begin:end] = heard[begin - at : end - at]
        return audio

    def _sample(self, seconds: float, samples: int) -> int:
        return round(min(max(seconds * self.sample_rate, 0), samples))


def _joined(film: _Film, sound: _Sound, apart: bool) -> Sequence[Stretch]:
    """How the sound lies on the clock that the pictures were joined to."""
    stretches = film.clock.stretches
    eras = sound.eras()
    if apart:
        if len(stretches) > 1:
            raise MediaError("clock", "it jumps, and its sound, which lies apart, does not say where")
        if len(eras) > 1:
            raise MediaError("clock", f"the clock of its sound, which lies apart, goes back {len(eras) - 1} times")
        return stretches
    try:
        film.clock.require_match(eras)
    except ClockError as error:
        raise MediaError("clock", str(error)) from error
    return stretches


def _part(path: Path, start: float, stop: float, kind: Literal["video", "audio"] = "video") -> tuple[float, float]:
    """The part from `start` to `stop` seconds after the first picture, or sound, on the container's clock."""
    if not 0 <= start < stop:
        raise ValueError(f"a part must end after it starts, not last from {start} to {stop} s")
    with _opened(path, math.inf) as container:
        if container.duration and start >= container.duration / av.time_base:
            raise MediaError("too_short", f"it ends after {container.duration / av.time_base:.2f} s, before its part")
        stream = _stream(container, kind)
        for first in _decoded(container, stream):
            begins = (first.pts or 0) * _time_base(stream)
            return begins + start, begins + stop
    if kind == "audio":
        raise MediaError("no_audio", "its audio holds no sample")
    raise MediaError("undecodable", "its video holds no picture")


def _listen(path: Path, sample_rate: int, max_seconds: float, part: tuple[float, float] | None = None) -> _Sound:
    sound = _Sound(sample_rate)
    first, last = part or (-math.inf, math.inf)
    with (
        _opened(path, max_seconds if part is None else math.inf) as container,
        _blamed("its audio does not resample"),
    ):
        stream = _stream(container, "audio")
        tick = _time_base(stream)
        for frame in cast(Iterator[AudioFrame], _decoded(container, stream, first - _AUDIO_LEAD)):
            if sound.runs and sound.runs[-1].stop >= last:
                break
            sound.add(frame, tick)
            if part is None:
                _limit(sound.seconds, max_seconds)
        sound.end()
    if not sound.runs:
        raise MediaError("no_audio", "its audio holds no sample")
    return sound


def _resampler(source: tuple[str, str, int], sample_rate: int) -> Graph:
    # What av.AudioResampler builds, but for the threads: that one starts a thread for each core.
    graph = Graph()
    graph.threads = 1
    sample_format, layout, rate = source
    graph.link_nodes(
        graph.add_abuffer(format=sample_format, layout=layout, sample_rate=rate, time_base=Fraction(1, rate)),
        graph.add("aformat", sample_fmts="s16", channel_layouts="mono", sample_rates=str(sample_rate)),
        graph.add("asetnsamples", nb_out_samples=str(_AUDIO_PIECE), pad="0"),
        graph.add("abuffersink"),
    ).configure()
    return graph


@contextmanager
def _opened(path: Path, max_seconds: float) -> Iterator[InputContainer]:
    if not opened_file(path).is_file():
        raise MediaError("missing", str(path))
    with _watched(path) as file:
        with _blamed("it does not open"):
            container = av.open(file, "r", **ANY_TITLES)
        with container:
            if stated_seconds(container) > max_seconds:
                with _watched(path) as again, av.open(again, "r", **ANY_TITLES) as counted:
                    _limit(lasting_seconds(counted, max_seconds), max_seconds)
            container.flags &= ~cast(int, Flags.gen_pts.value)  # what it would make up: `_Times`
            yield container


def _watched(path: Path) -> WatchedFile:
    try:
        return WatchedFile(path)
    except OSError as error:
        if not is_of_one_file(error):
            raise
        raise MediaError("undecodable", f"it does not open: {error.strerror}") from error


def stated_seconds(container: InputContainer) -> float:
    """How long a file lasts, as its header says; 0 where it says nothing."""
    stated = (container.duration or 0) / av.time_base
    # Matroska's duration is the time of its end.
    start = (container.start_time or 0) / av.time_base if "matroska" in container.format.name else 0.0
    return stated - start if 0 < start < stated else stated


def lasting_seconds(container: InputContainer, limit: float) -> float:
    """How long a file lasts, whatever its clock says; more than `limit` where it lasts longer.

    Headers are wrong where the clock jumps, or where it did not start at 0. So where one states more than `limit`,
    packets are counted, none decoded: to the limit at most, and to its 60th where the file's size confirms the header.
    """
    stated = stated_seconds(container)
    if stated <= limit:
        return stated
    stream = container.streams.best("video") or container.streams.best("audio")
    if stream is None:
        return stated
    tick, size = _time_base(stream), container.size
    seconds, at = 0.0, None
    try:
        for packet in container.demux(stream):
            if packet.dts is None:
                continue
            step = 0.0 if at is None else packet.dts * tick - at
            at = packet.dts * tick
            seconds += min(max(step, 0.0), JUMP)
            confirmed = seconds > limit / 60 and packet.pos and seconds * size / packet.pos > limit
            if seconds > limit or confirmed:
                return max(stated, seconds)
    except av.FFmpegError:
        pass  # decoding will say so
    return seconds or stated


def _stream(container: InputContainer, kind: Literal["video", "audio"]) -> Stream:
    stream = container.streams.best(kind)
    if stream is None or Disposition.attached_pic in stream.disposition:  # a cover is no video
        raise MediaError("no_video" if kind == "video" else "no_audio", f"it has no {kind} stream")
    if stream.codec_context is None:
        raise MediaError("undecodable", f"no decoder for its {kind}")
    stream.codec_context.thread_count = 1  # the work is spread over processes
    return stream


def _decoded(container: InputContainer, stream: Stream, begin: float = -math.inf) -> Iterator[VideoFrame | AudioFrame]:
    """What a stream decodes to, from the last point at or before `begin`, in seconds, at which decoding can start."""
    tick = _time_base(stream)
    # In a program stream some frames have times, from which the others follow on: not before the first that has one.
    if begin <= (stream.start_time or 0) * tick or container.format.name == "mpeg":
        yield from _decoded_on(container, stream)
        return
    with _blamed("it does not seek"):
        container.seek(math.floor(begin / tick), stream=stream)
    decoded = _decoded_on(container, stream)
    landed = next(decoded, None)
    if landed is not None and landed.pts is not None and landed.pts * tick <= begin + ON_TIME:
        yield landed
        yield from decoded
        return
    # Some containers have no index, or a wrong one. A file that is opened again begins at its beginning.
    with _opened(Path(container.name), math.inf) as again:
        yield from _decoded_on(again, _stream(again, cast(Literal["video", "audio"], stream.type)))


def _decoded_on(container: InputContainer, stream: Stream) -> Iterator[VideoFrame | AudioFrame]:
    """What a stream decodes to, its pictures with times. A last packet that is cut off does not count."""
    decoder = _Decoder(container, stream)
    if not isinstance(stream, VideoStream):
        yield from (frame for frame, _ in decoder.frames())
        return
    counted = container.format.name == "mpeg"  # FFmpeg makes up times in between, as if nothing were left out
    times, last = _Times(stream, counted, none_given=container.format.name == "avi"), None
    for frame, packet in times.checked(decoder):
        # Where a file was cut off, pictures that were to be shown before its last ones may be missing.
        cut = not decoder.whole or times.even
        if packet is None and (times.unknown(frame) or (cut and times.lacks_before(frame))):
            decoder.repeats.clear()
            break
        times.complete(frame, packet)
        last = frame
        yield frame
    if last is not None:
        for last.pts in decoder.repeats:
            yield last
    if counted:
        times.require_even()


_Picture = tuple[VideoFrame, "Packet[Stream] | None"]  # and the packet after which it was decoded; None: the last
_Frame = tuple[VideoFrame | AudioFrame, "Packet[Stream] | None"]


@dataclass(slots=True)
class _Decoder:
    """What a stream's packets decode to, but for one at its end that is cut off."""

    container: InputContainer
    stream: Stream
    whole: bool = True  # its last packet is
    repeats: list[int] = field(default_factory=list)  # times at which the last picture comes again
    in_order: bool = True  # the packets' times of showing rise
    newest: float = -math.inf
    left_out: bool = False  # a packet is not to be shown, for it comes before its stream's beginning

    def frames(self) -> Iterator[_Frame]:
        """Each with the packet after which it was decoded; None: after the last."""
        frame: VideoFrame | AudioFrame | None = None
        try:
            packets = self._packets()
            packet = next(packets, None)
            while packet is not None:
                following = next(packets, None)
                for frame in self._frames_of(packet, last=following is None):
                    if following is None and frame.is_corrupt:
                        return
                    yield frame, packet
                packet = following
            for frame in cast(list[VideoFrame | AudioFrame], cast(VideoStream, self.stream).decode(None)):
                if frame.is_corrupt:
                    return
                yield frame, None
        except av.FFmpegError as error:
            last = frame.time or 0.0 if frame is not None else 0.0
            what = f"its {self.stream.type} fails after {last:.2f} s: {error.strerror}"
            raise MediaError("undecodable", what) from error

    def _packets(self) -> "Iterator[Packet[Stream]]":
        for packet in self.container.demux(self.stream):
            if packet.size:
                self.repeats.clear()
                self.in_order = self.in_order and packet.pts is not None and packet.pts >= self.newest
                self.newest = packet.pts or 0
                self.left_out = self.left_out or packet.is_discard
                yield packet
            elif packet.pts is not None and self.stream.type == "video":
                self.repeats.append(packet.pts)  # the picture stays, until the next

    def _frames_of(self, packet: "Packet[Stream]", *, last: bool) -> list[VideoFrame | AudioFrame]:
        self.whole = not (last and packet.is_corrupt)
        try:
            return cast(list[VideoFrame | AudioFrame], packet.decode()) if self.whole else []
        except av.FFmpegError:
            if not last:
                raise
            self.whole = False
            return []


class _Times:
    """The times of pictures whose container has none, as AVI: there a packet's place says when it is to be decoded.

    A decoder gives its pictures in the order of showing, and a player shows one as soon as it is given. (What FFmpeg
    makes up, of packets alone, is wrong where more than one picture is waited for.) Those that are held back to the
    end, and those that come all at once, follow on from each other.
    """

    def __init__(self, stream: VideoStream, counted: bool, none_given: bool) -> None:
        self._stream = stream
        self._made_up = counted  # some pictures have times, from which the others follow on
        self._due: int | None = None  # when the next picture follows on
        self._decoded: int | None = None  # when the packet before was to be decoded
        self._steps: set[int] = set()  # between such times
        self.even = True  # every picture so far followed on from the one before
        self._counted = 0  # pictures in a row whose times are not even those of their packets
        self._step = 1
        self._first: int | None = None
        self._left_out = 0  # between pictures
        self._none_given = none_given

    def checked(self, decoder: _Decoder) -> Iterator[_Picture]:
        """The pictures, once it is known whether their times are theirs.

        What was copied from AVI into another container says of showing what AVI said of decoding. Matroska keeps no
        other times: there it cannot be told what came of them.
        """
        frames = cast(Iterator[_Picture], decoder.frames())
        ahead: list[_Picture] = []
        if self._stream.codec_context.has_b_frames and "matroska" not in decoder.container.format.name:
            for picture in frames:
                ahead.append(picture)
                if not decoder.in_order:
                    break
                if len(ahead) == _DEEPEST:
                    shown = [frame.pts or 0 for frame, _ in ahead]
                    self._none_given = self._none_given or shown != sorted(shown)
                    break
        if self._none_given and decoder.left_out:
            raise MediaError("clock", "its pictures have the times at which they are decoded")
        yield from ahead
        yield from frames

    def require_even(self) -> None:
        """For a container that gives some pictures times, from which the others follow on: refuse where they do not."""
        if self._first is None or self._due is None:
            return
        # MPEG-4's pictures have their time in their own data, which FFmpeg passes over.
        unknown = self._stream.codec_context.name == "mpeg4"
        if unknown or self._left_out > _LEFT_OUT * (self._due - self._first):
            raise MediaError("clock", "not all of its pictures have times, and they do not follow on from each other")

    def complete(self, frame: VideoFrame, packet: "Packet[Stream] | None") -> None:
        """Give the frame a time where it has none. packet: the one after which it was decoded; None: the last."""
        usual = self._stream.average_rate or self._stream.guessed_rate or 25
        self._step = frame.duration or self._step
        self._step = self._step if self._step > 1 else max(1, round(1 / (usual * (self._stream.time_base or 1))))
        due, given = self._due, None if self._none_given else frame.pts
        if given is None:
            decoded = None if packet is None else packet.dts
            if decoded is not None and self._decoded is not None:
                self._steps.add(decoded - self._decoded)
            self._decoded = decoded
            frame.pts = decoded if decoded is not None and (due is None or decoded > due - self._step) else due
            self._counted += decoded is None
        elif due is not None:
            off = given - due
            back = -_DEEPEST * self._step < off < -self._step * 3 // 4
            if (self._counted and (off > self._step or back)) or (self._made_up and back):
                raise MediaError(
                    "clock", "not all of its pictures have times, and those that have contradict each other"
                )
            self._counted = 0
            self.even = self.even and off <= self._step // 2
            self._left_out += off if off > self._step // 2 else 0
        if frame.pts is not None:
            self._first = frame.pts if self._first is None else self._first
            self._due = frame.pts + self._step

    def unknown(self, frame: VideoFrame) -> bool:
        """Whether nothing says when a frame that was held back to the end is to be shown."""
        return (frame.pts is None or self._none_given) and len(self._steps) > 1

    def lacks_before(self, frame: VideoFrame) -> bool:
        """Whether others were between this frame and the one before, of which no more than a codec reorders."""
        if self._due is None or frame.pts is None:
            return False
        return self._step // 2 < frame.pts - self._due <= _DEEPEST * self._step


@contextmanager
def _blamed(what: str) -> Iterator[None]:
    """FFmpeg's errors, whatever their kind, as "undecodable"."""
    try:
        yield
    except av.FFmpegError as error:
        raise MediaError("undecodable", f"{what}: {error.strerror}") from error


def _time_base(stream: Stream) -> float:
    return float(stream.time_base or 0)


def _orientation(picture: VideoFrame) -> Orientation:
    """The quarter turn, with or without a mirror, that is nearest to the picture's display matrix.

    The matrix (FFmpeg, libavutil/display.h) takes (x, y) to (a·x + c·y, b·x + d·y); its zoom and shift are left out.
    """
    try:
        matrix = cast(Mapping[str, Buffer], picture.side_data).get("DISPLAYMATRIX")
    except ValueError:  # PyAV 18.1 gives no side data at all where it cannot name one kind (EXIF), but gives the angle
        angle = math.radians(picture.rotation)
        a, b, c, d = math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    else:
        a, b, _, c, d = (1, 0, 0, 0, 1) if matrix is None else np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    swap = abs(b) + abs(c) > abs(a) + abs(d)
    return (True, b < 0, c < 0) if swap else (False, d < 0, a < 0)


def _limit(seconds: float, max_seconds: float) -> None:
    if seconds > max_seconds:
        raise MediaError("too_long", f"{seconds:.0f} s or more; the limit is {max_seconds:g} s")


def _check(fps: float) -> None:
    if not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f"fps must be positive: {fps}")

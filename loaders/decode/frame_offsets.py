"""Where the frames of an addressable filmstrip lie in its file.

The strip has a restart marker between any two frames (ITU-T T.81 (1992), annexes B and E): there the prediction of the
DC coefficients begins anew, and the bits end at a byte. What is entropy-coded holds no marker, for a byte FF is
followed by 00 there (F.1.2.3): to find the markers is to search for two bytes. That takes passes over all bytes, so the
build says in the strip's header where they are, in an application segment:

    FF E9 | its length, 2 bytes | "filmstrip" 00 | of each frame, in 4 bytes, where its scan begins

Numbers are big-endian, as all of a JPEG's, and count from the file's first byte; a frame's scan begins behind the
marker before it. Decoders pass over application segments that they do not know (B.2.4.6). It is no comment, for Pillow
copies comments into what it encodes anew, of which it would be false. It stands straight behind the start of the frame:
up to there the strips of a dataset are alike, and it is found without a look at the tables.

What it says is held against the markers whenever it is used. Of strips without it, which are as good, and where it is
wrong, the markers are searched for.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

RESTARTS = 8  #: markers there are, which are numbered cyclically
_RESTART = 0xD0  # the first of them
_START_OF_FRAME, _START_OF_SCAN, _RESTART_INTERVAL = 0xC0, 0xDA, 0xDD  # baseline, Huffman-coded
END_OF_IMAGE = b"\xff\xd9"
MARKER = 2  #: bytes of a marker
_SEGMENTS = 64  # of a header that are looked through at most: a filmstrip has about ten
_APPLICATION = b"\xff\xe9"  # the ninth: few other programs write it, and the name tells theirs apart
_NAME = b"filmstrip\0"

NOT_SAID = "its header does not say where its frames lie"  #: as of those that were built before any did
FALSE = "its frames do not lie where its header says"


class NotAddressableError(RuntimeError):
    """A filmstrip's frames do not lie in it as its dataset says."""


class Frames(NamedTuple):
    """Where a filmstrip's frames lie."""

    starts: Sequence[int]  #: where each frame's scan begins; it ends before the next one's marker
    searched: str  #: why that was searched for: `NOT_SAID` or `FALSE`; "" where the header says it


@dataclass(frozen=True, slots=True)
class StripHeader:
    """What a filmstrip's file begins with."""

    start: bytes  #: up to the offsets' numbers, otherwise up to the scans: what begins so has no other header
    height_at: int  #: where it states the height, in two bytes
    height: int  #: in pixels
    frame_end: int  #: where the start of the frame ends
    rest: int  #: where it goes on behind the offsets; the same where there are none
    scans: int  #: where the first scan begins in the file that was parsed
    end: bytes  #: what stands before the scans: the restart interval, and the start of the scan
    says: bool  #: whether there are offsets of as many frames as are expected

    @classmethod
    def of(cls, file: memoryview, frames: int) -> "StripHeader":
        """Parse the header of a strip of so many frames.

        Raises:
            NotAddressableError: there is none, or none with restart intervals.
        """
        height_at = interval_at = None
        frame_end = rest = 0
        at = 2
        for _ in range(_SEGMENTS):
            if at + 4 > len(file) or file[at] != 0xFF:
                raise NotAddressableError("a JPEG whose header is not whole")
            marker, end = file[at + 1], at + MARKER + (file[at + 2] << 8 | file[at + 3])
            if end > len(file):
                raise NotAddressableError("a JPEG whose header is not whole")
            if marker == _START_OF_FRAME:
                height_at, frame_end, rest = at + 5, end, end
            elif marker == _RESTART_INTERVAL:
                interval_at = at
            elif at == frame_end and _is_ours(file, at):
                rest = end
            at = end
            if marker == _START_OF_SCAN:
                break
        if height_at is None or interval_at is None:
            raise NotAddressableError("a JPEG without a restart interval a frame")
        head = _head(frames)
        says = rest > frame_end and bytes(file[frame_end : frame_end + len(head)]) == head
        return cls(
            start=bytes(file[: frame_end + len(head) if says else at]),
            height_at=height_at,
            height=int.from_bytes(file[height_at : height_at + 2], "big"),
            frame_end=frame_end,
            rest=rest,
            scans=at,
            end=bytes(file[interval_at:at]),
            says=says,
        )

    def with_height(self, height: int) -> bytes:
        """The header of a picture of another height, up to the end of the start of its frame."""
        return (
            self.start[: self.height_at] + height.to_bytes(2, "big") + self.start[self.height_at + 2 : self.frame_end]
        )


def find_frames(strip: Bytes, header: StripHeader, frames: int) -> Frames:
    """Where the frames of a contiguous array lie that begins with ``header.start``.

    Raises:
        NotAddressableError: its frames are not restart intervals of their own.
    """
    file = strip.data
    last = len(file) - MARKER
    if last < len(header.start) or bytes(file[last:]) != END_OF_IMAGE:
        raise NotAddressableError("a JPEG whose end is missing")
    if header.says:
        starts = _stated(file, len(header.start), header.end, frames, last)
        if starts is not None:
            return Frames(starts, "")
    scans = StripHeader.of(file, frames).scans if header.says else len(header.start)
    found = _searched(strip, scans, frames, last)
    return Frames(found, FALSE if header.rest > header.frame_end else NOT_SAID)


def with_offsets(jpeg: bytes, frames: int) -> bytes:
    """A filmstrip whose header says where its frames lie.

    Raises:
        NotAddressableError: its frames are not restart intervals of their own.
    """
    strip = np.frombuffer(jpeg, np.uint8)
    header = StripHeader.of(strip.data, frames)
    starts = _searched(strip, header.scans, frames, len(jpeg) - MARKER)
    head, numbers = _head(frames), _numbers(frames)
    moved = header.frame_end + len(head) + numbers.size - header.rest
    segment = head + numbers.pack(*(start + moved for start in starts))
    return jpeg[: header.frame_end] + segment + jpeg[header.rest :]


def check_offsets(jpeg: bytes, frames: int) -> None:
    """Hold what a filmstrip's header says of its frames, if it does, against all markers that there are.

    Raises:
        NotAddressableError: they do not lie there, or are not restart intervals of their own.
    """
    strip = np.frombuffer(jpeg, np.uint8)
    header = StripHeader.of(strip.data, frames)
    found = find_frames(strip, header, frames)
    searched = _searched(strip, header.scans, frames, len(jpeg) - MARKER)
    if found.searched == FALSE or list(found.starts) != searched:
        raise NotAddressableError(FALSE)


def _stated(file: memoryview, at: int, end: bytes, frames: int, last: int) -> tuple[int, ...] | None:
    """The offsets that stand at a place, None where they are not those of this file's frames.

    They are exact. No marker is found where none is, for within the scans FF stands before D0 … D7 nowhere else. A
    whole strip has one fewer than frames, and as many positions in rising order, none twice, are all of them: none is
    twice, for no byte has two numbers, and equal ones would stand side by side, where numbers differ. A strip with
    more markers than belong there is damaged within a frame, and its other frames are still bounded by their own.
    """
    numbers = _numbers(frames)
    if at + numbers.size + len(end) > last:
        return None
    starts: tuple[int, ...] = numbers.unpack_from(file, at)
    first = starts[0]
    if first < at + numbers.size + len(end) or starts[-1] >= last or sorted(starts) != list(starts):
        return None
    if bytes(file[first - len(end) : first]) != end:  # the header ends there
        return None
    found = b"".join([file[start - MARKER : start] for start in starts[1:]])
    return starts if found == _markers(frames - 1) else None


def _searched(strip: Bytes, begin: int, frames: int, last: int) -> list[int]:
    """Where the scans of a strip begin by its markers, between the first scan and the end of the image.

    Raises:
        NotAddressableError: they are not those of so many frames.
    """
    if begin >= last or strip[last:].tobytes() != END_OF_IMAGE:
        raise NotAddressableError("a JPEG whose end is missing")
    # A marker is a byte FF before another than 00. Passes over all bytes: here two of numpy's, a copy, and the C
    # library's search.
    marked = (strip[begin : last - 1] == 0xFF).view(np.uint8)
    np.minimum(marked, strip[begin + 1 : last], out=marked)
    ones, starts, file = marked.tobytes(), [begin], strip.data
    at = ones.find(1)
    while at >= 0:
        starts.append(begin + at + MARKER)
        at = ones.find(1, at + 1)
    if bytes([file[start - 1] for start in starts[1:]]) != _markers(frames - 1)[1::2]:
        raise NotAddressableError(f"a JPEG whose restart markers are not those between {frames} frames")
    return starts


def _is_ours(file: memoryview, at: int) -> bool:
    segment = bytes(file[at : at + 4 + len(_NAME)])
    return segment.startswith(_APPLICATION) and segment.endswith(_NAME)


@cache
def _numbers(frames: int) -> struct.Struct:
    return struct.Struct(f">{frames}I")


@cache
def _head(frames: int) -> bytes:
    """The segment of so many offsets, up to their numbers."""
    length = 2 + len(_NAME) + _numbers(frames).size
    return _APPLICATION + length.to_bytes(2, "big") + _NAME


@cache
def _markers(count: int) -> bytes:
    """So many restart markers in turn."""
    return b"".join(restart_marker(number) for number in range(count))


def restart_marker(number: int) -> bytes:
    """The marker behind frame ``number``."""
    return bytes((0xFF, _RESTART + number % RESTARTS))

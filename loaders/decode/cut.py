"""Frames cut out of a filmstrip that is still encoded.

The strip of an addressable dataset has a restart marker between any two frames (ITU-T T.81 (1992), annexes B and E):
there the prediction of the DC coefficients begins anew, and the bits end at a byte. So any frames of it are a filmstrip
by themselves: the header with another height, their scans, and the markers numbered anew. No byte is decoded for that.
What is entropy-coded holds no marker, for a byte FF is followed by 00 there: to find the markers is to search for two
bytes.

Where chroma is halved, decoders interpolate it over the edges between frames that are decoded together: a frame beside
another than its neighbour in the clip differs there in its first or its last row of pixels; nowhere else, and not at
all where chroma is whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from loaders.dataset.manifest import ClipFormat, Manifest

Bytes = NDArray[np.uint8]

_START_OF_FRAME, _START_OF_SCAN, _RESTART_INTERVAL = 0xC0, 0xDA, 0xDD  # baseline, Huffman-coded
_RESTART, _RESTARTS = 0xD0, 8  # the first of the markers, which are numbered cyclically
_RESTART_MARKERS = [bytes((0xFF, _RESTART + number)) for number in range(_RESTARTS)]
_END_OF_IMAGE = b"\xff\xd9"
_MARKER = 2  # bytes
_SEGMENTS = 64  # of a header that are looked through at most: a filmstrip has about ten


class NotAddressableError(RuntimeError):
    """A filmstrip's frames do not lie in it as its dataset says."""


@dataclass(frozen=True, slots=True)
class _Header:
    """What a filmstrip's file begins with."""

    file: bytes  #: up to the scans
    height: int  #: where it states the height, in two bytes
    stated: int  #: the height, in pixels

    def of(self, height: int) -> bytes:
        """The header of a picture of another height."""
        return self.file[: self.height] + height.to_bytes(2, "big") + self.file[self.height + 2 :]


def strip_of(strip: Bytes, frames: int, size: int, chosen: Sequence[int] | NDArray[np.integer]) -> Bytes:
    """Chosen frames of a filmstrip as a filmstrip, addressable as well.

    Args:
        strip: (bytes,), the file.
        frames: how many it has.
        size: height and width of a frame in pixels.
        chosen: numbers of frames, one at least.

    Raises:
        NotAddressableError: its frames are not restart intervals of their own.
    """
    strip = np.ascontiguousarray(strip)
    return _cut(strip, _header(strip.data.cast("B")), frames, size, chosen)


def _cut(strip: Bytes, header: _Header, frames: int, size: int, chosen: Sequence[int] | NDArray[np.integer]) -> Bytes:
    """`strip_of` of a contiguous array that begins with ``header``."""
    file = strip.data
    begin, last = len(header.file), len(file) - _MARKER
    if begin >= last or file[last:] != _END_OF_IMAGE:
        raise NotAddressableError("a JPEG whose end is missing")
    if header.stated != frames * size:
        raise NotAddressableError(f"a JPEG of another height than {frames} frames of {size} pixels")
    marks = _markers(strip, begin, last)
    if bytes([file[mark + 1] for mark in marks]) != _restarts(frames - 1):
        raise NotAddressableError(f"a JPEG whose restart markers are not those between {frames} frames")
    bounds = [begin - _MARKER, *marks, last]  # a frame's scan lies between two of them, behind the marker at the first
    pieces: list[bytes | memoryview] = [header.of(size * len(chosen))]
    for place, number in enumerate(chosen):
        pieces.append(file[bounds[number] + _MARKER : bounds[number + 1]])
        pieces.append(_RESTART_MARKERS[place % _RESTARTS])
    pieces[-1] = _END_OF_IMAGE
    return np.frombuffer(bytearray().join(pieces), np.uint8)


def _header(file: memoryview) -> _Header:
    height, has_interval = None, False
    at = 2
    for _ in range(_SEGMENTS):
        if at + 4 > len(file) or file[at] != 0xFF:
            raise NotAddressableError("a JPEG whose header is not whole")
        marker, end = file[at + 1], at + 2 + (file[at + 2] << 8 | file[at + 3])
        if marker == _START_OF_FRAME:
            height = at + 5
        elif marker == _RESTART_INTERVAL:
            has_interval = True
        at = end
        if marker == _START_OF_SCAN:
            break
    if height is None or not has_interval:
        raise NotAddressableError("a JPEG without a restart interval a frame")
    return _Header(bytes(file[:at]), height, int.from_bytes(file[height : height + 2], "big"))


def _markers(strip: Bytes, begin: int, end: int) -> list[int]:
    """Where markers lie in what is entropy-coded: a byte FF before another than 00."""
    # Passes over all bytes cost most of a cut: here two of numpy's, a copy, and the C library's search.
    found = (strip[begin : end - 1] == 0xFF).view(np.uint8)
    np.minimum(found, strip[begin + 1 : end], out=found)
    ones, marks = found.tobytes(), []
    at = ones.find(1)
    while at >= 0:
        marks.append(begin + at)
        at = ones.find(1, at + 1)
    return marks


@cache
def _restarts(count: int) -> bytes:
    """The second bytes of so many restart markers in turn."""
    return bytes(_RESTART + number % _RESTARTS for number in range(count))


def clip_of(manifests: Sequence[Manifest]) -> ClipFormat:
    """What the clips of datasets of one shape have in common: they are addressable where those of all are."""
    addressable = all(manifest.clip.addressable for manifest in manifests)
    return replace(manifests[0].clip, addressable=addressable)


@dataclass(slots=True)
class Cutter:
    """Makes of a filmstrip what a decoder takes of it: one of these for all examples, and for any threads."""

    clip: ClipFormat  #: of the filmstrips
    frames: int  #: of an example
    #: The latest: filmstrips of one dataset begin alike, and what began so before is not parsed again.
    _known: _Header | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def cuts(self) -> bool:
        """Whether there is something to cut: not where all frames are wanted, nor where they cannot be told apart."""
        return self.frames < self.clip.frames and self.clip.addressable

    def cut(self, strip: Bytes, chosen: NDArray[np.integer]) -> Bytes:
        """The filmstrip of chosen frames; the strip itself where nothing is cut.

        Args:
            strip: (bytes,), contiguous.
            chosen: numbers of frames.

        Raises:
            NotAddressableError: the strip's frames are not restart intervals of their own.
        """
        if not self.cuts:
            return strip
        header = self._known
        if header is None or strip[: len(header.file)].tobytes() != header.file:
            header = self._known = _header(strip.data)
        return _cut(strip, header, self.clip.frames, self.clip.size, chosen.tolist())

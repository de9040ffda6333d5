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
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from loaders.dataset.manifest import ClipFormat, Manifest

Bytes = NDArray[np.uint8]

_START_OF_FRAME, _START_OF_SCAN, _RESTART_INTERVAL = 0xC0, 0xDA, 0xDD  # baseline, Huffman-coded
_RESTART, _RESTARTS = 0xD0, 8  # the first of the markers, which are numbered cyclically
_END_OF_IMAGE = b"\xff\xd9"
_MARKER = 2  # bytes
_SEGMENTS = 64  # of a header that are looked through at most: a filmstrip has about ten


class NotAddressableError(RuntimeError):
    """A filmstrip's frames do not lie in it as its dataset says."""


@dataclass(frozen=True, slots=True)
class _Strip:
    """A file, and where its parts lie in it."""

    file: memoryview
    height: int  #: where the header states it, in two bytes
    scans: list[slice]  #: of each frame, without markers


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
    parts = _parts(strip, frames, size)
    begin = parts.scans[0].start
    scans = sum(parts.scans[number].stop - parts.scans[number].start for number in chosen)
    out = np.empty(begin + scans + _MARKER * len(chosen), np.uint8)
    to = out.data.cast("B")
    to[:begin] = parts.file[:begin]
    to[parts.height : parts.height + 2] = (size * len(chosen)).to_bytes(2, "big")
    at = begin
    for place, number in enumerate(chosen):
        if place:
            to[at : at + _MARKER] = bytes((0xFF, _RESTART + (place - 1) % _RESTARTS))
            at += _MARKER
        scan = parts.scans[number]
        end = at + scan.stop - scan.start
        to[at:end] = parts.file[scan]
        at = end
    to[at:] = _END_OF_IMAGE
    return out


def _parts(strip: Bytes, frames: int, size: int) -> _Strip:
    strip = np.ascontiguousarray(strip)
    file = strip.data.cast("B")
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
    last = len(file) - 2
    if at >= last or file[last:] != _END_OF_IMAGE:
        raise NotAddressableError("a JPEG whose end is missing")
    if int.from_bytes(file[height : height + 2], "big") != frames * size:
        raise NotAddressableError(f"a JPEG of another height than {frames} frames of {size} pixels")
    after = np.flatnonzero(strip[at:last] == 0xFF) + (at + 1)
    after = after[strip[after] & 0xF8 == _RESTART]
    if strip[after].tobytes() != _restarts(frames - 1):
        raise NotAddressableError(f"a JPEG whose restart markers are not those between {frames} frames")
    between = after.tolist()
    scans = zip([at, *(place + 1 for place in between)], [*(place - 1 for place in between), last], strict=True)
    return _Strip(file, height, [slice(start, end) for start, end in scans])


@cache
def _restarts(count: int) -> bytes:
    """The second bytes of so many restart markers in turn."""
    return bytes(_RESTART + number % _RESTARTS for number in range(count))


def clip_of(manifests: Sequence[Manifest]) -> ClipFormat:
    """What the clips of datasets of one shape have in common: they are addressable where those of all are."""
    addressable = all(manifest.clip.addressable for manifest in manifests)
    return replace(manifests[0].clip, addressable=addressable)


@dataclass(frozen=True, slots=True)
class Cutter:
    """Makes of a filmstrip what a decoder takes of it: one of these for all examples."""

    clip: ClipFormat  #: of the filmstrips
    frames: int  #: of an example

    @property
    def cuts(self) -> bool:
        """Whether there is something to cut: not where all frames are wanted, nor where they cannot be told apart."""
        return self.frames < self.clip.frames and self.clip.addressable

    def cut(self, strip: Bytes, chosen: NDArray[np.integer]) -> Bytes:
        """The filmstrip of chosen frames; the strip itself where nothing is cut.

        Raises:
            NotAddressableError: the strip's frames are not restart intervals of their own.
        """
        return strip_of(strip, self.clip.frames, self.clip.size, chosen.tolist()) if self.cuts else strip

"""Frames cut out of a filmstrip that is still encoded.

Each frame of an addressable strip is a restart interval of its own (`loaders.decode.frame_offsets`). So any frames of
it are a filmstrip by themselves: the header with another height, their scans, and the markers numbered anew. No byte is
decoded for that. What the header says of where frames lie is left out, for of the strip that is cut it would be false.

Where chroma is halved, decoders interpolate it over the edges between frames that are decoded together: a frame beside
another than its neighbour in the clip differs there in its first or its last row of pixels; nowhere else, and not at
all where chroma is whole.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loaders.dataset.manifest import ClipFormat, Manifest
from loaders.decode.cut_in_place import cut_windows
from loaders.decode.frame_offsets import (
    END_OF_IMAGE,
    FALSE,
    MARKER,
    RESTARTS,
    NotAddressableError,
    StripHeader,
    find_frames,
    restart_marker,
)

Bytes = NDArray[np.uint8]

_RESTART_MARKERS = [restart_marker(number) for number in range(RESTARTS)]


class Cut(NamedTuple):
    """What a decoder takes of a filmstrip."""

    file: Bytes  #: (bytes,)
    searched: str  #: why its frames had to be searched for, see `loaders.decode.frame_offsets.Frames`


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
    return _cut(strip, StripHeader.of(strip.data.cast("B"), frames), frames, size, chosen).file


def _cut(strip: Bytes, header: StripHeader, frames: int, size: int, chosen: Sequence[int] | NDArray[np.integer]) -> Cut:
    """`strip_of` of a contiguous array that begins with ``header.start``."""
    if header.height != frames * size:
        raise NotAddressableError(f"a JPEG of another height than {frames} frames of {size} pixels")
    starts, searched = find_frames(strip, header, frames)
    file = strip.data
    bounds = (*starts, len(file))  # a frame's scan ends before a marker, the last one's before that of the end
    pieces: list[bytes | memoryview] = [header.with_height(size * len(chosen)), file[header.rest : bounds[0]]]
    for place, number in enumerate(chosen):
        pieces.append(file[bounds[number] : bounds[number + 1] - MARKER])
        pieces.append(_RESTART_MARKERS[place % RESTARTS])
    pieces[-1] = END_OF_IMAGE
    return Cut(np.frombuffer(bytearray().join(pieces), np.uint8), searched)


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
    _known: StripHeader | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def cuts(self) -> bool:
        """Whether there is something to cut: not where all frames are wanted, nor where they cannot be told apart."""
        return self.frames < self.clip.frames and self.clip.addressable

    def cut(self, strip: Bytes, chosen: NDArray[np.integer]) -> Cut:
        """The filmstrip of chosen frames; the strip itself where nothing is cut.

        Args:
            strip: (bytes,), contiguous.
            chosen: numbers of frames.

        Raises:
            NotAddressableError: the strip's frames are not restart intervals of their own, or it is no picture of them.
        """
        if not self.cuts:
            return Cut(strip, "")
        header = self._header_of(strip)
        cut = _cut(strip, header, self.clip.frames, self.clip.size, chosen.tolist())
        if cut.searched == FALSE:
            self._known = None  # it may be this header's fault, and not the strip's
        return cut

    def cut_all(
        self, memory: Bytes, start: NDArray[np.int64], size: NDArray[np.int64], chosen: NDArray[np.integer]
    ) -> list[Cut | None]:
        """`cut` of a batch's filmstrips; None where that raises.

        Args:
            memory: (bytes,), where they lie, none over another; what is cut there is written over.
            start, size: of each of the B filmstrips, in bytes; (B,).
            chosen: (B, T), numbers of frames.
        """
        strips = [memory[begin : begin + length] for begin, length in zip(start.tolist(), size.tolist(), strict=True)]
        cuts: list[Cut | None] = [None] * len(strips)
        header = self._header_of_any(strips) if self.cuts and (np.diff(chosen) == 1).all() else None
        if header is not None:
            windows = cut_windows(memory, start, size, chosen, header, self.clip.frames)
            for row, begin, end in zip(*(each.tolist() for each in windows), strict=True):
                cuts[row] = Cut(memory[begin:end], "")
        for row, strip in enumerate(strips):
            if cuts[row] is None:
                with suppress(NotAddressableError):
                    cuts[row] = self.cut(strip, chosen[row])
        return cuts

    def _header_of(self, strip: Bytes) -> StripHeader:
        """What a strip begins with; raises NotAddressableError."""
        header = self._known
        if header is None or strip[: len(header.start)].tobytes() != header.start:
            header = self._known = StripHeader.of(strip.data, self.clip.frames)
        return header

    def _header_of_any(self, strips: Sequence[Bytes]) -> StripHeader | None:
        """What some of the strips begin with, those of one dataset all."""
        height = self.clip.frames * self.clip.size
        known = self._known  # which another thread may forget meanwhile
        if known is not None and known.height == height:
            return known
        for strip in strips:
            with suppress(NotAddressableError):
                header = self._header_of(strip)
                if header.height == height:
                    return header
        return None

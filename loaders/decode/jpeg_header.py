"""What a JPEG's header says of its size, read before anything is decoded.

Decoders reserve memory by what the header claims: 10 kB with a right checksum may claim gigabytes. The markers are
those of ITU-T T.81 (1992), annex B: segments with their length, up to the start of a frame.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN = 0xD8, 0xD9, 0xDA
_STANDALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a segment
_BASELINE, _EXTENDED = 0xC0, 0xC1
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # starts of frames; the others define tables
_SEGMENTS = 64  # looked through at most: a filmstrip has about ten


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What the start of the frame says."""

    width: int
    height: int
    channels: int
    bits: int  #: of a sample
    end: int  #: where the file's header ends that says so
    is_sequential: bool  #: baseline or extended, Huffman-coded, as every hardware decoder takes them


def read_header(data: NDArray[np.uint8]) -> JpegHeader | None:
    """The header of a JPEG file, (bytes,); None where there is none, or none of a form that a file would have."""
    file = data.data.cast("B")
    if len(file) < 4 or file[0] != 0xFF or file[1] != _START_OF_IMAGE:
        return None
    at = 2
    for _ in range(_SEGMENTS):
        while at + 1 < len(file) and file[at] == 0xFF and file[at + 1] == 0xFF:
            at += 1  # fill bytes
        if at + 4 > len(file) or file[at] != 0xFF:
            return None
        marker = file[at + 1]
        if marker in (_START_OF_SCAN, _END_OF_IMAGE) or marker in _STANDALONE:
            return None
        length = int.from_bytes(file[at + 2 : at + 4], "big")
        if length < 2 or at + 2 + length > len(file):
            return None
        if marker in _FRAMES:
            body = file[at + 4 : at + 2 + length]
            if len(body) < 6 or len(body) != 6 + 3 * body[5]:
                return None
            height, width = (int.from_bytes(body[i : i + 2], "big") for i in (1, 3))
            return JpegHeader(width, height, body[5], body[0], at + 2 + length, marker in (_BASELINE, _EXTENDED))
        at += 2 + length
    return None


class SizeCheck:
    """Holds files against a size. Those of one dataset begin alike, and what began so before is not parsed again."""

    def __init__(self, width: int, height: int) -> None:
        """``width`` and ``height`` in pixels."""
        self._width, self._height = width, height
        self._known = b""

    def fault(self, data: NDArray[np.uint8]) -> str | None:
        """Why a file, (bytes,), is no sequential colour JPEG of 8 bits and this size; None where its header says so."""
        known = self._known
        if known and data[: len(known)].tobytes() == known:
            return None
        header = read_header(data)
        if header is None:
            return "not a JPEG"
        if (header.width, header.height) != (self._width, self._height):
            return f"a JPEG of {header.width}×{header.height} instead of {self._width}×{self._height}"
        if header.channels != 3 or header.bits != 8:
            return f"a JPEG of {header.channels} channels of {header.bits} bits"
        if not header.is_sequential:
            return "a JPEG that is not sequential"
        self._known = data[: header.end].tobytes()
        return None

    def faulty(self, memory: NDArray[np.uint8], start: NDArray[np.int64], size: NDArray[np.int64]) -> list[int]:
        """Which of the files in memory have a `fault`: each begins at ``start``, (N,), and has ``size`` bytes, (N,)."""
        known, view = self._known, memory.data
        length = len(known)
        at_fault = []
        for index, (begin, end) in enumerate(zip(start.tolist(), (start + size).tolist(), strict=True)):
            if known and end - begin >= length and view[begin : begin + length].tobytes() == known:
                continue
            if self.fault(memory[begin:end]) is not None:
                at_fault.append(index)
        return at_fault

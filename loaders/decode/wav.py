"""16-bit mono WAV files: the samples are in them as they are used, and need no decoder.

Where all files of a dataset have one length, a batch's are read into the rows of one array, which is handed on whole:
to a GPU as it is, at half the bytes of the waveform that is made of it there.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from loaders.dataset.catalog import Catalog
from loaders.dataset.manifest import ClipFormat
from loaders.decode.columns import to_device

HEADER = 44  #: bytes before the samples, in a file that holds nothing else
_LINE = 64  # bytes: rows begin at a multiple, for copies to places between are slower
_PCM, _MONO, _INT16 = 1, 1, 16  # as a WAV file's header has them
_SCALE = np.float32(1 / 32768)


def header(samples: int, sample_rate: int) -> bytes:
    """What a file of so many samples begins with, as the format's canonical form has it."""
    size = 2 * samples
    riff = struct.pack("<4sI4s", b"RIFF", HEADER - 8 + size, b"WAVE")
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, _PCM, _MONO, sample_rate, 2 * sample_rate, 2, _INT16)
    return riff + form + struct.pack("<4sI", b"data", size)


def alike(catalogs: Sequence[Catalog], member: str) -> bool:
    """Whether every clip's sound is a WAV file of just the clip's samples, by its length."""
    for catalog in catalogs:
        declared, clip = catalog.manifest.member(member), catalog.manifest.clip
        if declared is None or declared.extension != "wav":
            return False
        if not bool((catalog.members[member].size == HEADER + 2 * clip.samples).all()):
            return False
    return True


@dataclass(frozen=True, slots=True)
class WavRows:
    """A batch's WAV files, a row each, of one length."""

    memory: torch.Tensor  #: (B, row / 2) int16, page-locked where it goes to a GPU: header, samples, what fills the row
    count: int  #: samples of a row

    def __len__(self) -> int:
        return len(self.memory)

    @property
    def bytes(self) -> NDArray[np.uint8]:
        """(B, row) uint8, the files as they lie there."""
        return self.memory.numpy().view(np.uint8)

    @property
    def samples(self) -> NDArray[np.int16]:
        """(B, samples), where they lie."""
        return self.memory.numpy()[:, HEADER // 2 : HEADER // 2 + self.count]

    def put(self, row: int, samples: NDArray[np.uint8]) -> None:
        """Fill a row with other samples, (bytes,); what is missing at the end is silent."""
        given = samples.view(np.int16)[: self.count]
        self.samples[row, : len(given)] = given
        self.samples[row, len(given) :] = 0

    def odd(self, sample_rate: int) -> list[int]:
        """The rows that do not begin as a file of these samples at this rate does."""
        expected = np.frombuffer(header(self.count, sample_rate), np.uint8)
        differs: NDArray[np.bool_] = (self.bytes[:, :HEADER] != expected).any(axis=1)
        return np.flatnonzero(differs).tolist()


def row_bytes(samples: int) -> int:
    """Of a row that holds a file of so many samples."""
    return -(-(HEADER + 2 * samples) // _LINE) * _LINE


def first_sample(first_frame: NDArray[np.int64], clip: ClipFormat) -> NDArray[np.int64]:
    """Where the sound under windows of frames begins, (B,) → (B,)."""
    return np.rint(first_frame / clip.fps * clip.sample_rate).astype(np.int64)


def waveforms_into(samples: NDArray[np.int16], start: NDArray[np.int64], out: NDArray[np.float32]) -> None:
    """Convert each row's window to -1 … 1; what is missing at the end is silent.

    Args:
        samples: (B, n).
        start: (B,) of the windows.
        out: (B, m), to fill.
    """
    for row, first, wave in zip(samples, start.tolist(), out, strict=True):
        _convert(row[first : first + len(wave)], wave)


def _convert(samples: NDArray[np.int16], out: NDArray[np.float32]) -> None:
    piece = out[: len(samples)]
    # In two steps, of a row that stays in the nearest cache: numpy takes a third less than for both at once.
    np.copyto(piece, samples)
    np.multiply(piece, _SCALE, out=piece)
    out[len(samples) :] = 0


def waveforms_on(device: torch.device, rows: WavRows, start: NDArray[np.int64], length: int) -> torch.Tensor:
    """The same as (B, length) float32 on a GPU, made there, on the current stream; nobody waits.

    The samples travel as they are. torch keeps page-locked memory until what was queued to read it is done.
    """
    moved = rows.memory.to(device, non_blocking=True)
    first = HEADER // 2
    if length == rows.count and not start.any():
        return moved[:, first : first + length].to(torch.float32).mul_(float(_SCALE))
    index = to_device([start], device)[0][:, None] + torch.arange(length, device=device)
    wave = moved.gather(1, index.clamp_max(rows.count - 1) + first).to(torch.float32).mul_(float(_SCALE))
    return wave.masked_fill_(index >= rows.count, 0.0)


def decode_wav_into(data: NDArray[np.uint8], out: NDArray[np.float32], sample_rate: int, start: int = 0) -> None:
    """Convert a 16-bit mono WAV file to ``out`` (samples,) in -1 … 1, from the sample ``start`` on.

    What is missing at the end is silent.

    Raises:
        RuntimeError: it is none, or of another sample rate.
    """
    _convert(wav_samples(data, sample_rate)[start : start + len(out)], out)


def wav_samples(data: NDArray[np.uint8], sample_rate: int) -> NDArray[np.int16]:
    """The samples of a RIFF file, where they lie. Its chunks: name, length, and as many bytes, made even.

    Raises:
        RuntimeError: it is none, or of another sample rate.
    """
    file = np.ascontiguousarray(data).data.cast("B")
    if bytes(file[:4]) != b"RIFF" or bytes(file[8:12]) != b"WAVE":
        raise RuntimeError("not a WAV file")
    at, known = 12, False
    while at + 8 <= len(file):
        name, length = bytes(file[at : at + 4]), int.from_bytes(file[at + 4 : at + 8], "little")
        body = file[at + 8 : at + 8 + length]
        if name == b"fmt ":
            coding, channels = (int.from_bytes(body[i : i + 2], "little") for i in (0, 2))
            rate, bits = int.from_bytes(body[4:8], "little"), int.from_bytes(body[14:16], "little")
            if (coding, channels, bits) != (_PCM, _MONO, _INT16) or rate != sample_rate:
                raise RuntimeError(f"a WAV file of {channels} channels, {bits} bits and {rate} samples a second")
            known = True
        elif name == b"data" and known:
            return np.frombuffer(body[: len(body) // 2 * 2], "<i2")
        at += 8 + length + length % 2
    raise RuntimeError("a WAV file without samples")

"""Whole clips decoded on the CPU by libjpeg-turbo itself, straight into the batch.

`loaders.decode.pipeline` yields the same bytes. But DALI's decoder fills a buffer of its own and then copies it, and a
clip takes it a quarter more processor time (benchmarks/NOTES.md). Here every filmstrip is decoded to where it lies in
the batch, by as many threads as there are cores, and a WAV file's samples are converted there.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray

from loaders.dataset.manifest import AUDIO, ClipFormat, Manifest
from loaders.decode.pipeline import Encoded, PipelineSettings
from loaders.decode.planes import Pixels, PlaneDecoder, frame_shape
from loaders.decode.wav import decode_wav_into, waveforms_into
from loaders.threads.buffers import Buffers

_Into = Callable[[NDArray[np.uint8], NDArray[np.uint8]], None]  # decodes a filmstrip into a row of the batch

_CLIPS_A_TASK = 4  # a task costs some 50 µs of Python; more clips would leave threads idle at the end of a batch
# libjpeg-turbo writes rows that begin at a multiple of 32 bytes past the caches, which takes longer here than to write
# them through the caches as it does all others: 3.46 ms a clip instead of 3.30 (benchmarks/NOTES.md).
_OFFSET = 16


def obstacle(manifests: Sequence[Manifest], frames: int, device: torch.device, *, audio: bool) -> str | None:
    """Why this decoder cannot serve: it knows no GPU, no region of a picture, and only WAV. None where it can."""
    if device.type != "cpu":
        return f"device is {str(device)!r}"
    for manifest in manifests:
        if frames != manifest.clip.frames:
            return f"frames is {frames} of {manifest.clip.frames}"
        sound = manifest.member(AUDIO) if audio else None
        if sound is not None and sound.extension != "wav":
            return f"the audio is {sound.extension}"
    return None


class _Flying(NamedTuple):
    """A batch that is being decoded."""

    frames: NDArray[np.uint8]
    waveform: NDArray[np.float32] | None
    futures: list[Future[None]]


class TurboDecoder:
    """Pulls encoded batches from a source and decodes them, several in flight. One thread may use it."""

    def __init__(self, clip: ClipFormat, settings: PipelineSettings, source: Callable[[], Encoded]) -> None:
        """
        Args:
            clip: what the encoded clips decode to: all of it.
            settings: see there; the device is the CPU.
            source: the next batch; raises StopIteration at the end. Called from within `run`.
        """
        self._clip = clip
        self._source = source
        self._in_flight = settings.in_flight
        self._audio = settings.audio
        rows, *rest = frame_shape(clip.size, settings.pixels)
        self._frames = Buffers((clip.frames * rows, *rest), np.uint8, offset=_OFFSET)
        self._into = filmstrip_decoder(clip, settings.pixels)
        self._waves = Buffers((clip.samples,), np.float32)
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="filmstrip-decode")
        self._flying: deque[_Flying] = deque()
        self._ended = False

    def run(self) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        """The next batch's frames and waveforms (B, samples), None without audio; waits for them.

        Frames are (B, T·H, W, 3), or (B, T·3·H/2, W) where they are planes.

        Raises:
            StopIteration: the source has ended and all its batches were returned.
            RuntimeError: a clip could not be decoded.
        """
        while len(self._flying) <= self._in_flight and (encoded := self._next()) is not None:
            self._flying.append(self._start(encoded))
        if not self._flying:
            raise StopIteration
        batch = self._flying.popleft()
        for future in batch.futures:
            future.result()
        return batch.frames, batch.waveform

    def close(self) -> None:
        """Wait for what is in flight and drop it."""
        self._threads.shutdown(cancel_futures=True)
        self._flying.clear()

    def _next(self) -> Encoded | None:
        try:
            return None if self._ended else self._source()
        except StopIteration:
            self._ended = True
            return None

    def _start(self, batch: Encoded) -> "_Flying":
        frames = self._frames.lend(len(batch.filmstrips))
        rows = batch.rows
        waveform = self._waves.lend(len(frames)) if self._audio or rows is not None else None
        futures = []
        for first in range(0, len(frames), _CLIPS_A_TASK):
            some = slice(first, first + _CLIPS_A_TASK)
            pictures = zip(batch.filmstrips[some], frames[some], strict=True)
            if rows is not None and waveform is not None:
                futures.append(
                    self._threads.submit(_decode_and_convert, self._into, pictures, rows.samples[some], waveform[some])
                )
                continue
            sounds = () if waveform is None else zip(batch.audio[some], waveform[some], strict=True)
            futures.append(self._threads.submit(_decode, self._into, pictures, sounds, self._clip.sample_rate))
        return _Flying(frames, waveform, futures)


def _decode(
    into: _Into,
    pictures: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    sounds: Iterable[tuple[NDArray[np.uint8], NDArray[np.float32]]],
    sample_rate: int,
) -> None:
    for data, out in pictures:
        into(data, out)
    for data, wave in sounds:
        decode_wav_into(data, wave, sample_rate)


def _decode_and_convert(
    into: _Into,
    pictures: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    samples: NDArray[np.int16],
    waves: NDArray[np.float32],
) -> None:
    for data, out in pictures:
        into(data, out)
    waveforms_into(samples, np.zeros(len(samples), np.int64), waves)


def filmstrip_decoder(clip: ClipFormat, pixels: Pixels) -> Callable[[NDArray[np.uint8], NDArray[np.uint8]], None]:
    """What decodes a filmstrip into memory, to RGB or planes; it raises RuntimeError where it cannot."""
    return decode_filmstrip_into if pixels == "rgb" else PlaneDecoder(clip.frames, clip.size).decode_into


def decode_filmstrip_into(data: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Decode a JPEG into ``out`` (T·H, W, 3) uint8 RGB.

    Raises:
        RuntimeError: it is damaged, or of another size.
    """
    try:
        picture = simplejpeg.decode_jpeg(data, "RGB", buffer=out)
    except ValueError as error:
        raise RuntimeError(f"not a whole JPEG: {error}") from error
    if picture.shape != out.shape:
        raise RuntimeError(f"a JPEG of {picture.shape[1]}×{picture.shape[0]} instead of {out.shape[1]}×{out.shape[0]}")

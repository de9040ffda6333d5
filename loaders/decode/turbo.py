"""Clips decoded on the CPU by libjpeg-turbo itself, straight into the batch.

`loaders.decode.pipeline` yields the same bytes. But DALI's decoder fills a buffer of its own and then copies it, and a
clip takes it a quarter more processor time (benchmarks/NOTES.md). Here every filmstrip is decoded to where it lies in
the batch, by as many threads as there are cores, and a WAV file's samples are converted there. Where not all frames are
wanted, they have been cut out as a shorter filmstrip, which is decoded to its place in the same way.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray

from loaders.dataset.manifest import AUDIO, ClipFormat, Manifest
from loaders.decode.cut import Cutter
from loaders.decode.pipeline import Encoded, PipelineSettings, samples_of
from loaders.decode.planes import Pixels, PlaneDecoder, frame_shape
from loaders.decode.wav import decode_wav_into, waveforms_into
from loaders.threads.buffers import Buffers

# A task costs some 50 µs of Python; more frames would leave threads idle at the end of a batch.
_CLIPS_A_TASK, _FRAMES_A_TASK = 4, 64
_TASKS_A_THREAD = 2  # of a batch at least, where clips are so short that more than a few would make a task
# libjpeg-turbo writes rows that begin at a multiple of 32 bytes past the caches, which takes longer here than to write
# them through the caches as it does all others: 3.46 ms a clip instead of 3.30 (benchmarks/NOTES.md).
_OFFSET = 16


def obstacle(manifests: Sequence[Manifest], device: torch.device, *, audio: bool) -> str | None:
    """Why this decoder cannot serve: it knows no GPU, and only WAV. None where it can."""
    if device.type != "cpu":
        return f"device is {str(device)!r}"
    for manifest in manifests:
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

    def __init__(
        self, clip: ClipFormat, frames: int, settings: PipelineSettings, source: Callable[[], Encoded]
    ) -> None:
        """
        Args:
            clip: what the encoded clips decode to.
            frames: of an example, 1 … ``clip.frames``.
            settings: see there; batches lie in the CPU's memory, whatever the device.
            source: the next batch; raises StopIteration at the end. Called from within `run`.
        """
        self._clip = clip
        self._source = source
        self._in_flight = settings.in_flight
        self._audio = settings.audio
        rows, *rest = frame_shape(clip.size, settings.pixels)
        self._frames = Buffers((frames * rows, *rest), np.uint8, offset=_OFFSET)
        self._decoder = FrameDecoder(clip, frames, settings.pixels)
        self._waves = Buffers((samples_of(clip, frames, settings.samples),), np.float32)
        self._workers = settings.threads
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
        frames = self._frames.lend(len(batch))
        rows, into = batch.rows, self._decoder.decode_into
        waveform = self._waves.lend(len(frames)) if self._audio or rows is not None else None
        futures = []
        at_once = clips_a_task(len(frames), self._decoder.decoded, self._workers)
        for first in range(0, len(frames), at_once):
            some = slice(first, first + at_once)
            pictures = zip(batch.filmstrips[some], batch.frames[some], frames[some], strict=True)
            if rows is not None and waveform is not None:
                sound = rows.samples[some], batch.start[some], waveform[some]
                futures.append(self._threads.submit(_decode_and_convert, into, pictures, *sound))
                continue
            sounds = () if waveform is None else zip(batch.audio[some], batch.start[some], waveform[some], strict=True)
            futures.append(self._threads.submit(_decode, into, pictures, sounds, self._clip.sample_rate))
        return _Flying(frames, waveform, futures)


def clips_a_task(clips: int, frames: int, threads: int) -> int:
    """How many clips a thread decodes at once, of a batch of ``clips`` of which ``frames`` each are decoded."""
    return max(_CLIPS_A_TASK, min(_FRAMES_A_TASK // frames, clips // (_TASKS_A_THREAD * threads)))


_Into = Callable[[NDArray[np.uint8], NDArray[np.int16], NDArray[np.uint8]], None]
_Pictures = Iterable[tuple[NDArray[np.uint8], NDArray[np.int16], NDArray[np.uint8]]]


def _decode(
    into: _Into,
    pictures: _Pictures,
    sounds: Iterable[tuple[NDArray[np.uint8], np.int64, NDArray[np.float32]]],
    sample_rate: int,
) -> None:
    for filmstrip, chosen, out in pictures:
        into(filmstrip, chosen, out)
    for data, start, wave in sounds:
        decode_wav_into(data, wave, sample_rate, int(start))


def _decode_and_convert(
    into: _Into,
    pictures: _Pictures,
    samples: NDArray[np.int16],
    start: NDArray[np.int64],
    waves: NDArray[np.float32],
) -> None:
    for filmstrip, chosen, out in pictures:
        into(filmstrip, chosen, out)
    waveforms_into(samples, start, waves)


class FrameDecoder:
    """Decodes an example's frames. Any number of threads may use it.

    Where a dataset's frames cannot be cut apart, a thread decodes filmstrips whole, into the same memory every time,
    and copies from there what is wanted.
    """

    def __init__(self, clip: ClipFormat, frames: int, pixels: Pixels) -> None:
        """
        Args:
            clip: what the encoded clips decode to.
            frames: of an example.
            pixels: RGB or planes.

        Raises:
            InputError: planes, and no library that gives them.
        """
        self._clip, self._frames = clip, frames
        self._shape = frame_shape(clip.size, pixels)
        self._takes = frames < clip.frames and not Cutter(clip, frames).cuts
        self.decoded = clip.frames if self._takes else frames  #: frames of a filmstrip
        rgb = pixels == "rgb"
        self._file_into = decode_filmstrip_into if rgb else PlaneDecoder(self.decoded, clip.size).decode_into
        self._own = threading.local()

    def decode_into(self, filmstrip: NDArray[np.uint8], chosen: NDArray[np.int16], out: NDArray[np.uint8]) -> None:
        """Decode an example's filmstrip into ``out``, (T·H, W, 3) or (T·3·H/2, W) uint8.

        Args:
            filmstrip: as `loaders.decode.pipeline.Encoded` has it.
            chosen: (T,), which frames of the clip they are.

        Raises:
            RuntimeError: it is damaged, or of another size.
        """
        if not self._takes:
            self._file_into(filmstrip, out)
        else:
            whole = self._whole()
            self._file_into(filmstrip, whole)
            frames = whole.reshape(self._clip.frames, *self._shape)
            np.take(frames, chosen, axis=0, out=out.reshape(self._frames, *self._shape), mode="clip")

    def _whole(self) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] | None = getattr(self._own, "whole", None)
        if found is None:
            rows, *rest = self._shape
            found = self._own.whole = np.empty((self._clip.frames * rows, *rest), np.uint8)
        return found


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

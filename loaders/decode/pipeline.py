"""The DALI graph: filmstrips and audio files in, frames and waveforms out, on a GPU or a CPU.

The graph decodes and nothing else. Filmstrips are decoded by nvJPEG on a GPU or by libjpeg-turbo on a CPU, through the
same operator; audio is always decoded on the CPU. What was decoded on the CPU and is wanted on a GPU, DALI copies there
itself, from page-locked memory and beside whatever else the GPU does. Where not all frames are wanted, filmstrips of
those that are have been cut before (`loaders.decode.cut`); of datasets whose frames cannot be cut apart, filmstrips are
decoded whole, and the frames taken of them.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.dlpack import from_dlpack

from loaders.dataset.manifest import ClipFormat
from loaders.decode import dali
from loaders.decode.cut import Cutter
from loaders.decode.jpeg_header import SizeCheck
from loaders.decode.planes import Pixels, frame_shape
from loaders.decode.wav import WavRows

#: DALI's libjpeg-turbo on the CPU, nvJPEG on the GPU where the batches lie, or libjpeg-turbo without DALI, which is not
#: this file's but `loaders.decode.turbo`'s.
Decoder = Literal["cpu", "gpu", "turbo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSettings:
    """How a pipeline runs. What it yields does not depend on it, but for the rounding of the two decoders."""

    max_batch: int
    threads: int  #: of the CPU decoders
    device: torch.device  #: where the outputs lie; a CUDA device has an index
    in_flight: int = 2  #: batches being decoded at a time
    audio: bool = True  #: whether there are files of sound to decode; `Encoded.rows` need no decoder
    decoder: Decoder = "cpu"  #: what decodes the filmstrips
    hw_decoder_load: float = 0.9  #: share of the filmstrips for the GPU's hardware JPEG engine, where it has one
    pixels: Pixels = "rgb"  #: what the frames are; DALI's are RGB
    video: bool = True  #: whether there are filmstrips to decode; otherwise see `loaders.decode.sound`
    samples: int | None = None  #: of an example's sound; None: under as many consecutive frames as it has


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch of encoded members, in example order."""

    #: Of all of a clip's frames; of an addressable dataset of those that are wanted alone; none where there is nothing
    #: to see.
    filmstrips: Sequence[NDArray[np.uint8]]
    audio: Sequence[NDArray[np.uint8]]  #: files, none where there is no sound or it comes as rows
    frames: NDArray[np.int16]  #: (B, T), which frames of the clips are wanted
    start: NDArray[np.int64]  #: (B,), the sample at which each example's sound begins
    rows: WavRows | None = None  #: sound that needs no decoder

    def __len__(self) -> int:
        return len(self.start)


#: Of a single example: why it cannot be decoded, None where it can.
Fault = Callable[[Encoded], str | None]


class DecodePipeline:
    """Pulls encoded batches from a source and decodes them, several in flight. One thread may use it."""

    def __init__(
        self, clip: ClipFormat, frames: int, settings: PipelineSettings, source: Callable[[], Encoded]
    ) -> None:
        """
        Args:
            clip: what the encoded clips decode to.
            frames: of an example, 1 … ``clip.frames``.
            settings: see there.
            source: the next batch; raises StopIteration at the end. Called from within `run`.

        Raises:
            InputError: there is no DALI.
        """
        self._dali = dali.load()
        self._clip = clip
        self._frames = frames
        self._source = source
        self._audio = settings.audio
        self._is_cut = Cutter(clip, frames).cuts
        self._size = SizeCheck(clip.size, clip.size * (frames if self._is_cut else clip.frames))
        self._fault: str | None = None
        self._fed: deque[tuple[Any, ...]] = deque(maxlen=settings.in_flight + 2)
        on_gpu = settings.device.type == "cuda"
        self._pipe = dali.graph(
            _outputs,
            clip,
            frames,
            self._feed,
            settings.decoder,
            on_gpu,
            settings.audio,
            settings.hw_decoder_load,
            samples_of(clip, frames, settings.samples),
            batch_size=settings.max_batch,
            num_threads=settings.threads,
            device_id=settings.device.index if on_gpu else None,
            prefetch_queue_depth=settings.in_flight,
            exec_dynamic=True,  # outputs own their memory: a tensor made of one stays valid for as long as it is held
        )
        self._pipe.build()

    def run(self) -> tuple[Any, Any]:
        """The next batch's frames and waveforms as DALI tensors, None for waveforms if there are none; waits for them.

        Raises:
            StopIteration: the source has ended and all its batches were returned.
            RuntimeError: DALI could not decode the batch, or a filmstrip's header claims something else than it is.
        """
        try:
            frames, *waveform = self._pipe.run()
        except StopIteration:
            if self._fault is not None:
                raise RuntimeError(self._fault) from None
            raise
        return frames.as_tensor(), waveform[0].as_tensor() if waveform else None

    def close(self) -> None:
        """Wait for what is in flight and drop it."""
        self._pipe = None  # first: the graph reads from what was fed
        self._fed.clear()

    def _feed(self) -> tuple[Any, ...]:
        batch = self._source()
        for number, filmstrip in enumerate(batch.filmstrips):
            fault = self._size.fault(filmstrip)
            if fault is not None:  # DALI would reserve memory for whatever it claims
                self._fault = f"filmstrip {number} of a batch is {fault}"
                raise StopIteration  # DALI lets nothing else out of here
        # As DALI's own tensors: of arrays it would make them one by one, looking at each for what it might be.
        files = (batch.filmstrips, batch.audio) if self._audio else (batch.filmstrips,)
        tensor = self._dali.tensors.TensorCPU
        fed: tuple[Any, ...] = tuple([tensor(file) for file in of_member] for of_member in files)
        if self._frames < self._clip.frames:
            if self._audio:
                fed = (*fed, list(batch.start.astype(np.int32)[:, None]))
            if not self._is_cut:
                fed = (*fed, list(np.ascontiguousarray(batch.frames, np.int32)))
        self._fed.append(fed)  # the graph reads these arrays in place: they must outlive its work
        return fed


def to_torch(
    frames: Any,
    waveform: Any,
    clip: ClipFormat,
    window: int,
    device: torch.device,
    *,
    audio: bool = True,
    pixels: Pixels = "rgb",
    samples: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a decoder's ``run`` returned as (B, T, *frame_shape) uint8 and (B, samples) float32, without a copy.

    None stands for an empty batch, and (B, 0) for the waveforms of frames without ``audio``. On a GPU nothing here
    waits, nor need the caller:

    * The tensors may be used on the calling thread's current stream at once. `DecodePipeline.run` has waited for them
      on the thread that decodes (DALI's ``Pipeline.run`` without a stream is host-synchronous), and torch's
      ``from_dlpack`` passes its current stream on to DALI, which would have it wait for an event if one were pending
      (torch/utils/dlpack.py; ``TensorGPU.__dlpack__`` of DALI 2.4).
    * DALI takes the memory back no sooner than what was queued on the GPU, on any stream, when the last tensor over it
      was dropped has been done: the deleter hands the memory to a thread of DALI's, which synchronises with the device
      and only then lets go (``DLTensorResource`` in dali/pipeline/data/dltensor.h, ``DLTensorGraveyard`` in
      dltensor.cc). torch knows nothing of this memory: ``record_stream`` is neither needed nor heeded.
    * That thread calls ``cudaDeviceSynchronize``, which must not meet the capture of a CUDA graph: who captures one
      captures it before the first batch.
    """
    shape = window, *frame_shape(clip.size, pixels)
    if frames is None:
        video = torch.empty((0, *shape), dtype=torch.uint8, device=device)
    else:
        video = from_dlpack(frames).view(-1, *shape)
    if waveform is None:
        return video, torch.empty((len(video), samples_of(clip, window, samples) if audio else 0), device=device)
    return video, from_dlpack(waveform)


def window_samples(clip: ClipFormat, frames: int) -> int:
    """Audio samples under consecutive frames."""
    return clip.samples if frames == clip.frames else round(frames / clip.fps * clip.sample_rate)


def samples_of(clip: ClipFormat, frames: int, samples: int | None) -> int:
    """What `PipelineSettings.samples` stands for."""
    return window_samples(clip, frames) if samples is None else samples


def _outputs(
    clip: ClipFormat,
    frames: int,
    feed: Callable[[], tuple[Any, ...]],
    decoder: Decoder,
    on_gpu: bool,
    with_audio: bool,
    hw_decoder_load: float,
    samples: int,
) -> tuple[Any, ...]:
    fn, types = dali.load().fn, dali.load().types
    windowed = frames < clip.frames
    is_whole = windowed and not clip.addressable  # and then frames are taken of it
    types_in = [types.UINT8] * (1 + with_audio) + [types.INT32] * (windowed * with_audio + is_whole)
    fed = deque(fn.external_source(feed, num_outputs=len(types_in), dtype=types_in, no_copy=True))
    # With jpeg_fancy_upsampling nvJPEG interpolates chroma as libjpeg-turbo does, which heeds no such argument: 14,006
    # instead of 14,470 clips/s on an H100, and a level of difference instead of thirty.
    video = fn.decoders.image(
        fed.popleft(),
        device="mixed" if decoder == "gpu" else "cpu",
        output_type=types.RGB,
        hw_decoder_load=hw_decoder_load,
        jpeg_fancy_upsampling=True,
    )
    audio = fed.popleft() if with_audio else None
    start: Any = fed.popleft() if windowed and with_audio else 0
    if is_whole:
        video = fn.reshape(video, shape=[clip.frames, clip.size, clip.size, 3], layout="FHWC")
        video = fn.sequence_rearrange(video, new_order=fed.popleft())
    if on_gpu:
        video = video.gpu()  # what lies there already stays as it is
    if audio is None:
        return (video,)
    waveform, _ = fn.decoders.audio(audio, dtype=types.FLOAT, downmix=True)
    # Also where the window is the whole clip: it makes the lengths equal, whatever a codec makes of the last packet.
    waveform = fn.slice(waveform, start=start, shape=[samples], axes=[0], out_of_bounds_policy="pad")
    return video, waveform.gpu() if on_gpu else waveform

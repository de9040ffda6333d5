"""Sound without filmstrips: what `loaders.decode.pipeline` decodes of it, to the same bytes."""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from loaders.dataset.manifest import ClipFormat
from loaders.decode import dali
from loaders.decode.pipeline import Encoded, PipelineSettings, samples_of


class SoundDecoder:
    """Pulls encoded batches from a source and decodes their files of sound. One thread may use it.

    Sound that comes as rows (`loaders.decode.wav`) needs no decoder: then batches are pulled, and that is all.
    """

    def __init__(
        self, clip: ClipFormat, frames: int, settings: PipelineSettings, source: Callable[[], Encoded]
    ) -> None:
        """Arguments and errors as of `loaders.decode.pipeline.DecodePipeline`."""
        self._source = source
        self._fed: deque[tuple[Any, ...]] = deque(maxlen=settings.in_flight + 2)
        self._pipe = None
        if settings.audio:
            on_gpu = settings.device.type == "cuda"
            self._pipe = dali.graph(
                _outputs,
                self._feed,
                on_gpu,
                samples_of(clip, frames, settings.samples),
                batch_size=settings.max_batch,
                num_threads=settings.threads,
                device_id=settings.device.index if on_gpu else None,
                prefetch_queue_depth=settings.in_flight,
                exec_dynamic=True,  # outputs own their memory, as in the other graph
            )
            self._pipe.build()

    def run(self) -> tuple[None, Any]:
        """No frames, and the next batch's waveforms as a DALI tensor; None where they come as rows.

        Raises:
            StopIteration: the source has ended and all its batches were returned.
            RuntimeError: DALI could not decode the batch.
        """
        if self._pipe is None:
            self._source()
            return None, None
        (waveform,) = self._pipe.run()
        return None, waveform.as_tensor()

    def close(self) -> None:
        """Wait for what is in flight and drop it."""
        self._pipe = None  # first: the graph reads from what was fed
        self._fed.clear()

    def _feed(self) -> tuple[Any, ...]:
        batch = self._source()
        tensor = dali.load().tensors.TensorCPU
        fed = [tensor(file) for file in batch.audio], list(batch.start.astype(np.int32)[:, None])
        self._fed.append(fed)  # the graph reads these arrays in place: they must outlive its work
        return fed


def _outputs(feed: Callable[[], tuple[Any, ...]], on_gpu: bool, samples: int) -> Any:
    fn, types = dali.load().fn, dali.load().types
    audio, start = fn.external_source(feed, num_outputs=2, dtype=[types.UINT8, types.INT32], no_copy=True)
    waveform, _ = fn.decoders.audio(audio, dtype=types.FLOAT, downmix=True)
    waveform = fn.slice(waveform, start=start, shape=[samples], axes=[0], out_of_bounds_policy="pad")
    return waveform.gpu() if on_gpu else waveform

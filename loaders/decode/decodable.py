"""Whether one example can be decoded, asked of the decoder that failed on its batch.

Decoders forgive unlike things: DALI's takes a JPEG of which libjpeg merely warns, simplejpeg and libjpeg-turbo's planes
do not, and planes need halved chroma. Were one's verdict taken for another's, it would depend on what else is in flight
which clips are replaced.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from loaders.dataset.manifest import ClipFormat
from loaders.decode.pipeline import DecodePipeline, Encoded, Fault, PipelineSettings
from loaders.decode.planes import frame_shape
from loaders.decode.sound import SoundDecoder
from loaders.decode.turbo import FrameDecoder
from loaders.decode.wav import decode_wav_into
from loaders.errors import as_one_line

_LONGEST = 300  # characters of a reason


@contextmanager
def faults(clip: ClipFormat, frames: int, settings: PipelineSettings) -> Iterator[Fault]:
    """What tells why an example cannot be decoded, for one thread.

    Args:
        clip, frames, settings: of the decoder that failed. For "gpu" as for "cpu", DALI on a CPU is asked.
    """
    if settings.decoder == "turbo":
        yield _by_turbo(clip, frames, settings)
        return
    one = _OneByOne(clip, frames, settings)
    try:
        yield one.fault
    finally:
        one.close()


def _by_turbo(clip: ClipFormat, frames: int, settings: PipelineSettings) -> Fault:
    rows, *rest = frame_shape(clip.size, settings.pixels)
    decoder = FrameDecoder(clip, frames, settings.pixels)
    out = np.empty((frames * rows, *rest), np.uint8)
    wave = np.empty(clip.samples, np.float32)

    def fault(example: Encoded) -> str | None:
        try:
            decoder.decode_into(example.filmstrips[0], example.frames[0], out)
            for audio in example.audio:
                decode_wav_into(audio, wave, clip.sample_rate)
        except RuntimeError as error:
            return _in_short(error)
        return None

    return fault


class _OneByOne:
    """DALI's graph on a CPU, given an example at a time; a failure spoils a pipeline, and the next is built."""

    def __init__(self, clip: ClipFormat, frames: int, settings: PipelineSettings) -> None:
        self._clip, self._frames = clip, frames
        self._settings = replace(
            settings, max_batch=1, threads=1, device=torch.device("cpu"), in_flight=1, decoder="cpu"
        )
        self._pipelines: dict[bool, DecodePipeline | SoundDecoder] = {}  # by whether there is sound
        self._given: list[Encoded] = []

    def fault(self, example: Encoded) -> str | None:
        sound = len(example.audio) > 0
        if not (sound or self._settings.video):
            return None
        if sound not in self._pipelines:
            settings = replace(self._settings, audio=sound)
            kind = DecodePipeline if settings.video else SoundDecoder
            self._pipelines[sound] = kind(self._clip, self._frames, settings, self._given.pop)
        self._given[:] = [replace(example, rows=None)]
        try:
            self._pipelines[sound].run()
        except MemoryError:
            raise  # not the clip's
        except Exception as error:  # DALI raises what its libraries do
            self._pipelines.pop(sound).close()
            return _in_short(error)
        return None

    def close(self) -> None:
        for pipeline in self._pipelines.values():
            pipeline.close()
        self._pipelines.clear()


def _in_short(error: Exception) -> str:
    """An exception in one line; of DALI's what was encountered, not where in the graph or in its sources."""
    said = str(error).rpartition("encountered:\n")[2].partition("\nC++ context")[0]
    said = said.partition("\nCurrent pipeline object")[0]
    return as_one_line(said.rstrip(" :\n") or type(error).__name__, _LONGEST)

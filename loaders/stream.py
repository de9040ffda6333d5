"""The threads between the disk and the training loop: some read and check, one decodes.

    Reader ──▶ read queue ──▶ run of DecodePipeline or TurboDecoder ──▶ decoded queue ──▶ the caller of next()

Both queues are bounded, so a slow side holds up the ones before it; each counts who waited for whom. However many
threads read, steps are drawn and handed on in their order.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loaders.dataset.manifest import ClipFormat
from loaders.decode.decodable import faults
from loaders.decode.pipeline import DecodePipeline, Encoded, Fault, PipelineSettings, samples_of
from loaders.decode.sound import SoundDecoder
from loaders.decode.turbo import TurboDecoder
from loaders.decode.wav import waveforms_into
from loaders.reader import Loaded
from loaders.threads.buffers import Buffers
from loaders.threads.handoff import ClosedError, Handoff, QueueCounts
from loaders.threads.turns import Turns

_log = logging.getLogger(__name__)
_ENDING = 60.0  # seconds that `stop` waits for the threads: a batch takes less


@dataclass(slots=True)
class StreamCounts:
    """What the streams of one loader count; outlives each of them."""

    read: QueueCounts = field(default_factory=QueueCounts)
    decoded: QueueCounts = field(default_factory=QueueCounts)
    decode_seconds: float = 0.0


class Steps(Protocol):
    """What reads steps in three hands, see `loaders.reader.Reader`."""

    def draw(self, epoch: int, step: int, settle: Callable[[], None]) -> Any:
        """What `load` takes. In order, one thread at a time."""

    def load(self, drawn: Any) -> Any:
        """What `finish` takes. Any thread."""

    def finish(self, drawn: Any) -> Loaded:
        """In order, one thread at a time."""

    def without_undecodable(self, loaded: Loaded, fault: Fault) -> Loaded | None:
        """The step with substitutes for what cannot be decoded; None where all can be. Any thread."""


class Stream:
    """Decoded batches from a place in the order onwards, until stopped."""

    def __init__(
        self,
        read: Steps,
        readers: int,
        start: tuple[int, int],
        steps: int,
        clip: ClipFormat,
        frames: int,
        settings: PipelineSettings,
        depth: int,
        counts: StreamCounts,
    ) -> None:
        """
        Args:
            read: what reads the encoded batch of an (epoch, step).
            readers: threads that do.
            start: (epoch, step) of the first batch.
            steps: steps an epoch.
            clip, frames, settings: of the pipeline.
            depth: of each queue.
            counts: to add to.
        """
        self._read = read
        self._place, self._steps = start, steps
        self._turns = Turns()
        self._waves: Buffers[np.float32] = Buffers((samples_of(clip, frames, settings.samples),), np.float32)
        self._clip, self._frames, self._settings = clip, frames, settings
        self._counts = counts
        self._loaded: Handoff[Loaded] = Handoff(depth, counts.read, "read batch")
        self._decoded: Handoff[tuple[Loaded, Any, Any]] = Handoff(depth, counts.decoded, "decoded batch")
        # Daemons, so that a program that forgets to close its loader can still end; `stop` waits for them.
        self._threads = [
            *(
                threading.Thread(target=self._reading, name=f"filmstrip-read-{number}", daemon=True)
                for number in range(readers)
            ),
            threading.Thread(target=self._decoding, name="filmstrip-decode", daemon=True),
        ]
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:  # an interrupt (Ctrl-C), or no more threads: nobody will know of those that run
            self.stop()
            raise

    def next(self) -> tuple[Loaded, Any, Any]:
        """The next batch, its frames and waveforms as what speaks DLPack, or None for both where it is empty.

        Raises whatever stopped the threads.
        """
        return self._decoded.get()

    def stop(self) -> None:
        """End the threads and drop what is queued. One that hangs in the disk or a decoder is left behind, and said."""
        self._decoded.close()
        self._loaded.close()
        self._turns.end()
        until = time.monotonic() + _ENDING
        for thread in self._threads:
            # The collector of cycles may find the loader in one of these very threads. Some may not have been started.
            if thread is not threading.current_thread() and thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))
                if thread.is_alive():
                    _log.warning("%s has not ended within %.0f s: it is left behind", thread.name, _ENDING)

    def _reading(self) -> None:
        number = 0
        try:
            while True:
                with self._turns.beginning() as number:
                    place, self._place = self._place, self._after(*self._place)
                    drawn = self._read.draw(*place, partial(self._turns.wait_for, number))
                drawn = self._read.load(drawn)
                self._turns.wait_for(number)
                self._loaded.put(self._read.finish(drawn))
                del drawn  # its memory is used again when nobody refers to it
                self._turns.done()
        except ClosedError:
            self._turns.end()
        except BaseException as error:
            with suppress(ClosedError):
                self._turns.wait_for(number)  # what comes before it is handed on first
                self._loaded.finish(error)
            self._turns.end()

    def _after(self, epoch: int, step: int) -> tuple[int, int]:
        return (epoch, step + 1) if step + 1 < self._steps else (epoch + 1, 0)

    def _decoding(self) -> None:
        waiting: deque[Loaded] = deque()  # in DALI, and the empty ones behind those, in order
        again: deque[Loaded] = deque()  # to be decoded once more, before what is read next
        failures: list[BaseException] = []

        def source() -> Encoded:
            try:
                while True:
                    loaded = again.popleft() if again else self._loaded.get()
                    if len(loaded.examples):
                        waiting.append(loaded)
                        return loaded.encoded
                    # DALI knows no empty batch: those pass it by, at once where none is before them.
                    if waiting:
                        waiting.append(loaded)
                    else:
                        self._decoded.put((loaded, None, None))
            except BaseException as error:
                # DALI lets only the end of the data out of a source: the reason is kept here.
                failures.append(error)
                raise StopIteration from error

        pipeline: DecodePipeline | TurboDecoder | SoundDecoder | None = None
        try:
            pipeline = self._pipeline(source)
            while True:
                start = time.perf_counter()
                try:
                    frames, waveform = pipeline.run()
                except (StopIteration, ClosedError):
                    raise
                except Exception as error:  # decoders raise what their libraries do
                    again.extend(self._decodable(waiting, error))
                    waiting.clear()
                    failures.clear()  # the end of the data, if it was seen, will be again
                    pipeline.close()
                    pipeline = self._pipeline(source)
                    continue
                finally:
                    self._counts.decode_seconds += time.perf_counter() - start
                loaded = waiting.popleft()
                self._decoded.put((loaded, frames, self._converted(loaded) if waveform is None else waveform))
                del loaded, frames, waveform
                while waiting and not len(waiting[0].examples):
                    self._decoded.put((waiting.popleft(), None, None))
        except StopIteration:
            self._decoded.finish(failures[0] if failures else None)
        except ClosedError:
            pass
        except BaseException as error:
            self._decoded.finish(error)
        finally:
            failures.clear()  # their tracebacks lead back here, and would keep the last batches' files open
            waiting.clear()
            again.clear()
            if pipeline is not None:
                pipeline.close()

    def _pipeline(self, source: Callable[[], Encoded]) -> DecodePipeline | TurboDecoder | SoundDecoder:
        if not self._settings.video:
            return SoundDecoder(self._clip, self._frames, self._settings, source)
        if self._settings.decoder == "turbo":
            return TurboDecoder(self._clip, self._frames, self._settings, source)
        return DecodePipeline(self._clip, self._frames, self._settings, source)

    def _decodable(self, steps: Iterable[Loaded], error: Exception) -> list[Loaded]:
        """Steps of which one could not be decoded, with substitutes for the clips at fault.

        All are looked through, also those behind it: they would fail by themselves.

        Raises:
            Exception: ``error``, where no clip is: then the decoder is.
        """
        with faults(self._clip, self._frames, self._settings) as fault:
            whole = [(step, self._read.without_undecodable(step, fault)) for step in steps]
        if all(mended is None for _, mended in whole):
            raise error
        return [step if mended is None else mended for step, mended in whole]

    def _converted(self, loaded: Loaded) -> NDArray[np.float32] | None:
        """The waveforms of sound that came as rows; for a GPU they are made there, see `loaders.decode.wav`."""
        rows = loaded.encoded.rows
        if rows is None or self._settings.device.type != "cpu":
            return None
        out = self._waves.lend(len(rows))
        waveforms_into(rows.samples, loaded.encoded.start, out)
        return out

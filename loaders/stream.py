"""The two threads between the disk and the training loop: one reads and checks, the other decodes.

    Reader.read ──▶ read queue ──▶ run of DecodePipeline or TurboDecoder ──▶ decoded queue ──▶ the caller of next()

Both queues are bounded, so a slow side holds up the ones before it; each counts who waited for whom.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loaders.dataset import ClipFormat
from loaders.handoff import ClosedError, Handoff, QueueCounts
from loaders.pipeline import DecodePipeline, Encoded, PipelineSettings
from loaders.reader import Loaded
from loaders.turbo import TurboDecoder


@dataclass(slots=True)
class StreamCounts:
    """What the streams of one loader count; outlives each of them."""

    read: QueueCounts = field(default_factory=QueueCounts)
    decoded: QueueCounts = field(default_factory=QueueCounts)
    decode_seconds: float = 0.0


class Stream:
    """Decoded batches from a place in the order onwards, until stopped."""

    def __init__(
        self,
        read: Callable[[int, int], Loaded],
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
            read: the encoded batch of an (epoch, step).
            start: (epoch, step) of the first batch.
            steps: steps an epoch.
            clip, frames, settings: of the pipeline.
            depth: of each queue.
            counts: to add to.
        """
        self._read = read
        self._start, self._steps = start, steps
        self._clip, self._frames, self._settings = clip, frames, settings
        self._counts = counts
        self._loaded: Handoff[Loaded] = Handoff(depth, counts.read)
        self._decoded: Handoff[tuple[Loaded, Any, Any]] = Handoff(depth, counts.decoded)
        # Daemons, so that a program that forgets to close its loader can still end; `stop` waits for them.
        self._threads = [
            threading.Thread(target=self._reading, name="filmstrip-read", daemon=True),
            threading.Thread(target=self._decoding, name="filmstrip-decode", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def next(self) -> tuple[Loaded, Any, Any]:
        """The next batch, its frames and waveforms as what speaks DLPack, or None for both where it is empty.

        Raises whatever stopped the threads.
        """
        return self._decoded.get()

    def stop(self) -> None:
        """End both threads and drop what is queued."""
        self._decoded.close()
        self._loaded.close()
        for thread in self._threads:
            # The collector of cycles may find the loader in one of these very threads.
            if thread is not threading.current_thread():
                thread.join()

    def _reading(self) -> None:
        epoch, step = self._start
        try:
            while True:
                self._loaded.put(self._read(epoch, step))
                step += 1
                if step == self._steps:
                    epoch, step = epoch + 1, 0
        except ClosedError:
            pass
        except BaseException as error:
            self._loaded.finish(error)

    def _decoding(self) -> None:
        waiting: deque[Loaded] = deque()  # in DALI, and the empty ones behind those, in order
        failures: list[BaseException] = []

        def source() -> Encoded:
            try:
                while True:
                    loaded = self._loaded.get()
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

        pipeline: DecodePipeline | TurboDecoder | None = None
        try:
            if self._settings.decoder == "turbo":
                pipeline = TurboDecoder(self._clip, self._settings, source)
            else:
                pipeline = DecodePipeline(self._clip, self._frames, self._settings, source)
            while True:
                start = time.perf_counter()
                try:
                    frames, waveform = pipeline.run()
                finally:
                    self._counts.decode_seconds += time.perf_counter() - start
                self._decoded.put((waiting.popleft(), frames, waveform))
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
            if pipeline is not None:
                pipeline.close()

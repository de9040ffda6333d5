"""A training that is told to stop ends after a checkpoint, on all ranks at the same step.

SIGTERM (schedulers, service managers), SIGINT (Ctrl-C) and SIGHUP (a terminal that is closed) are heeded between two
steps, and in the middle of a wait for data, which may last. A second signal ends the process at once.

Before each step the ranks agree whether to go on: a step that one rank begins and another does not would never end,
for its gradients are of all. They agree on the hosts, by gloo: nothing waits for a GPU.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist
from accelerate import Accelerator

from loaders import Batch, ClipLoader

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Seconds in which a signal is the same one once more: a scheduler tells every process, and a launcher tells its own
#: processes again.
_SAME = 2.0
_LONGEST_SLEEP = 0.002  # seconds between two looks whether the others have answered


class TrainingStopped(SystemExit):
    """A signal ended a training in order. Its code is 128 and the signal's number, as a shell has it: 143 for
    SIGTERM, 130 for Ctrl-C."""


class _NoMoreWaitError(BaseException):
    """A signal came while data was awaited. No Exception: nobody takes it for a fault of the data."""


class Stopping:
    """Within it, signals to end are heeded as the module says; after it, as they were before.

    Attributes:
        agreed: the ranks have agreed to stop.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        """Called by every process."""
        self.agreed = False
        self._number: int | None = None  # of the signal that came
        self._since = 0.0
        self._waiting = False
        self._place: dict[str, int] = {}
        self._before: dict[int, Any] = {}
        self._group: Any = None
        if accelerator.num_processes > 1:
            self._group = dist.new_group(backend="gloo")

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # no other may have handlers
            for number in SIGNALS:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # not what nohup ignores
                    self._before[number] = signal.signal(number, self._heed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def batches(self, loader: ClipLoader, a_step: int = 1) -> Iterator[Batch]:
        """The loader's batches, epoch after epoch, up to where the ranks agree to stop.

        Args:
            loader: of this rank; every rank asks for as many batches.
            a_step: batches that a step takes. All of them are awaited before the first is given away, for a step that
                has begun cannot be taken back.
        """
        source = iter(loader)
        while True:
            self._place = {"epoch": loader.epoch, "step": loader.step}
            taken: list[Batch] = []
            while len(taken) < a_step and self._number is None:
                batch = self._awaited(source)
                if batch is None:
                    source = iter(loader)
                else:
                    taken.append(batch)
            if self.agree():
                return
            self._place = {}
            yield from taken

    def agree(self) -> bool:
        """Whether any rank was told to stop. Called by every rank, between two steps."""
        here = self._number or 0
        if self._group is not None:
            told = torch.tensor(here)
            work = dist.all_reduce(told, dist.ReduceOp.MAX, self._group, async_op=True)
            pause = 0.00002
            while not work.is_completed():  # in Python, where signals are heard
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_SLEEP)
            work.wait()
            here = int(told)
            if here and self._number is None:  # this rank's own may still come
                self._number, self._since = here, time.monotonic()
        self.agreed = self.agreed or here != 0
        return self.agreed

    def state_of(self, loader: ClipLoader) -> dict[str, Any]:
        """The loader's state behind the last step that was taken: a batch that came when it was too late is not."""
        return loader.state_dict() | self._place

    def ended(self, accelerator: Accelerator, step: int, goes_on: Path | None) -> TrainingStopped:
        """What to raise when the ranks have agreed and the checkpoint is written; says so in a line.

        Args:
            accelerator: for the ranks.
            step: steps that were taken.
            goes_on: the checkpoint that --resume goes on from; None where there is none yet.
        """
        number = self._number or signal.SIGTERM
        mend = "begins anew: there is no checkpoint yet" if goes_on is None else f"goes on from {goes_on}"
        if accelerator.is_main_process:
            print(f"stopped by {signal.Signals(number).name} after step {step}: --resume {mend}", file=sys.stderr)
        return TrainingStopped(128 + number)

    def _awaited(self, source: Iterator[Batch]) -> Batch | None:
        """The next batch; None where the epoch has ended, or a signal came."""
        try:
            try:
                self._waiting = True
                # Looked at after it is known that we wait: a signal in between is seen by one of the two.
                return None if self._number is not None else next(source, None)
            finally:
                self._waiting = False
        except _NoMoreWaitError:  # also of a signal that came at the very end of the wait
            return None

    def _heed(self, number: int, frame: FrameType | None) -> None:
        """A signal's handler."""
        now = time.monotonic()
        if self._number is None:
            self._number, self._since = number, now
            if self._waiting:
                self._waiting = False
                raise _NoMoreWaitError
        elif now - self._since > _SAME:
            os._exit(128 + number)

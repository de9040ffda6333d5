"""A command that is told to stop does it in order: what it holds is let go, its workers end, a line says how it is
gone on with."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)  # of schedulers and service managers; of a terminal that is closed


class StoppedError(BaseException):
    """A signal asked this process to end. No Exception: nobody takes it for a fault of what is being done."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@contextmanager
def stopped_in_order(mend: str) -> Iterator[None]:
    """Around a command's work: SIGTERM and SIGHUP end it as Ctrl-C does, through every clean-up on the way.

    One line says so, and the exit status is 128 and the signal's number, as a shell has it: 143, 129, and 130 for
    Ctrl-C. A signal that is ignored, as under nohup, goes on being ignored.

    Args:
        mend: how the work is gone on with.
    """
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        if before[number] is signal.SIG_DFL:
            signal.signal(number, raise_stopped)
    try:
        yield
    except KeyboardInterrupt:
        print(f"interrupted: {mend}", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    except StoppedError as stopped:
        print(f"stopped by {stopped}: {mend}", file=sys.stderr)
        raise SystemExit(128 + stopped.number) from None
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is raise_stopped:
                signal.signal(number, handler)


def raise_stopped(number: int, frame: FrameType | None) -> None:
    """A signal's handler."""
    raise StoppedError(number)

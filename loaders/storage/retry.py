"""When to ask again for what could not be fetched: one policy for everything that is."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from loaders.errors import InputError, first_line

_log = logging.getLogger(__name__)

R = TypeVar("R")

ATTEMPTS = 8  #: before giving up, beside those that a file system makes itself
PAUSE = 0.5  #: seconds after the first failure; each further one doubles it: about a minute in all
LONGEST = 30.0  #: seconds between two attempts

# What no patience mends: no such object or bucket, no right to it, a store that is only read.
_LASTING = (FileNotFoundError, PermissionError, NotImplementedError, InputError)
_LASTING_NAMES = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")


def pause(attempt: int, first: float = PAUSE) -> float:
    """Seconds to wait after the failure of attempt 0, 1, …: each time twice as long, up to a limit."""
    return min(LONGEST, first * float(2 ** min(attempt, 60)))


def is_lasting(error: BaseException) -> bool:
    """Whether asking again cannot help."""
    return isinstance(error, _LASTING) or type(error).__name__ in _LASTING_NAMES


def persist(
    attempt: Callable[[], R],
    what: str,
    *,
    attempts: int = ATTEMPTS,
    first: float = PAUSE,
    sleep: Callable[[float], None] = time.sleep,
) -> R:
    """What ``attempt`` returns, tried until it does not fail or it is time to give up. Each failure is logged.

    Args:
        attempt: one request, or several that can be made again.
        what: is asked for: a URL, for the messages.
        attempts: 1 or more.
        first: seconds to wait after the first failure.
        sleep: for tests.

    Raises:
        InputError: it failed for good; ``try_again`` where it was time to give up.
    """
    for number in range(attempts):
        try:
            return attempt()
        except InputError:
            raise
        except Exception as error:  # of any library that a file system is made of
            why = first_line(error)
            if is_lasting(error):
                raise InputError(f"{what}: {why}: see to the bucket, the endpoint and the credentials") from error
            if number + 1 == attempts:
                raise InputError(
                    f"{what}: failed {attempts} times, at last with: {why}: see to the store and the network, "
                    "then run again",
                    try_again=True,
                ) from error
            wait = pause(number, first)
            _log.warning("%s: attempt %d of %d failed (%s): again in %.1f s", what, number + 1, attempts, why, wait)
        sleep(wait)
    raise AssertionError("a request needs an attempt")

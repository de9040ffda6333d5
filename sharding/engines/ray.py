"""The engine beyond one machine: jobs as Ray tasks, on a cluster or in a Ray that is started here for the build.

Ray is an extra. The workers' machines need this package too, and the same files under the same paths.
"""

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from loaders.errors import InputError, first_line
from sharding.engines.local import WorkerDiedError

J = TypeVar("J")
R = TypeVar("R")

_RETRIES = 3  # of a job whose worker or machine died; a job that raises is not tried again
_PENDING = 1000  # jobs given to Ray at a time: enough for it to see that more machines would help
_PATIENCE = 10.0  # seconds, with an address at which nothing answers
_OBJECT_STORE = 100 << 20  # bytes: jobs are lists of names and results are counts


@dataclass(frozen=True, slots=True, kw_only=True)
class RayEngine:
    """Ray tasks of one core each, tried again where their worker dies."""

    address: str | None = None  #: of a running cluster, as ``ray.init`` takes it; None starts a Ray for this run alone
    workers: int = 1  #: cores of the Ray that is started; a cluster's are its own affair

    def run(self, function: Callable[[J], R], jobs: Sequence[J]) -> Iterator[R]:
        """See `sharding.engines.local.Engine.run`. A Ray that this process is connected to already is used as it is.

        Raises:
            InputError: Ray is not installed, cannot be started, or nothing answers at the address.
            WorkerDiedError: a job's workers died again and again.
        """
        if not jobs:
            return
        ray = require_ray()
        with _connected(ray, self.address, self.workers):
            task = ray.remote(num_cpus=1, max_retries=_RETRIES, retry_exceptions=False)(_call)
            left = iter(jobs)
            waiting = [task.remote(function, job) for job in islice(left, _PENDING)]
            try:
                while waiting:
                    (done,), waiting = ray.wait(waiting, num_returns=1)
                    waiting += [task.remote(function, job) for job in islice(left, 1)]
                    yield _result(ray, done)
            finally:
                for pending in waiting:
                    ray.cancel(pending)


def _call(function: Callable[[J], R], job: J) -> R:
    return function(job)


def require_ray() -> Any:
    """The module ``ray``.

    Raises:
        InputError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a build tells nobody of itself
    try:
        import ray
    except ImportError as error:
        raise InputError(f"--engine ray needs Ray ({error}): pip install '.[ray]'") from error
    return ray


def _result(ray: Any, done: Any) -> Any:
    died = (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.NodeDiedError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.ObjectLostError,
    )
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        # The exception itself, not Ray's wrapping of it: who catches an OSError wants to know the file.
        raise (error.cause if isinstance(error.cause, Exception) else error) from None
    except died as error:
        raise WorkerDiedError(
            f"a Ray worker died {_RETRIES + 1} times over the same job: was it killed, or is the memory used up?"
        ) from error


@contextmanager
def _connected(ray: Any, address: str | None, workers: int) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    _settle_token(address)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            ray.init(
                address="local", num_cpus=workers, include_dashboard=False, object_store_memory=_OBJECT_STORE, **quiet
            )
        else:
            _require_answer(address)
            ray.init(address=address, **quiet)
    except Exception as error:  # not only of these kinds: of a node that is slow to start, Ray raises Exception itself
        where = "Ray could not be started" if address is None else f"--address {address}: no Ray cluster answers"
        slow = type(error) is Exception
        mend = f"{'run it again, or ' if slow else ''}start one with `ray start --head`, and give its address"
        token = "" if address is None else "; one that wants a token finds it in ~/.ray/auth_token or RAY_AUTH_TOKEN"
        raise InputError(f"{where} ({first_line(error)}): {mend}{token}", try_again=slow) from error
    try:
        _restore(before)
        yield
    finally:
        ray.shutdown()


def _restore(handler: Any) -> None:
    """Ray puts a handler of SIGTERM of its own in the place of any; it stays where there was none."""
    if threading.current_thread() is threading.main_thread() and handler not in (signal.SIG_DFL, None):
        signal.signal(signal.SIGTERM, handler)


def _settle_token(address: str | None) -> None:
    """See to it that both sides of a connection know whether there is a token.

    A Ray that a program starts makes up a token, and writes it into the user's home (2.60 does), where every cluster
    that is started later takes it up; but for who gives such a cluster's address Ray does not look for a token, and he
    is turned away. So a Ray of a run's own gets a token that is written nowhere, and to an address goes the token that
    Ray finds. A cluster that wants none takes it as well.
    """
    try:
        from ray._private.authentication import authentication_token_setup as setup

        take_up = setup.maybe_enable_token_auth_if_token_available
    except (ImportError, AttributeError):  # a Ray that knows no tokens, or keeps them elsewhere
        return
    found = any(name in os.environ for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if address is None and not found and not Path("~/.ray/auth_token").expanduser().exists():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    logger = setup.logger
    before, logger.disabled = logger.disabled, True  # it warns that it does what it is told
    try:
        take_up(warn_if_disabled=False)
    finally:
        logger.disabled = before


def _require_answer(address: str) -> None:
    """Raise OSError where nothing listens at a host:port: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()

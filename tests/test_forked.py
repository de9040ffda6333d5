"""Processes that tests fork are there, end, and may be killed at any moment."""

import signal
import time
from unittest import mock

from tests.forked import ENVIRONMENT, Forked


def test_what_ends_by_itself_may_be_killed_all_the_same() -> None:
    process = Forked(time.sleep, 0, environment=ENVIRONMENT)
    process.communicate(60)
    process.kill()
    assert process.returncode == 0
    with mock.patch.object(Forked, "returncode", None):  # as long as its end has not been told
        process.kill()


def test_a_killed_one_says_by_what() -> None:
    process = Forked(time.sleep, 60, environment=ENVIRONMENT, session=True)
    process.kill()
    process.communicate(60)
    assert process.returncode == -signal.SIGKILL

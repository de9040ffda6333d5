"""Networks of others, for tests that need them, where they are at hand."""

from __future__ import annotations

import functools
import importlib.util

import pytest

from sharding.networks.known import KNOWN
from sharding.networks.wheels import missing


@functools.cache
def why_not(name: str) -> str | None:
    """Why nothing can be found by them here."""
    if importlib.util.find_spec("cv2") is None:
        return "OpenCV is not installed: the extras faces and mediapipe"
    if missing(KNOWN[name]):
        return f"{name} is not in the cache: make networks"
    return None


def needs_network(name: str) -> pytest.MarkDecorator:
    """A test of what they find."""
    return pytest.mark.skipif(why_not(name) is not None, reason=why_not(name) or "")


needs_centerface = needs_network("centerface")

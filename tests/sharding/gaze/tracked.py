"""Real clips and MediaPipe's networks, for tests that need them, where they are at hand."""

from __future__ import annotations

import functools
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sharding.media.reader import read_frames
from tests import networks

REAL = Path(__file__).parents[4] / "shared" / "real"
GRID, TALKING = "grid/bbaf2n.mpg", "wide/fps30.mp4"
TURNING = "voxceleb2/dev/mp4/id90002/clip741400104/00001.mp4"
WINKING = "voxceleb2/dev/mp4/id90007/clip681100216/00001.mp4"


def no_networks() -> str | None:
    """Why nothing can be tracked here, not even a drawn face."""
    return networks.why_not("mediapipe")


def why_not() -> str | None:
    """Why no real face can be tracked here."""
    return no_networks() or (None if REAL.is_dir() else "there are no real clips in ../shared/real")


needs_networks = pytest.mark.skipif(no_networks() is not None, reason=no_networks() or "")
needs_real_faces = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


@functools.cache
def pictures(clip: str, count: int | None = None) -> tuple[NDArray[np.uint8], ...]:
    """The first pictures of a clip, at 25 a second."""
    return tuple(islice(read_frames(REAL / clip, fps=25), count))

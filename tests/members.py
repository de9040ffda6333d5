"""Members for the small dataset: functionals of most clips, and gaze frame by frame."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.dataset.members import Member

FUNCTIONALS = Member(name="egemaps", extension="npy", dtype="float32", shape=(88,), required=False)
GAZE = Member(name="gaze_frames", extension="npy", dtype="float32", shape=(20, 13), required=False, variable=True)


def functionals(split: str, row: int) -> NDArray[Any] | None:
    """Of most clips."""
    return None if row % 7 == 6 else np.random.default_rng([row, len(split)]).normal(100, 9, 88).astype(np.float32)


def gaze(split: str, row: int) -> NDArray[Any] | None:
    rows = np.random.default_rng([row, len(split)]).normal(size=(row % 20, 13)).astype(np.float32)
    rows[:, -1] = np.arange(len(rows)) % 3 > 0
    return None if row % 5 == 4 else rows

"""The tolerance of frames lets through how decoders differ, and nothing else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from loaders.dataset.catalog import open_catalog
from loaders.dataset.shards import Shards
from tests.encoded import by_pillow
from tests.frames import frame_faults


@pytest.fixture(scope="module")
def strips(dataset: Path) -> list[NDArray[np.uint8]]:
    """Encoded filmstrips, 4:2:0, the hardest of frames: 32 pixels wide and of strong colours."""
    shards = Shards(open_catalog(dataset, "train", ["filmstrip"]))
    read = [shards.read("filmstrip", row) for row in range(20)]
    return [strip for strip in read if strip is not None]


def decoded(strips: list[NDArray[np.uint8]]) -> torch.Tensor:
    return torch.from_numpy(np.stack([by_pillow(strip).reshape(16, 32, 32, 3) for strip in strips]))


def rounded_otherwise(frames: torch.Tensor) -> torch.Tensor:
    """A level off here and there, as from another inverse transform."""
    off = torch.from_numpy(np.random.default_rng(0).choice([-1, 0, 0, 1], size=frames.shape))
    return (frames.int() + off).clamp(0, 255).to(torch.uint8)


def test_decoders_that_round_otherwise_agree(strips: list[NDArray[np.uint8]]) -> None:
    frames = decoded(strips)
    for other in (frames.clone(), rounded_otherwise(frames)):
        assert frame_faults(frames, other) == []


def test_frames_of_another_place_order_or_clip_do_not(strips: list[NDArray[np.uint8]]) -> None:
    frames = decoded(strips)
    for other in (
        frames.flip(-1),  # BGR
        frames.roll(1, 3),  # a pixel aside
        frames.roll(1, 1),  # the frame before
        frames.roll(1, 0),  # the clip before
        (frames.int() + 4).clamp(0, 255).to(torch.uint8),  # brighter
    ):
        assert frame_faults(frames, other) != []
    assert frame_faults(frames, frames[:, :-1]) != []

"""The tolerance of frames lets through how decoders differ, and nothing else."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from loaders.dataset.catalog import open_catalog
from loaders.dataset.shards import Shards
from tests.frames import frame_faults


@pytest.fixture(scope="module")
def strips(dataset: Path) -> list[NDArray[np.uint8]]:
    """Encoded filmstrips, 4:2:0, the hardest of frames: 32 pixels wide and of strong colours."""
    shards = Shards(open_catalog(dataset, "train", ["filmstrip"]))
    read = [shards.read("filmstrip", row) for row in range(20)]
    return [strip for strip in read if strip is not None]


def decoded(strips: list[NDArray[np.uint8]]) -> torch.Tensor:
    pictures = [np.asarray(Image.open(io.BytesIO(strip.tobytes())).convert("RGB")) for strip in strips]
    return torch.from_numpy(np.stack(pictures))


def with_one_chroma_for_four_pixels(strips: list[NDArray[np.uint8]]) -> torch.Tensor:
    """As a decoder has it that does not interpolate: the mean of the four that one that does makes."""
    pictures = []
    for strip in strips:
        picture = Image.open(io.BytesIO(strip.tobytes()))
        picture.draft("YCbCr", picture.size)
        planes = np.asarray(picture.convert("YCbCr")).astype(np.float64)
        chroma = planes.reshape(planes.shape[0] // 2, 2, planes.shape[1] // 2, 2, 3).mean((1, 3))
        planes[..., 1:] = chroma.repeat(2, 0).repeat(2, 1)[..., 1:]
        blocky = Image.fromarray(np.rint(planes).astype(np.uint8), "YCbCr")
        pictures.append(np.asarray(blocky.convert("RGB")))
    return torch.from_numpy(np.stack(pictures))


def rounded_otherwise(frames: torch.Tensor) -> torch.Tensor:
    """A level off here and there, as from another inverse transform."""
    off = torch.from_numpy(np.random.default_rng(0).choice([-1, 0, 0, 1], size=frames.shape))
    return (frames.int() + off).clamp(0, 255).to(torch.uint8)


def test_decoders_that_round_otherwise_agree(strips: list[NDArray[np.uint8]]) -> None:
    frames = decoded(strips)
    for other in (frames.clone(), rounded_otherwise(frames)):
        assert frame_faults(frames, other) == frame_faults(frames, other, chroma_repeated=True) == []


def test_decoders_that_spread_chroma_otherwise_agree_only_where_that_is_known(strips: list[NDArray[np.uint8]]) -> None:
    smooth, blocky = decoded(strips), with_one_chroma_for_four_pixels(strips)
    assert (smooth.int() - blocky.int()).abs().max() > 10  # they do differ
    assert frame_faults(smooth, blocky, chroma_repeated=True) == []
    assert frame_faults(smooth, blocky) != []


@pytest.mark.parametrize("chroma_repeated", [False, True])
def test_frames_of_another_place_order_or_clip_do_not(strips: list[NDArray[np.uint8]], chroma_repeated: bool) -> None:
    frames = decoded(strips)
    for other in (
        frames.flip(-1),  # BGR
        frames.roll(1, 2),  # a pixel aside
        frames.roll(32, 1),  # the frame before
        frames.roll(1, 0),  # the clip before
        (frames.int() + 3).clamp(0, 255).to(torch.uint8),  # brighter
    ):
        assert frame_faults(frames, other, chroma_repeated=chroma_repeated) != []
    assert frame_faults(frames, frames[:, :-1], chroma_repeated=chroma_repeated) != []

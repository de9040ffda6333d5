"""When frames from two JPEG decoders count as the same: the tolerance that `loaders.reference` states."""

import numpy as np
import torch
from numpy.typing import NDArray

GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def frame_faults(ours: torch.Tensor, theirs: torch.Tensor, *, edges_apart: bool = False) -> list[str]:
    """What is beyond the tolerance between frames (…, H, W, 3) uint8; empty where they count as the same.

    Args:
        edges_apart: halved chroma of one was interpolated over the edges between other frames than the other's, which
            shows in the first and the last row of pixels: there grey values are compared, which hardly change by it.
    """
    if ours.shape != theirs.shape:
        return [f"shapes {tuple(ours.shape)} and {tuple(theirs.shape)}"]
    difference = _levels(ours) - _levels(theirs)
    measured = {}
    if edges_apart:
        grey = np.abs(difference[..., [0, -1], :, :] @ GREY)
        measured = {"edges' grey, mean": (grey.mean(), 1.0), "edges' grey, 99 of 100": (np.percentile(grey, 99), 2.0)}
        difference = difference[..., 1:-1, :, :]
    channels = np.abs(difference)
    measured |= {"channels, mean": (channels.mean(), 1.0), "channels, largest": (channels.max(), 3.0)}
    return [f"{name}: {value:.2f} levels" for name, (value, most) in measured.items() if value > most]


def _levels(frames: torch.Tensor) -> NDArray[np.float64]:
    return frames.cpu().numpy().astype(np.float64)

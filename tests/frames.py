"""When frames from two JPEG decoders count as the same: the tolerance that `loaders.reference` states."""

import numpy as np
import torch
from numpy.typing import NDArray

GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def frame_faults(ours: torch.Tensor, theirs: torch.Tensor, *, chroma_repeated: bool = False) -> list[str]:
    """What is beyond the tolerance between frames (…, 3) uint8; empty where they count as the same.

    Args:
        chroma_repeated: one of the decoders repeats chroma samples instead of interpolating them, as nvJPEG does in
            windows of 4:2:0.
    """
    if ours.shape != theirs.shape:
        return [f"shapes {tuple(ours.shape)} and {tuple(theirs.shape)}"]
    difference = _levels(ours) - _levels(theirs)
    channels = np.abs(difference)
    if chroma_repeated:
        grey = np.abs(difference @ GREY)
        measured = {
            "grey, mean": (grey.mean(), 1.0),
            "grey, 99 of 100": (np.percentile(grey, 99), 2.0),
            "channels, mean": (channels.mean(), 4.0),
        }
    else:
        measured = {"channels, mean": (channels.mean(), 1.0), "channels, largest": (channels.max(), 3.0)}
    return [f"{name}: {value:.2f} levels" for name, (value, most) in measured.items() if value > most]


def _levels(frames: torch.Tensor) -> NDArray[np.float64]:
    return frames.cpu().numpy().astype(np.float64)

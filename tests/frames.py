"""When frames from two JPEG decoders count as the same: the tolerance that `loaders.reference` states."""

import numpy as np
import torch
from numpy.typing import NDArray


def frame_faults(ours: torch.Tensor, theirs: torch.Tensor) -> list[str]:
    """What is beyond the tolerance between frames (…, H, W, 3) uint8; empty where they count as the same."""
    if ours.shape != theirs.shape:
        return [f"shapes {tuple(ours.shape)} and {tuple(theirs.shape)}"]
    channels = np.abs(_levels(ours) - _levels(theirs))
    measured = {"channels, mean": (channels.mean(), 1.0), "channels, largest": (channels.max(), 3.0)}
    return [f"{name}: {value:.2f} levels" for name, (value, most) in measured.items() if value > most]


def _levels(frames: torch.Tensor) -> NDArray[np.float64]:
    return frames.cpu().numpy().astype(np.float64)

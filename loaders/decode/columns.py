"""A batch's small columns as tensors: to a GPU they travel in one piece."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_ALIGNED = 16  # bytes: at which every column begins


def to_device(columns: Sequence[NDArray[Any]], device: torch.device) -> list[torch.Tensor]:
    """The columns on a device: on a CPU where they lie, on a GPU as views of one copy, for which nobody waits."""
    if device.type == "cpu":
        return [torch.from_numpy(column) for column in columns]
    ends = np.cumsum([-(-column.nbytes // _ALIGNED) * _ALIGNED for column in columns]).tolist()
    # From other memory than page-locked the host would wait for the copy. torch keeps it until the copy is done.
    piece = torch.empty(ends[-1], dtype=torch.uint8, pin_memory=True)
    return views(fill(piece, columns).to(device, non_blocking=True), columns)


def fill(piece: torch.Tensor, columns: Sequence[NDArray[Any]]) -> torch.Tensor:
    """Lay the columns into a piece of memory (bytes,) one after the other, and return it."""
    bytes_, at = piece.numpy(), 0
    for column in columns:
        bytes_[at : at + column.nbytes] = np.ascontiguousarray(column).reshape(-1).view(np.uint8)
        at += -(-column.nbytes // _ALIGNED) * _ALIGNED
    return piece


def views(piece: torch.Tensor, columns: Sequence[NDArray[Any]]) -> list[torch.Tensor]:
    """The columns that `fill` laid there, wherever the piece is now."""
    found, at = [], 0
    for column in columns:
        dtype = torch.from_numpy(np.empty(0, column.dtype)).dtype
        found.append(piece[at : at + column.nbytes].view(dtype).view(column.shape))
        at += -(-column.nbytes // _ALIGNED) * _ALIGNED
    return found

"""The global batch: what all ranks hold, so that a loss that compares rows, or counts them, is that of one process.

A mean over rows can be taken a rank at a time, as long as each rank has as many of them. A hardest example, a
concordance, or a mean over those rows that have a label cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


def ranks() -> int:
    """Processes that train together; 1 where there is but this one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_rows(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The rows of all ranks, laid end to end in the order of the ranks, which is that of the loader's global batch.

    Called by every rank with tensors of the same shapes. Each then computes the same loss on the same rows, so that
    what reaches a rank's own rows is the whole of their gradient, without another word between the ranks. It is
    multiplied by the number of ranks, by which data-parallel training divides the sum of what the ranks have.

    Args:
        tensors: (B, …) each, of floating point or of integers.

    Returns:
        (ranks · B, …) each; floats are float32, and have their gradient. With one rank, the tensors themselves.
    """
    if ranks() == 1:
        return list(tensors)
    found: dict[int, Tensor] = {}
    for floating in (True, False):  # one message a kind
        places = [place for place, tensor in enumerate(tensors) if tensor.is_floating_point() == floating]
        if not places:
            continue
        kind = torch.float32 if floating else torch.int64
        flat = [tensors[place].to(kind).reshape(len(tensors[place]), -1) for place in places]
        packed = torch.cat(flat, dim=1)
        gathered: Tensor = _Gather.apply(packed)  # type: ignore[no-untyped-call]
        parts = torch.split(gathered, [part.shape[1] for part in flat], dim=1)
        for place, part in zip(places, parts, strict=True):
            found[place] = part.reshape(len(part), *tensors[place].shape[1:])
    return [found[place] for place in range(len(tensors))]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rows = rows.contiguous()
        ctx.count = len(rows)
        gathered = rows.new_empty((ranks() * len(rows), *rows.shape[1:]))
        dist.all_gather(list(gathered.chunk(ranks())), rows)
        return gathered

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        first = dist.get_rank() * ctx.count
        return ranks() * gradients[0][first : first + ctx.count]

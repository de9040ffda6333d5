"""Batches as something to compare."""

import hashlib
from collections.abc import Iterable

import torch

from loaders.batch import Batch


def digest(batch: Batch) -> str:
    """A hash of every tensor's type, shape and bytes: equal for equal batches, in any process."""
    total = hashlib.sha256()
    for name, tensor in tensors(batch):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        total.update(tensor.cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


def tensors(batch: Batch) -> list[tuple[str, torch.Tensor]]:
    """Every tensor with its name, as ``clip`` or ``targets.emotion``."""
    found = []
    for name, value in batch.as_dict().items():
        if isinstance(value, torch.Tensor):
            found.append((name, value))
        else:
            found += [(f"{name}.{part}", tensor) for part, tensor in value.items()]
    return found


def digests(batches: Iterable[Batch]) -> list[str]:
    """`digest` of each."""
    return [digest(batch) for batch in batches]

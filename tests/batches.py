"""Batches as something to compare."""

import hashlib
from collections.abc import Iterable
from dataclasses import fields

from loaders.batch import Batch


def digest(batch: Batch) -> str:
    """A hash of every tensor's type, shape and bytes: equal for equal batches, in any process."""
    total = hashlib.sha256()
    for field in fields(batch):
        tensor = getattr(batch, field.name).cpu().contiguous()
        total.update(f"{field.name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()[:16]


def digests(batches: Iterable[Batch]) -> list[str]:
    """`digest` of each."""
    return [digest(batch) for batch in batches]

"""Means and deviations of members over whole training splits, from dataset.json: the same on every rank."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from loaders.dataset.catalog import Catalog
from loaders.dataset.manifest import MemberMoments
from models.towers.tower import Moments, Tower


def take_moments(network: nn.Module, catalogs: Sequence[Catalog]) -> tuple[str, ...]:
    """Have a network's towers standardise members by the moments of the training data.

    Args:
        network: whose towers; those in its ``further`` too.
        catalogs: of the training data; of several datasets' moments each counts by its clips that have the member.

    Returns:
        The members that a tower would standardise so and of which a dataset states no moments: they are measured while
        training, batch by batch.
    """
    known = {name: pooled for name in _stated(catalogs) if (pooled := _pooled(name, catalogs)) is not None}
    lacking: dict[str, None] = {}
    for module in network.modules():
        if isinstance(module, Tower):
            lacking |= dict.fromkeys(module.take_moments(known))
    return tuple(lacking)


def _stated(catalogs: Sequence[Catalog]) -> list[str]:
    return sorted({name for catalog in catalogs for name in catalog.manifest.moments})


def _pooled(name: str, catalogs: Sequence[Catalog]) -> Moments | None:
    """None where one of the datasets does not state them, or no clip has the member, or they have other shapes."""
    stated = [catalog.manifest.moments.get(name) for catalog in catalogs]
    found: list[MemberMoments] = [one for one in stated if one is not None]
    total = sum(one.count for one in found)
    if len(found) < len(stated) or total == 0 or len({len(one.mean) for one in found}) > 1:
        return None
    share = torch.tensor([one.count / total for one in found], dtype=torch.float64)[:, None]
    means, stds = (_rows(found, part) for part in ("mean", "std"))
    mean = (share * means).sum(0)
    variance = (share * (stds.square() + (means - mean).square())).sum(0)
    return Moments(mean, variance.sqrt())


def _rows(found: Sequence[MemberMoments], part: str) -> Tensor:
    return torch.tensor([getattr(one, part) for one in found], dtype=torch.float64)

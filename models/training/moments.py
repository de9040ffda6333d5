"""Means and deviations of members over whole training splits, from dataset.json: the same on every rank."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

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
    if len(found) < len(stated) or sum(one.count for one in found) == 0 or len({len(one.mean) for one in found}) > 1:
        return None
    return pooled([one.count for one in found], [one.mean for one in found], [one.std for one in found])


def pooled(counts: Sequence[int], means: Sequence[Sequence[float]], stds: Sequence[Sequence[float]]) -> Moments:
    """Mean and deviation of several sets of rows together, from those of each: float64.

    Args:
        counts: rows of each set, of which there are some.
        means, stds: of each set, as many numbers as a row has.
    """
    clips = torch.tensor([float(count) for count in counts], dtype=torch.float64)[:, None]
    share = clips / clips.sum()
    of_each, deviations = (torch.tensor(values, dtype=torch.float64) for values in (means, stds))
    mean = (share * of_each).sum(0)
    variance = (share * (deviations.square() + (of_each - mean).square())).sum(0)
    return Moments(mean, variance.sqrt())

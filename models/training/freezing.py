"""Parts of a network that training leaves as they are: weights, and the statistics of batch norms."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

from torch import nn

from loaders.errors import InputError
from models.towers.tower import Tower
from models.training.execution import towers


def stages_to_freeze(
    network: nn.Module, count: int | Literal["all"], *, fresh: Collection[Tower] = ()
) -> tuple[nn.Module, ...]:
    """The first stages of each tower of a network.

    Args:
        network: with its towers.
        count: how many; a tower that has fewer is frozen as a whole.
        fresh: towers that have learnt nothing yet: they are left free.

    Raises:
        InputError: less than one, or more than any tower has.
    """
    stages = [tower.in_stages() for tower in towers(network) if not any(tower is other for other in fresh)]
    most = max(map(len, stages))
    if count == "all":
        count = most
    if not 1 <= count <= most:
        raise InputError(f"--freeze-stages is {count}: the towers have {most} stages, use 1 to {most}, or all")
    return tuple(stage for of_tower in stages for stage in of_tower[:count])


def require_free_towers(network: nn.Module, frozen: Iterable[nn.Module]) -> None:
    """Raise InputError where every tower is frozen, for a learning rate of the towers would have no effect."""
    still = {id(parameter) for part in frozen for parameter in part.parameters()}
    if all(id(parameter) in still for tower in towers(network) for parameter in tower.parameters()):
        raise InputError("--tower-learning-rate has no effect with towers that are all frozen: leave it away")


def freeze(parts: Iterable[nn.Module]) -> None:
    """Compute no gradients for them any more. Without one an optimiser leaves a parameter alone."""
    for part in parts:
        part.requires_grad_(False)


def train_all_but(network: nn.Module, frozen: Iterable[nn.Module]) -> None:
    """Training mode, but for what is frozen: its batch norms go by the statistics that they have, and keep them."""
    network.train()
    for part in frozen:
        part.eval()

"""What turns one modality into one vector: what the networks and training ask of a tower, and of its settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

#: What somebody hears, or sees.
Modality = Literal["audio", "visual"]


class Masked(NamedTuple):
    """A member of the clips, as it comes from the dataset."""

    values: Tensor  #: (B, *shape) float32, not normalised
    mask: Tensor  #: (B,) bool: whether there is one; or (B, rows) of one whose number of rows varies
    mirrored: Tensor | None = None  #: (B,) bool: whose frames were mirrored; None: nobody's


class Moments(NamedTuple):
    """Of a member over the training data, each of its numbers by itself."""

    mean: Tensor  #: (numbers,) float64
    std: Tensor


#: What a tower takes: frames, a log-mel, statistics; or a member.
Stream = Tensor | Masked


class Tower(nn.Module):
    """Any module that maps a modality's input, (B, …), to an embedding, (B, `embedding_dim`).

    The networks ask no more of their towers than this, so one tower can stand in for another. The rest is how it is
    run, and none of it changes what is computed, but for rounding.
    """

    #: Length of the embedding.
    embedding_dim: int
    #: What it is called with, by the streams' names, see `models.frontend.front_end.Inputs`; none: what has the name
    #: of its place in the network.
    streams: tuple[str, ...] = ()
    #: Whether it hears or sees.
    modality: Modality = "visual"
    #: The layout that its weights take on a GPU, that of its input; None: as they were made.
    memory_format: torch.memory_format | None = None
    #: Whether ``--compile`` compiles it. Not worth its minutes for a few small layers.
    compilable: bool = True

    def in_stages(self) -> list[nn.Module]:
        """Its stages, from the input on: what ``--freeze-stages`` counts. By default it is one."""
        return [self]

    def take_moments(self, moments: Mapping[str, Moments]) -> Collection[str]:
        """Before it is trained: standardise what it takes by the moments of the whole training data, by members' names.

        Returns:
            The members whose moments it would take and which are not among these. Most towers take none.
        """
        return ()

    def use_plain_operations(self) -> bool:
        """Compute by torch's own operations from now on: before it is compiled, or its operations are counted.

        Returns:
            Whether it has kernels of its own for where it is, which it leaves aside from now on. Most towers have none.
        """
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerConfig(ABC):
    """The settings of one kind of tower: frozen, and of values that JSON takes."""

    #: Whether it hears or sees.
    modality: ClassVar[Modality] = "visual"

    @abstractmethod
    def tower(self) -> Tower:
        """A tower with fresh weights, drawn from torch's generator.

        What it takes is what `models.frontend.front_end.Inputs` has of its `streams`: frames (B, 3, T, height, width),
        a log-mel (B, 1, bands, frames), gaze statistics (B, 103), or a member, `Masked`.
        """

    @property
    def streams(self) -> tuple[str, ...]:
        """See `Tower.streams`."""
        return ()

    def member_shapes(self, seconds: float) -> Mapping[str, tuple[int, ...]]:
        """Of the members that it takes, what a clip of this length has, for `models.summary`; none: it does not say."""
        return {}

    def with_width(self, width: int) -> TowerConfig | None:
        """The settings with another number of channels, for ``--width``; None where they have no such number."""
        return None

    def with_gaze(self) -> TowerConfig | None:
        """The settings of a tower that encodes gaze statistics together with its own stream (early fusion); None where
        it cannot."""
        return None


def built(config: TowerConfig) -> Tower:
    """The tower of these settings, which knows what it takes."""
    tower = config.tower()
    tower.streams, tower.modality = config.streams, config.modality
    return tower

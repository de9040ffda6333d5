"""What turns one modality into one vector: what the networks and training ask of a tower, and of its settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import nn


class Tower(nn.Module):
    """Any module that maps a modality's input, (B, …), to an embedding, (B, `embedding_dim`).

    The networks ask no more of their towers than this, so one tower can stand in for another. The rest is how it is
    run, and none of it changes what is computed, but for rounding.
    """

    #: Length of the embedding.
    embedding_dim: int
    #: The layout that its weights take on a GPU, that of its input; None: as they were made.
    memory_format: torch.memory_format | None = None
    #: Whether ``--compile`` compiles it. Not worth its minutes for a few small layers.
    compilable: bool = True

    def in_stages(self) -> list[nn.Module]:
        """Its stages, from the input on: what ``--freeze-stages`` counts. By default it is one."""
        return [self]

    def use_plain_operations(self) -> None:
        """Compute by torch's own operations from now on: before it is compiled, or its operations are counted.

        A tower that has kernels of its own leaves them away; another has nothing to do.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerConfig(ABC):
    """The settings of one kind of tower for one modality: frozen, and of values that JSON takes."""

    @abstractmethod
    def tower(self) -> Tower:
        """A tower with fresh weights, drawn from torch's generator.

        What it takes is what `models.frontend.front_end.Inputs` has of its modality: frames (B, 3, T, height, width), a
        log-mel (B, 1, bands, frames), or gaze statistics (B, 103).
        """

    def with_width(self, width: int) -> TowerConfig | None:
        """The settings with another number of channels, for ``--width``; None where they have no such number."""
        return None

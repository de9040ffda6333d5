"""A tower over eGeMAPS' functionals, in place of one over a log-mel (Eyben et al., 2016; Abdou et al., 2022)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from loaders.errors import InputError
from models.towers.registry import tower
from models.towers.standardise import Standardise
from models.towers.tower import Masked, Modality, Moments, Tower, TowerConfig


@tower("egemaps-mlp", place="audio")
@dataclass(frozen=True, slots=True, kw_only=True)
class EgemapsTowerConfig(TowerConfig):
    """Sizes of the two linear layers. None is published: they are choices of ours, those of the gaze tower but for the
    embedding's."""

    modality: ClassVar[Modality] = "audio"
    features: int = 88
    hidden: int = 128
    embedding: int = 128

    @property
    def streams(self) -> tuple[str, ...]:
        """See `Tower.streams`."""
        return ("egemaps",)

    def member_shapes(self, seconds: float) -> Mapping[str, tuple[int, ...]]:
        """See `TowerConfig.member_shapes`."""
        return {"egemaps": (self.features,)}

    def tower(self) -> EgemapsTower:
        """See `TowerConfig.tower`."""
        return EgemapsTower(self)


class EgemapsTower(Tower):
    """(B, features) → (B, embedding): standardised, two linear layers with a ReLU between and a batch norm after each.

    Of a clip without functionals the standardised ones are zeros.
    """

    compilable = False

    def __init__(self, config: EgemapsTowerConfig) -> None:
        super().__init__()
        self.standardise = Standardise(config.features)
        self.layers = nn.Sequential(
            nn.Linear(config.features, config.hidden, bias=False),
            nn.BatchNorm1d(config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.embedding, bias=False),
            nn.BatchNorm1d(config.embedding),
        )
        self.embedding_dim = config.embedding
        self._features = config.features

    def take_moments(self, moments: Mapping[str, Moments]) -> Collection[str]:
        """See `Tower.take_moments`."""
        found = moments.get("egemaps")
        if found is None:
            return ("egemaps",)
        if len(found.mean) == self._features:  # otherwise `forward` says so
            self.standardise.fix(*found)
        return ()

    def forward(self, functionals: Masked) -> Tensor:
        """See the class."""
        values, mask, _ = functionals
        if values.shape[1:] != (self._features,):
            raise InputError(
                f"the dataset's egemaps are {tuple(values.shape[1:])}, and the tower takes ({self._features},): build "
                "it again with --member egemaps"
            )
        embedding: Tensor = self.layers(self.standardise(values, mask))
        return embedding

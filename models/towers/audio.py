"""The audio tower: two-dimensional convolutions over a log-mel spectrogram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from models.towers.convolutional import ConvTower, ConvTowerConfig
from models.towers.registry import tower
from models.towers.tower import Modality, TowerConfig


class AudioTower(ConvTower):
    """(B, 1, bands, frames) log-mel → (B, 8·width): 512 at the papers' width (thesis, section 3.2.1)."""

    def __init__(self, config: ConvTowerConfig) -> None:
        super().__init__(dimensions=2, channels=1, config=config)


@tower("conv2d", place="audio")
@dataclass(frozen=True, slots=True, kw_only=True)
class AudioTowerConfig(ConvTowerConfig, TowerConfig):
    """Settings of the audio tower."""

    modality: ClassVar[Modality] = "audio"

    def tower(self) -> AudioTower:
        """See `TowerConfig.tower`."""
        return AudioTower(self)

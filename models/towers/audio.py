"""The audio tower: two-dimensional convolutions over a log-mel spectrogram."""

from __future__ import annotations

from dataclasses import dataclass

from models.towers.convolutional import ConvTower, ConvTowerConfig
from models.towers.tower import TowerConfig


class AudioTower(ConvTower):
    """(B, 1, bands, frames) log-mel → (B, 8·width): 512 at the papers' width (thesis, section 3.2.1)."""

    def __init__(self, config: ConvTowerConfig) -> None:
        super().__init__(dimensions=2, channels=1, config=config)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioTowerConfig(ConvTowerConfig, TowerConfig):
    """Settings of the audio tower."""

    def tower(self) -> AudioTower:
        """See `TowerConfig.tower`."""
        return AudioTower(self)

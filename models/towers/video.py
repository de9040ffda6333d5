"""The video tower: three-dimensional convolutions over a clip's frames."""

from __future__ import annotations

from dataclasses import dataclass

from models.towers.convolutional import ConvTower, ConvTowerConfig
from models.towers.registry import tower
from models.towers.tower import TowerConfig


class VideoTower(ConvTower):
    """(B, 3, T, height, width) frames → (B, 8·width): 512 at the papers' width (thesis, section 3.2.2)."""

    def __init__(self, config: ConvTowerConfig) -> None:
        super().__init__(dimensions=3, channels=3, config=config)


@tower("conv3d", place="video")
@dataclass(frozen=True, slots=True, kw_only=True)
class VideoTowerConfig(ConvTowerConfig, TowerConfig):
    """Settings of the video tower."""

    def tower(self) -> VideoTower:
        """See `TowerConfig.tower`."""
        return VideoTower(self)

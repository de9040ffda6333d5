"""The smallest networks, for what does not depend on their size."""

from models.frontend.front_end import FrontEndConfig
from models.systems.presets import Preset
from models.towers.convolutional import ConvTowerConfig

SMALLEST = Preset(
    front_end=FrontEndConfig(frame_size=16, frames=2, n_fft=512, n_mels=16),
    video=ConvTowerConfig(width=2),
    audio=ConvTowerConfig(width=2),
)

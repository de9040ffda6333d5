"""The smallest networks, for what does not depend on their size."""

from models.frontend import FrontEndConfig
from models.presets import Preset
from models.tower import ConvTowerConfig

SMALLEST = Preset(
    front_end=FrontEndConfig(frame_size=16, frames=2, n_fft=512, n_mels=16),
    video=ConvTowerConfig(width=2),
    audio=ConvTowerConfig(width=2),
)

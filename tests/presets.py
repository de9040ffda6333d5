"""The smallest networks, for what does not depend on their size."""

from models.frontend.front_end import FrontEndConfig
from models.systems.presets import ModelConfig
from models.towers.audio import AudioTowerConfig
from models.towers.video import VideoTowerConfig

SMALLEST = ModelConfig(
    front_end=FrontEndConfig(frame_size=16, frames=2, n_fft=512, n_mels=16),
    video=VideoTowerConfig(width=2),
    audio=AudioTowerConfig(width=2),
)

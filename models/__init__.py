"""From a batch of uint8 frames, waveforms and gaze to correspondence and emotion. Nothing here knows files."""

from models.frontend.front_end import FrontEnd, FrontEndConfig
from models.predict import predict_emotion, predict_match
from models.systems.correspondence import AVENet, L3Net
from models.systems.emotion import EmotionNet
from models.systems.presets import PRESETS, ModelConfig

__all__ = [
    "PRESETS",
    "AVENet",
    "EmotionNet",
    "FrontEnd",
    "FrontEndConfig",
    "L3Net",
    "ModelConfig",
    "predict_emotion",
    "predict_match",
]

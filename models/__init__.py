"""From a batch of uint8 frames, waveforms and gaze to correspondence and emotion. Nothing here knows files."""

from models.correspondence import AVENet, L3Net
from models.emotion import EmotionNet
from models.frontend import FrontEnd, FrontEndConfig
from models.predict import predict_emotion, predict_match
from models.presets import PRESETS, Preset

__all__ = [
    "PRESETS",
    "AVENet",
    "EmotionNet",
    "FrontEnd",
    "FrontEndConfig",
    "L3Net",
    "Preset",
    "predict_emotion",
    "predict_match",
]

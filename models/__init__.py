"""From a batch of uint8 frames, waveforms and gaze to correspondence and labels. Nothing here knows files."""

from models.frontend.front_end import FrontEnd, FrontEndConfig
from models.predict import predict_match, predict_targets
from models.systems.correspondence import AVENet, L3Net
from models.systems.presets import PRESETS, ModelConfig
from models.systems.targets import TargetNet

__all__ = [
    "PRESETS",
    "AVENet",
    "FrontEnd",
    "FrontEndConfig",
    "L3Net",
    "ModelConfig",
    "TargetNet",
    "predict_match",
    "predict_targets",
]

"""From a batch of uint8 frames, waveforms and gaze to correspondence and labels; and from a video to an answer.

The public names are imported when they are first used, as in `loaders`: whoever wants a network needs no video decoder.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.answers import predict_match, predict_targets
    from models.frontend.front_end import FrontEnd, FrontEndConfig
    from models.prediction.predictor import Predictor, load
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
    "Predictor",
    "TargetNet",
    "load",
    "predict_match",
    "predict_targets",
]

_HOMES = {
    "PRESETS": "systems.presets",
    "AVENet": "systems.correspondence",
    "FrontEnd": "frontend.front_end",
    "FrontEndConfig": "frontend.front_end",
    "L3Net": "systems.correspondence",
    "ModelConfig": "systems.presets",
    "Predictor": "prediction.predictor",
    "TargetNet": "systems.targets",
    "load": "prediction.predictor",
    "predict_match": "answers",
    "predict_targets": "answers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"models.{_HOMES[name]}"), name)

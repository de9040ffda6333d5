"""Settings that belong together, and the networks made from them."""

from __future__ import annotations

from dataclasses import dataclass, field, is_dataclass
from typing import Any, Literal, get_args, get_type_hints

from loaders.errors import InputError
from models.frontend.front_end import FrontEndConfig
from models.systems.correspondence import AVEConfig, AVENet, L3Config, L3Net
from models.systems.emotion import EmotionConfig, EmotionNet
from models.towers.audio import AudioTower
from models.towers.convolutional import ConvTowerConfig
from models.towers.gaze import GazeTower, GazeTowerConfig
from models.towers.video import VideoTower

NetworkName = Literal["l3", "ave"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """All settings of the front end and the networks; the defaults are the thesis' sizes."""

    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    video: ConvTowerConfig = field(default_factory=ConvTowerConfig)
    audio: ConvTowerConfig = field(default_factory=ConvTowerConfig)
    gaze: GazeTowerConfig = field(default_factory=GazeTowerConfig)
    l3: L3Config = field(default_factory=L3Config)
    ave: AVEConfig = field(default_factory=AVEConfig)
    emotion: EmotionConfig = field(default_factory=EmotionConfig)


FULL = Preset()

#: The same networks in small: what two CPU cores train in minutes. The window is as long as `n_fft` has room for: with
#: few steps to learn from, the pitch of a voice should stand in the bands and not in their flicker.
TINY = Preset(
    front_end=FrontEndConfig(frame_size=48, frames=2, window_ms=64, n_fft=1024, n_mels=64, hop_ms=25),
    video=ConvTowerConfig(width=16),
    audio=ConvTowerConfig(width=16),
)

PRESETS = {"full": FULL, "tiny": TINY}


def preset_from_json(data: dict[str, Any]) -> Preset:
    """The preset that `dataclasses.asdict` turned into ``data``, by way of JSON or not.

    Raises:
        InputError: ``data`` has other fields than this program's presets.
    """
    try:
        restored: Preset = _restore(Preset, data)
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"sizes of a network that this program does not know ({error}): train it again") from error
    return restored


def _restore(kind: Any, data: Any) -> Any:
    if is_dataclass(kind) and data is not None:
        hints = get_type_hints(kind)
        return kind(**{name: _restore(hints[name], value) for name, value in data.items()})  # type: ignore[operator]
    if isinstance(data, list):
        return tuple(data)
    if isinstance(data, dict):  # the field is optional, and there
        return _restore(next(option for option in get_args(kind) if is_dataclass(option)), data)
    return data


def preset(name: str) -> Preset:
    """The preset of that name."""
    if name not in PRESETS:
        raise InputError(f"no preset is called {name!r}: choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def correspondence_net(preset: Preset, network: NetworkName, *, gaze: bool = True) -> L3Net | AVENet:
    """A network for pre-training with fresh weights; without gaze it is the original L3-Net or AVE-Net."""
    video, audio = VideoTower(preset.video), AudioTower(preset.audio)
    gaze_tower = GazeTower(preset.gaze) if gaze else None
    if network == "l3":
        return L3Net(video, audio, gaze_tower, preset.l3)
    if network == "ave":
        return AVENet(video, audio, gaze_tower, preset.ave)
    raise InputError(f"no correspondence network is called {network!r}: choose l3 or ave.")


def emotion_net(preset: Preset, *, gaze: bool = True) -> EmotionNet:
    """A network for emotions with fresh weights; `EmotionNet.from_correspondence` starts from pre-trained towers."""
    gaze_tower = GazeTower(preset.gaze) if gaze else None
    return EmotionNet(VideoTower(preset.video), AudioTower(preset.audio), gaze_tower, preset.emotion)

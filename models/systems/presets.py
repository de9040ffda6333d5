"""Settings that belong together, and the networks made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from loaders.dataset.labels import Label
from loaders.errors import InputError
from models.frontend.front_end import FrontEndConfig
from models.systems.correspondence import AVEConfig, AVENet, L3Config, L3Net
from models.systems.streams import AUDIO, GAZE, VIDEO, Needs, needs_of, streams_of
from models.systems.targets import HeadsConfig, TargetNet
from models.towers.audio import AudioTowerConfig
from models.towers.gaze import GazeTowerConfig
from models.towers.registry import towers
from models.towers.tower import Tower, TowerConfig, built
from models.towers.video import VideoTowerConfig

NetworkName = Literal["l3", "ave"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """All settings of the front end and the networks; the defaults are the thesis' sizes.

    A tower is made by its settings: those of another kind, in their place, make a network of other towers.
    """

    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    video: TowerConfig = field(default_factory=VideoTowerConfig)
    audio: TowerConfig = field(default_factory=AudioTowerConfig)
    gaze: TowerConfig = field(default_factory=GazeTowerConfig)
    #: Towers beside these three, by the names of their places.
    further: Mapping[str, TowerConfig] = field(default_factory=dict)
    l3: L3Config = field(default_factory=L3Config)
    ave: AVEConfig = field(default_factory=AVEConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)


FULL = ModelConfig()

#: The same networks in small: what two CPU cores train in minutes. The window is as long as `n_fft` has room for: with
#: few steps to learn from, the pitch of a voice should stand in the bands and not in their flicker.
TINY = ModelConfig(
    front_end=FrontEndConfig(frame_size=48, frames=2, window_ms=64, n_fft=1024, n_mels=64, hop_ms=25),
    video=VideoTowerConfig(width=16),
    audio=AudioTowerConfig(width=16),
)

#: What ``--preset`` chooses from.
PRESETS: dict[str, ModelConfig] = {
    "full": FULL,
    "tiny": TINY,
}
if TYPE_CHECKING:
    PresetName = str  # which of them there are, no type checker sees
else:
    PresetName = Literal[tuple(PRESETS)]

_HEADS_BEFORE = "emotion"  # what runs have called `ModelConfig.heads` that predict one label
_FURTHER = Mapping[str, TowerConfig]
_KIND = "kind"  # of a tower's settings that are not of the default's kind, by the class' name


def preset_to_json(sizes: ModelConfig) -> dict[str, Any]:
    """All settings, as JSON takes them."""
    data = asdict(sizes)
    for modality in _towers():
        kind = type(getattr(sizes, modality))
        if kind is not type(getattr(FULL, modality)):
            data[modality][_KIND] = kind.__name__
    for place, tower in sizes.further.items():
        data["further"][place][_KIND] = type(tower).__name__
    return data


def model_config_from_json(data: dict[str, Any]) -> ModelConfig:
    """The preset that `preset_to_json` turned into ``data``, by way of JSON or not.

    Raises:
        InputError: ``data`` has other fields than this program's presets, or a tower of a kind that it does not know.
    """
    if _HEADS_BEFORE in data:
        data = {"heads" if name == _HEADS_BEFORE else name: value for name, value in data.items()}
    try:
        restored: ModelConfig = _restore(ModelConfig, data)
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"sizes of a network that this program does not know ({error}): train it again") from error
    return restored


def _restore(kind: Any, data: Any) -> Any:
    if is_dataclass(kind) and data is not None:
        hints = get_type_hints(kind)
        if kind is ModelConfig:
            hints |= {name: _kind_of(name, data[name]) for name in _towers() & data.keys()}
        settings = {name: value for name, value in data.items() if name != _KIND or not _makes_towers(kind)}
        return kind(**{name: _restore(hints[name], value) for name, value in settings.items()})  # type: ignore[operator]
    if isinstance(data, list):
        return tuple(data)
    if kind == _FURTHER:
        return {place: _restore(_kind_of(None, tower), tower) for place, tower in data.items()}
    if isinstance(data, dict):  # the field is optional, and there
        return _restore(next(option for option in get_args(kind) if is_dataclass(option)), data)
    return data


def _makes_towers(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, TowerConfig)


def _towers() -> set[str]:
    """The fields of a preset that make towers."""
    return {each.name for each in fields(ModelConfig) if get_type_hints(ModelConfig)[each.name] is TowerConfig}


def _kind_of(modality: str | None, data: dict[str, Any]) -> type[TowerConfig]:
    """Of a tower's settings: of one that is registered, or that a preset has."""
    kinds: dict[str | None, type[TowerConfig]] = {known.config.__name__: known.config for known in towers().values()}
    if modality is not None:
        kinds[None] = type(getattr(FULL, modality))
        kinds |= {type(getattr(known, modality)).__name__: type(getattr(known, modality)) for known in PRESETS.values()}
    return kinds[data.get(_KIND)]


def preset(name: str) -> ModelConfig:
    """The preset of that name."""
    if name not in PRESETS:
        raise InputError(f"no preset is called {name!r}: choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def has_gaze_tower(sizes: ModelConfig, *, gaze: bool) -> bool:
    """Whether a network of these sizes has a tower for gaze, where it is to look at it: not if its video tower does."""
    return gaze and GAZE not in streams_of(VIDEO, sizes.video)


def needs(sizes: ModelConfig, *, gaze: bool) -> Needs:
    """What of a clip a network of these sizes looks at, with a gaze tower or without."""
    own = {VIDEO: sizes.video, AUDIO: sizes.audio}
    return needs_of({**own, **({GAZE: sizes.gaze} if has_gaze_tower(sizes, gaze=gaze) else {}), **sizes.further})


def _further(preset: ModelConfig) -> dict[str, Tower]:
    return {place: built(config) for place, config in preset.further.items()}


def correspondence_net(preset: ModelConfig, network: NetworkName, *, gaze: bool = True) -> L3Net | AVENet:
    """A network for pre-training with fresh weights; without gaze it is the original L3-Net or AVE-Net."""
    video, audio = built(preset.video), built(preset.audio)
    gaze_tower = built(preset.gaze) if has_gaze_tower(preset, gaze=gaze) else None
    if network == "l3":
        return L3Net(video, audio, gaze_tower, preset.l3, further=_further(preset))
    if network == "ave":
        return AVENet(video, audio, gaze_tower, preset.ave, further=_further(preset))
    raise InputError(f"no correspondence network is called {network!r}: choose l3 or ave.")


def target_net(preset: ModelConfig, targets: Sequence[Label], *, gaze: bool = True) -> TargetNet:
    """A network for these labels with fresh weights; `TargetNet.from_correspondence` starts from pre-trained towers."""
    # Gaze first: a seed's weights are those that they were.
    gaze_tower = built(preset.gaze) if has_gaze_tower(preset, gaze=gaze) else None
    video, audio = built(preset.video), built(preset.audio)
    return TargetNet(video, audio, gaze_tower, targets=targets, config=preset.heads, further=_further(preset))

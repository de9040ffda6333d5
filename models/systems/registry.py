"""Systems: which towers, how they are joined, and by which question they are pre-trained.

A system is a short table, a module of `models.systems.configurations` each, which `system` registers: ``train.py
--system NAME`` then trains it, with any of its towers exchanged by ``--video-tower`` and its like. Sizes are the
preset's, and of towers that the preset does not have their own defaults.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Literal

import models.systems.configurations
from loaders.errors import InputError
from models.systems.presets import ModelConfig, NetworkName
from models.systems.streams import AUDIO, GAZE, OWN, VIDEO
from models.towers.registry import settings_of
from models.towers.tower import TowerConfig

#: When what is seen is joined: each stream encoded by its tower, and then joined; or gaze statistics joined with the
#: frames' features, and encoded with them by the video tower.
Fusion = Literal["model", "early"]


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A table of towers, fusion and objective."""

    about: str  #: one line: whose it is, and what of it is a choice of ours
    towers: Mapping[str, str]
    """By place, the tower's name in `models.towers.registry`: video and audio, and if it looks at gaze, gaze. A further
    place has any other name; whether it is heard or seen is its tower's."""
    correspondence: NetworkName = "l3"  #: the network that is pre-trained
    fusion: Fusion = "model"
    heads: Mapping[str, Any] = field(default_factory=dict)
    """What of `models.systems.targets.HeadsConfig` is another than the preset's, by its field."""

    @property
    def looks_at_gaze(self) -> bool:
        """Whether it takes gaze in any way."""
        return GAZE in self.towers

    @property
    def gaze_tower(self) -> bool:
        """Whether gaze has a tower of its own."""
        return self.looks_at_gaze and self.fusion == "model"


_REGISTERED: dict[str, System] = {}


def system(name: str, table: System) -> System:
    """Register a system as ``--system NAME``.

    Raises:
        ValueError: another has the name, or it does not say how it sees and hears.
    """
    if name in _REGISTERED:
        raise ValueError(f"another system is called {name}, too")
    if {VIDEO, AUDIO} - table.towers.keys():
        raise ValueError(f"the system {name} has no tower for {' and '.join({VIDEO, AUDIO} - table.towers.keys())}")
    _REGISTERED[name] = table
    return table


def systems() -> Mapping[str, System]:
    """All systems by name, in the order of their names."""
    for module in pkgutil.iter_modules(models.systems.configurations.__path__):
        import_module(f"{models.systems.configurations.__name__}.{module.name}")
    return dict(sorted(_REGISTERED.items()))


def system_of(name: str) -> System:
    """The system of that name.

    Raises:
        InputError: there is none.
    """
    if name not in systems():
        raise InputError(f"no system is called {name!r}: choose one of {', '.join(systems())}")
    return systems()[name]


def with_towers(sizes: ModelConfig, names: Mapping[str, str]) -> ModelConfig:
    """A preset with other towers in some places: one of the kind that the preset has there keeps its sizes, another has
    the preset's width there."""
    own: dict[str, TowerConfig] = {VIDEO: sizes.video, AUDIO: sizes.audio, GAZE: sizes.gaze}
    made: dict[str, TowerConfig] = {}
    for place, name in names.items():
        kind = settings_of(name)
        made[place] = own[place] if place in own and type(own[place]) is kind else _of_width(kind(), own.get(place))
    return replace(
        sizes,
        video=made.get(VIDEO, sizes.video),
        audio=made.get(AUDIO, sizes.audio),
        gaze=made.get(GAZE, sizes.gaze),
        further={**sizes.further, **{place: config for place, config in made.items() if place not in OWN}},
    )


def _of_width(config: TowerConfig, instead_of: TowerConfig | None) -> TowerConfig:
    width = getattr(instead_of, "width", None)
    return config if width is None else config.with_width(width) or config


def sizes_of_system(sizes: ModelConfig, table: System, exchanged: Mapping[str, str]) -> ModelConfig:
    """A preset with the towers of a system, of which some are exchanged for others, by place.

    Raises:
        InputError: the video tower cannot encode gaze with its frames, and the system's fusion is early.
    """
    sizes = with_towers(sizes, {**table.towers, **exchanged})
    sizes = replace(sizes, heads=replace(sizes.heads, **table.heads))
    if table.fusion == "model":
        return sizes
    joined = sizes.video.with_gaze()
    if joined is None:
        raise InputError(
            f"early fusion: the video tower of {type(sizes.video).__name__} cannot encode gaze with its frames: give "
            "another --video-tower, or a system that joins what its towers yield"
        )
    return replace(sizes, video=joined)

"""Towers by name: a module of this package each, which no other has to know of.

`tower` registers a tower's settings; ``train.py`` then offers it in its place, systems name it, and runs with it are
read back by the name of its settings' class.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TypeVar

import models.towers
from loaders.errors import InputError
from models.towers.tower import TowerConfig

#: The places that every network knows; a further one has a name of its own.
PLACES = ("video", "audio", "gaze")


@dataclass(frozen=True, slots=True)
class Registered:
    """A tower, by its settings."""

    config: type[TowerConfig]
    place: str  #: which it is made for


T = TypeVar("T", bound=TowerConfig)
_REGISTERED: dict[str, Registered] = {}


def tower(name: str, *, place: str) -> Callable[[type[T]], type[T]]:
    """Register the decorated settings, which all have defaults, as the tower of this name.

    Args:
        name: as ``--video-tower NAME`` gives it, or ``--audio-tower`` or ``--gaze-tower``.
        place: of `PLACES`.

    Raises:
        ValueError: another tower has the name, or it hears in a place of what is seen, or the other way round.
    """

    def register(config: type[T]) -> type[T]:
        if name in _REGISTERED:
            raise ValueError(f"{config.__module__}: another tower is called {name}, too")
        if place not in PLACES or (config.modality == "audio") != (place == "audio"):
            raise ValueError(f"{config.__module__}: {name} is {config.modality}, and for the place {place!r}")
        _REGISTERED[name] = Registered(config, place)
        return config

    return register


def towers() -> Mapping[str, Registered]:
    """All towers by name, in the order of their names."""
    for module in pkgutil.iter_modules(models.towers.__path__):
        import_module(f"{models.towers.__name__}.{module.name}")
    return dict(sorted(_REGISTERED.items()))


def names_for(place: str) -> tuple[str, ...]:
    """The towers that are made for a place."""
    return tuple(name for name, found in towers().items() if found.place == place)


def settings_of(name: str) -> type[TowerConfig]:
    """The settings of the tower of that name.

    Raises:
        InputError: there is none.
    """
    if name not in towers():
        raise InputError(f"no tower is called {name!r}: choose one of {', '.join(towers())}")
    return towers()[name].config

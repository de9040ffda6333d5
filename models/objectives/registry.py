"""What pre-training may minimise: a module of this package each, which no other has to know of.

`objective` registers an objective's settings; ``train.py --stage pretrain --objective NAME`` then trains by it, and the
settings' fields are options. There are two kinds. One is told of pairs of which half match, by their logits
(`OfPairs`); the other of clips that all have their own sound, by the score of everything seen with everything heard
(`OfScores`). Either is given the rows of all ranks, so that it need not know of them.
"""

from __future__ import annotations

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import Field, asdict, dataclass, field
from importlib import import_module
from typing import Any, TypeVar

from torch import Tensor, nn

import models.objectives
from loaders.errors import InputError

#: What is trained by where nobody says.
DEFAULT = "correspondence"


class OfPairs(nn.Module, ABC):
    """A loss of pairs that match or do not. Its parameters and buffers are trained and kept with the network."""

    @abstractmethod
    def forward(self, logits: Tensor, match: Tensor) -> Tensor:
        """The loss, a float32 scalar: logits (B, 2), of no match and of one; match (B,) int64, 0 or 1."""


class OfScores(nn.Module, ABC):
    """A loss of the scores of all with all. Its parameters and buffers are trained and kept with the network."""

    #: Which clips are no negatives of each other: those of one "video", or of one "speaker".
    mask: str = "video"

    @abstractmethod
    def forward(self, scores: Tensor, negative: Tensor) -> Tensor:
        """The loss, a float32 scalar.

        Args:
            scores: (B, B) float32, log odds of a match: row i is what is seen of clip i, column j the sound of clip j.
            negative: (B, B) bool, symmetric: whether i and j do not belong together. Never so on the diagonal.
        """

    def logged(self) -> Mapping[str, Tensor]:
        """What of its own is to be seen in the curves."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveConfig(ABC):
    """The settings of one objective: options of ``train.py``, each made by `setting`."""

    @abstractmethod
    def objective(self, temperature: float) -> OfPairs | OfScores:
        """The objective.

        Args:
            temperature: by which the network's scores are divided where nothing else is said.
        """


def setting(default: Any, about: str) -> Any:
    """A field of an `ObjectiveConfig`, with its default and what ``--help`` says of it."""
    made: Field[Any] = field(default=default, metadata={"about": about})
    return made


T = TypeVar("T", bound=ObjectiveConfig)
_REGISTERED: dict[str, type[ObjectiveConfig]] = {}


def objective(name: str) -> Callable[[type[T]], type[T]]:
    """Register the decorated settings, which all have defaults, as ``--objective NAME``.

    Raises:
        ValueError: another objective has the name.
    """

    def register(config: type[T]) -> type[T]:
        if name in _REGISTERED:
            raise ValueError(f"{config.__module__}: another objective is called {name}, too")
        _REGISTERED[name] = config
        return config

    return register


def objectives() -> Mapping[str, type[ObjectiveConfig]]:
    """All objectives' settings by name, in the order of their names."""
    for module in pkgutil.iter_modules(models.objectives.__path__):
        import_module(f"{models.objectives.__name__}.{module.name}")
    return dict(sorted(_REGISTERED.items()))


def settings_of(name: str) -> type[ObjectiveConfig]:
    """The settings of the objective of that name.

    Raises:
        InputError: there is none.
    """
    if name not in objectives():
        raise InputError(f"no objective is called {name!r}: choose one of {', '.join(objectives())}")
    return objectives()[name]


def to_json(name: str, config: ObjectiveConfig) -> dict[str, Any]:
    """As run.json has it, for `from_json`."""
    return {"name": name, **asdict(config)}


def from_json(described: Mapping[str, Any] | None) -> ObjectiveConfig:
    """The settings of a run's objective; of one of before, which does not say, those of correspondence.

    Raises:
        InputError: there is no such objective, or it has other settings.
    """
    described = dict(described or {"name": DEFAULT})
    name = described.pop("name", None)
    try:
        return settings_of(str(name))(**described)
    except TypeError as error:
        raise InputError(f"the objective {name} has other settings than the run's ({error}): train it again") from error

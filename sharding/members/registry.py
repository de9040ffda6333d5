"""The functions that ``--member NAME`` knows, each of which makes one array of every clip.

A function is one module of this package: `member` registers it, with what its arrays are; nothing else has to know of
it. It is called once an utterance, and what it returns is called once a clip: what is costly, or is the same for all
clips, such as a table that is read or a statistic of the whole utterance, is done in the first call.
"""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from numpy.typing import NDArray

import sharding.members
from sharding.gaze.statistics import GazeTable
from sharding.media.reader import Media
from sharding.settings import BuildSettings
from sharding.utterance import Utterance


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayType:
    """What the arrays of a member are."""

    dtype: str  #: as numpy calls it: a kind of integer or of floating-point number, little-endian
    shape: tuple[int, ...]
    variable: bool = False  #: clips have fewer rows than the first number of ``shape``, or as many
    moments: bool = False
    """dataset.json states mean and deviation of each number over the training split, see
    `loaders.dataset.manifest.MemberMoments`; not of one whose rows vary."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """What an utterance's arrays can be made of."""

    utterance: Utterance
    media: Media  #: frames and sound as the clips are cut from them; without a frame, or a sample, where there is none
    start: float  #: second of the video's file at which they begin
    settings: BuildSettings
    gaze_table: Callable[[], GazeTable]  #: OpenFace's, on the utterance's clock; raises GazeError where there is none


class ArrayError(Exception):
    """There is no array: a word to count by, and a line for a person."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class NoArrayError(ArrayError):
    """The clip comes without it, or every clip of the utterance."""


class WrongArrayError(ArrayError):
    """What there is, is not what is declared: the utterance is rejected."""


OfClip = Callable[[float, float], NDArray[Any]]
"""A clip's array, from its first and last second, counted from the start of the utterance. What a short clip is padded
with lies after the last second. Raises NoArrayError where this clip has none."""

OfUtterance = Callable[[Source], OfClip]
"""Called once an utterance. Raises NoArrayError where none of its clips has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A function, as ``--member`` knows it."""

    name: str  #: of the member
    type: Callable[[BuildSettings], ArrayType]
    of_utterance: OfUtterance
    or_files: bool  #: files beside the videos may be declared under its name


_REGISTERED: dict[str, Registered] = {}


def member(
    name: str, array: Callable[[BuildSettings], ArrayType], *, or_files: bool = False
) -> Callable[[OfUtterance], OfUtterance]:
    """Register the decorated function: ``--member NAME`` has it called.

    Args:
        name: of the member.
        array: what its arrays are, by the settings of the build. Raises InputError where it cannot be made: a package
            is not installed, a setting does not go with it.
        or_files: ``--member NAME=SUFFIX:…`` may declare files under its name: they hold what others have computed of
            the same.

    Raises:
        ValueError: another function has the name.
    """

    def register(function: OfUtterance) -> OfUtterance:
        if name in _REGISTERED:
            raise ValueError(f"{function.__module__}: another member is called {name}, too")
        _REGISTERED[name] = Registered(name=name, type=array, of_utterance=function, or_files=or_files)
        return function

    return register


def registered() -> Mapping[str, Registered]:
    """All functions of this package, by name, in the names' order."""
    for module in pkgutil.iter_modules(sharding.members.__path__):
        import_module(f"{sharding.members.__name__}.{module.name}")
    return dict(sorted(_REGISTERED.items()))

"""The corpora that ``sharding/build.py`` builds, by the names of its commands.

A corpus is one module of this package: a frozen dataclass, whose fields are the options that it adds to those of every
build, with a method that reads the corpus that they name. `corpus` registers it; nothing else has to know of it.
"""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import sharding.corpora
from sharding.utterance import Corpus


class Sources(Protocol):
    """The options of one corpus: a frozen dataclass. Its fields' docstrings are what ``--help`` says."""

    def read(self) -> Corpus:
        """The corpus that these options name.

        Raises:
            InputError: they name none.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A corpus, as the command line has it."""

    name: str  #: of its command
    says: str  #: a line for --help
    sources: type[Sources]  #: its options
    settings: Mapping[str, Any]  #: fields of `sharding.settings.BuildSettings` that have other defaults here


S = TypeVar("S", bound=Sources)
_NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})
_REGISTERED: dict[str, Registered] = {}


def corpus(name: str, says: str, *, settings: Mapping[str, Any] = _NO_SETTINGS) -> Callable[[type[S]], type[S]]:
    """Register the decorated class as the options of a corpus.

    Args:
        name: of the command, ``build.py NAME``.
        says: a line for --help: what is built.
        settings: what of `sharding.settings.BuildSettings` has other defaults for this corpus, by the fields' names.

    Raises:
        TypeError: the class is no dataclass.
        ValueError: another class has the name.
    """

    def register(sources: type[S]) -> type[S]:
        if not is_dataclass(sources):
            raise TypeError(f"{sources.__name__}: the options of a corpus are a dataclass")
        if name in _REGISTERED:
            raise ValueError(f"{sources.__module__}: {_REGISTERED[name].sources.__module__} is called {name}, too")
        _REGISTERED[name] = Registered(name=name, says=says, sources=sources, settings=settings)
        return sources

    return register


def registered() -> Mapping[str, Registered]:
    """All corpora of this package, by name, in the names' order."""
    for module in pkgutil.iter_modules(sharding.corpora.__path__):
        import_module(f"{sharding.corpora.__name__}.{module.name}")
    return dict(sorted(_REGISTERED.items()))

"""Options of train.py: one that has no effect is an error, not a surprise."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from loaders.errors import InputError


def given(arguments: Sequence[str], names: Collection[str]) -> frozenset[str]:
    """Which of the options stand on a command line, be it with their default's value."""
    found = set()
    for argument in arguments:
        if argument.startswith("--"):
            name = argument[2:].partition("=")[0].replace("-", "_")
            found.add(name if name in names else name.removeprefix("no_"))
    return frozenset(found & set(names))


def require_effect(stage: str, options: Iterable[str], stages: Mapping[Any, Collection[str]]) -> None:
    """Raise InputError where an option that was given does nothing at a stage.

    Args:
        stage: which is run.
        options: that were given.
        stages: the options of every stage.
    """
    for name in sorted(options):
        if name not in stages[stage]:
            there = " and ".join(other for other, names in stages.items() if name in names)
            raise InputError(f"{spelt(name)} has no effect at --stage {stage}, only at {there}: leave it away")


def refuse(options: Iterable[str], without: Collection[str], why: str) -> None:
    """Raise InputError where one of the options ``without`` effect was given."""
    for name in sorted(set(options) & set(without)):
        raise InputError(f"{spelt(name)} has no effect {why}: leave it away")


def spelt(name: str) -> str:
    """An option as it stands on the command line."""
    return f"--{name.replace('_', '-')}"

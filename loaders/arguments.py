"""Command lines, read by tyro; with what it passes over in silence.

An option that takes several values, as ``--labels a b``, has those of its last use alone where it is given twice: the
others are lost. That is an error here.
"""

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from inspect import isfunction
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints, overload

import tyro

from loaders.errors import InputError, reported

T = TypeVar("T")

_SHORT = re.compile(r"-[A-Za-z]")  # an option of one letter; -1 is a value
_SUBCOMMAND: Any = type(tyro.conf.subcommand())


@overload
def cli(kind: type[T], *, args: Sequence[str] | None = None, **given: Any) -> T: ...


@overload
def cli(kind: Any, *, args: Sequence[str] | None = None, **given: Any) -> Any: ...


def cli(kind: Any, *, args: Sequence[str] | None = None, **given: Any) -> Any:
    """``tyro.cli``, that takes each option of several values once.

    Args:
        kind: a dataclass, a function, or a union of such, as ``tyro.cli`` takes it.
        args: the command line; None: that of this process.
        given: to ``tyro.cli``.

    Raises:
        SystemExit: (2) where such an option is given twice, after a line that says so; as ``tyro.cli`` does.
    """
    with reported():
        require_once(kind, sys.argv[1:] if args is None else args)
    return tyro.cli(kind, args=args, **given)


def require_once(kind: Any, args: Sequence[str]) -> None:
    """Raise InputError where an option of several values is given twice.

    Args:
        kind: what the command line is read into.
        args: the command line.
    """
    given: dict[str, list[list[str]]] = {}  # values of each use, by option
    values: list[str] = []  # of the option before
    for argument in args:
        if argument.startswith("--"):
            option, equals, value = argument.partition("=")
            values = [value] if equals else []
            given.setdefault(option.replace("_", "-"), []).append(values)
        elif _SHORT.match(argument):
            values = []
        else:
            values.append(argument)
    twice = {option: uses for option, uses in given.items() if len(uses) > 1}
    if not twice:
        return
    several = {f"--{name.replace('_', '-')}" for name in _several(_command(kind, args), {})}
    for option, uses in twice.items():
        if option in several:
            together = shlex.join(value for use in uses for value in use)
            raise InputError(f"{option} is given {len(uses)} times: give all at once: {option} {together}")


def _command(kind: Any, args: Sequence[str]) -> Any:
    """What the command line is read into: of several commands the one that it begins with."""
    for part in get_args(kind) if get_origin(kind) in (Union, UnionType) else ():
        for marker in get_args(part)[1:] if get_origin(part) is Annotated else ():
            if isinstance(marker, _SUBCOMMAND) and [marker.name] == list(args[:1]):
                return part
    return kind


def _several(kind: Any, known: dict[Any, Any]) -> Iterator[str]:
    """The names of the options that take any number of values, and of which a later use replaces an earlier one.

    Args:
        kind: what they are fields or parameters of.
        known: types of type variables.
    """
    if isinstance(kind, TypeVar):
        kind = known.get(kind, kind)
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        if tyro.conf.UseAppendAction not in parts[1:]:
            yield from _several(parts[0], known)
    elif origin in (Union, UnionType):
        for part in parts:
            yield from _several(part, known)
    elif is_dataclass(origin or kind) or isfunction(kind):
        of = origin or kind
        known = {**known, **dict(zip(getattr(of, "__parameters__", ()), parts, strict=True))} if parts else known
        for name, hint in get_type_hints(of, include_extras=True).items():
            if name == "return":
                continue
            if _takes_several(hint):
                yield name
            else:
                yield from _several(hint, known)


def _takes_several(hint: Any) -> bool:
    """Whether it is a tuple of any length, or nothing in its place, without a word on how it accumulates."""
    if get_origin(hint) is Annotated:
        hint, *markers = get_args(hint)
        if tyro.conf.UseAppendAction in markers or tyro.conf.Positional in markers:
            return False
    if get_origin(hint) in (Union, UnionType):
        rest = [part for part in get_args(hint) if part is not NoneType]
        return len(rest) == 1 and _takes_several(rest[0])
    return get_origin(hint) in (tuple, list) and (get_origin(hint) is list or get_args(hint)[1:] == (...,))

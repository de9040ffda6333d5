"""Settings from a file: ``--config FILE.yaml``, or a run's own run.json. Options on the command line win.

A file holds options by their names, in the groups of `models.training.config` or without them::

    optimizer:
        learning_rate: 2e-3
    schedule: cosine
    data: [/data/vox, s3://bucket/more]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from loaders.errors import InputError, as_one_line
from models.training.config import options_of
from models.training.options import spelt
from models.training.provenance import CONFIG
from models.training.tasks.registry import stages

_OPTION = "--config"


def with_file(stage: str, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command line with the options of its --config, if it has one, before its own: of two, the last one counts.

    Returns:
        The whole line, and what of it somebody has written by hand: a run's description holds every option.

    Raises:
        InputError: there is no such file, it cannot be understood, or holds what is no option of the stage.
    """
    own: list[str] = []
    files: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, has_value, value = argument.partition("=")
        if name != _OPTION:
            own.append(argument)
            continue
        file = value if has_value else next(rest, "")
        if not file:
            raise InputError(f"{_OPTION}: give a file")
        files.append(file)
    if len(files) > 1:
        raise InputError(f"{_OPTION} was given {len(files)} times: give one file")
    if not files:
        return own, own
    of_file, by_hand = _arguments(stage, Path(files[0]))
    return [*of_file, *own], [*of_file, *own] if by_hand else own


def _arguments(stage: str, file: Path) -> tuple[list[str], bool]:
    """The options of a file, and whether it is no run's description."""
    try:
        content = yaml.safe_load(file.read_text())
    except OSError as error:
        raise InputError(f"{_OPTION} {file}: {error.strerror}: give a file that can be read") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        why = as_one_line(str(error), 200)
        raise InputError(f"{_OPTION} {file}: neither YAML nor JSON ({why}): write `name: value`") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{_OPTION} {file}: holds no options: write them as `name: value`")
    is_a_runs = CONFIG in content
    if is_a_runs:
        if content.get("stage") != stage:
            raise InputError(f"{_OPTION} {file}: of a run of stage {content.get('stage')}: give one of stage {stage}")
        content = content[CONFIG]
    kinds = options_of(stages()[stage])
    found = _options(stage, file, content)
    return [argument for name, value in found for argument in _spelt_out(file, name, kinds[name], value)], not is_a_runs


def _options(stage: str, file: Path, content: Mapping[str, Any]) -> list[tuple[str, Any]]:
    known = options_of(stages()[stage])
    groups = {group.name for group in fields(stages()[stage])}
    found: list[tuple[str, Any]] = []
    for name, value in content.items():
        option = str(name).replace("-", "_")
        if isinstance(value, Mapping) and option in groups:
            found += _options(stage, file, value)
        elif option == "stage":
            if value != stage:
                raise InputError(f"{_OPTION} {file}: is for stage {value}: give one for stage {stage}")
        elif option not in known:
            there = " and ".join(other for other, config in stages().items() if option in options_of(config))
            what = f"has no effect at --stage {stage}, only at {there}" if there else "is no option"
            raise InputError(f"{_OPTION} {file}: {name} {what}: take it out")
        else:
            found.append((option, value))
    return found


def _spelt_out(file: Path, name: str, kind: Any, value: Any) -> list[str]:
    if isinstance(value, bool) and kind is bool:
        return [spelt(name) if value else spelt(f"no_{name}")]
    if isinstance(value, bool):  # what YAML takes a plain yes or no for
        value = "yes" if value else "no"
    if isinstance(value, list):
        return [spelt(name), *map(str, value)] if value else []
    if isinstance(value, Mapping):
        raise InputError(f"{_OPTION} {file}: {name} holds names: give a value")
    return [f"{spelt(name)}={value}"]  # None too: that is how options without a value are spelt

"""What a run was trained with, and what became of that when it was resumed.

run.json says in ``config`` all settings as they were given, which ``--config run.json`` reads again; in ``settings``
what decides the outcome, under the names of train.py's options and as it came out (the dataset by its contents), in
``execution`` what changes rounding alone (versions, devices, decoders), in ``changes`` what differed when the run was
resumed, and in ``builds`` each dataset's corpus, size and the settings that its clips were made with, by which
`models.predict` makes clips of any video. What decides the outcome is only changed by who says so.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from loaders.errors import InputError
from models.training.labels import TARGETS, differences, from_json

CONFIG, SETTINGS, EXECUTION, CHANGES, BUILDS = "config", "settings", "execution", "changes", "builds"
_DALI = ("nvidia-dali-cuda130", "nvidia-dali-cuda120")  # one of them, or none
_PACKAGES = ("filmstrip", "torch", "torchaudio", "accelerate", "numpy", *_DALI, "simplejpeg")
#: What makes the network: no checkpoint of one fits another.
_NETWORK = ("stage", "model", "gaze", "sizes", "init", "vgg_face", "objective")
#: Of run.json, where they are: mappings, and lists of them. `models.training.validation` adds what was selected.
_MAPPINGS, _LISTS = (CONFIG, SETTINGS, EXECUTION, "selected"), (CHANGES, BUILDS)
#: With a rate that does not look at the end, a longer run is the shorter one, gone on with.
_LENGTH = ("epochs", "max_steps")


@dataclass(frozen=True, slots=True)
class Change:
    """Something that differs from what a run was trained with so far."""

    option: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.option} was {_short(self.before)} and is {_short(self.after)}"


def versions() -> dict[str, str | None]:
    """Of what a run's numbers may depend on, to the last bit; None for what is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def as_json(run: Mapping[str, Any]) -> dict[str, Any]:
    """A description as it is read back from run.json."""
    read: dict[str, Any] = json.loads(json.dumps(run))
    return read


def changes(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any], allowed: Sequence[str]) -> list[Change]:
    """What differs between a run as it was and as it is asked to go on.

    Args:
        folder: of the run, for messages.
        before, now: its descriptions, `as_json`.
        allowed: the options of ``settings`` that may differ, spelt as on the command line or as in run.json.

    Raises:
        InputError: what decides the outcome differs and is not allowed to; each is named with both values. Or
            something is allowed that does not differ and never did.
    """
    if not isinstance(before.get(SETTINGS), dict):
        raise InputError(
            f"{folder}: the run is of an older version, which wrote down neither its settings nor checkpoints that can "
            "be read safely: train again, with another --output"
        )
    network = _list(_differences(_leaves(_network(before)), _leaves(_network(now))))
    if not network and TARGETS in now:
        network = differences(from_json(before.get(TARGETS), folder), from_json(now[TARGETS], folder)) or ""
    if network:
        raise InputError(f"{folder}: another network: {network}: a run keeps its own, give another --output")
    differing = _differences(before[SETTINGS], now[SETTINGS])
    names = [name.replace("-", "_") for name in allowed]
    for name in names:
        if name not in now[SETTINGS] and name not in before[SETTINGS]:  # an earlier version may have had others
            raise InputError(f"--change {name}: not what a run can change: use one of {', '.join(now[SETTINGS])}")
        # A change that is in the history was meant by the same command, which is given again after a kill.
        known = {change.option for change in differing} | {past.get("option") for past in before.get(CHANGES) or []}
        if name not in known:
            raise InputError(f"--change {name}: it is as it was, {_short(now[SETTINGS].get(name))}: leave it away")
    free = _LENGTH if before[SETTINGS].get("schedule") == now[SETTINGS].get("schedule") == "step" else ()
    refused = [change for change in differing if change.option not in (*names, *free)]
    if refused:
        mend = " ".join(change.option.replace("_", "-") for change in refused)
        raise InputError(f"{folder}: {_list(refused)}: give what it was trained with, or mean it with --change {mend}")
    return differing + _differences(_leaves(before.get(EXECUTION, {})), _leaves(now[EXECUTION]))


def malformed(run: Mapping[str, Any]) -> str | None:
    """The first part of a run.json that no training has written so; None where there is none, as of older versions."""
    for name in _MAPPINGS:
        if not isinstance(run.get(name), dict | None):
            return name
    for name in _LISTS:
        entries = run.get(name) or []
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            return name
    of_changes = all(
        type(each.get("step")) is int and isinstance(each.get("option"), str) for each in run.get(CHANGES) or []
    )
    of_builds = all(isinstance(each.get("settings"), dict | None) for each in run.get(BUILDS) or [])
    return CHANGES if not of_changes else BUILDS if not of_builds else None


def changed_since(run: Mapping[str, Any], step: int) -> set[str]:
    """The options that were changed when a run had so many steps behind it, or more."""
    return {past["option"] for past in run.get(CHANGES) or [] if past["step"] >= step}


def _network(run: Mapping[str, Any]) -> dict[str, Any]:
    """What of a description decides the network. Augmentation does not; the towers' origin is known by its weights."""
    found = {name: run.get(name) for name in _NETWORK}
    if isinstance(found["init"], dict):
        found["init"] = found["init"].get("model_sha256")
    if isinstance(found["sizes"], dict) and isinstance(found["sizes"].get("front_end"), dict):
        front_end = {name: value for name, value in found["sizes"]["front_end"].items() if name != "augmentation"}
        found["sizes"] = {**found["sizes"], "front_end": front_end}
    return found


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= _leaves(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    names = [*now, *(name for name in before if name not in now)]
    return [Change(name, before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)]


def _list(differing: Sequence[Change]) -> str:
    return ", ".join(map(str, differing))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:79]}…"

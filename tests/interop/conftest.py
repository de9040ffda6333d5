"""The programs of docs/trainers.md and docs/interop.md, and a dataset that their batches of four divide.

One thread a process for torch.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from loaders.dataset.manifest import read_manifest
from tests import forked
from tests.datasets import Contents, make_dataset
from tests.programs import ROOT, write_programs

torch.set_num_threads(1)

# A clip a video: 24 are six batches of four, and three on two ranks; of nine, the last goes to one of two ranks.
CONTENTS = Contents(speakers={"train": 8, "test": 3}, shards={"train": 4, "test": 2}, utterances=1, clips=1)
CLIPS = {"train": 24, "test": 9}
PATIENCE = 120.0  # seconds until two ranks count as stuck


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs."""
    folder = tmp_path_factory.mktemp("programs")
    for page in ("trainers.md", "interop.md"):
        write_programs(ROOT / "docs" / page, folder)
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset, for reading only."""
    folder = tmp_path_factory.mktemp("datasets") / "interop"
    make_dataset(folder, CONTENTS)
    splits = read_manifest(folder).splits
    assert {name: sum(shard.clips for shard in split.shards) for name, split in splits.items()} == CLIPS
    return folder


def environment(programs: Path) -> dict[str, str]:
    """Of a process that has the programs and the project at hand."""
    return os.environ | {"PYTHONPATH": f"{programs}:{ROOT}", "OMP_NUM_THREADS": "1"}


def run_ranks(arguments: Sequence[str | Path], programs: Path) -> str:
    """Run Python with the programs and the project at hand; returns what it printed. No process of it is left."""
    environment = {"PYTHONPATH": f"{programs}:{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    with subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            printed, _ = process.communicate(timeout=PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, printed
    return printed


# A program as it stands, but that the clips of each batch are written down, epoch after epoch.
_WATCHED = """
import json, runpy, sys
import loaders

seen = []

class Watched(loaders.ClipLoader):
    def __iter__(self):
        seen.append([])
        for batch in super().__iter__():
            seen[-1].append(batch.clip.tolist())
            yield batch

loaders.ClipLoader = Watched
file, told, *sys.argv[1:] = sys.argv[1:]
sys.argv[0] = file
runpy.run_path(file, run_name="__main__")
with open(told, "w") as opened:
    json.dump(seen, opened)
"""


def watch_ranks(program: Path, told: Path, *arguments: object, ranks: int = 2) -> list[list[list[list[int]]]]:
    """Run a program as torchrun starts it; returns the clips of its batches: by rank, epoch and batch."""
    files = [told / f"rank {rank}.json" for rank in range(ranks)]
    processes = [
        forked.execute(_WATCHED, program, file, *arguments, environment=environment)
        for file, environment in zip(files, forked.rank_environments(ranks), strict=True)
    ]
    said = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0] * ranks, said
    return [json.loads(file.read_text()) for file in files]


def run_as_called(program: Path, launcher: str, module: str, given: Mapping[str, object], *options: str) -> str:
    """Run a program by the command of its first line, with what is given in the places of its names in capitals.

    Args:
        program: whose first line is a call by ``launcher``.
        launcher: what the command begins with.
        module: that is this command, for the Python of the tests.
        given: what stands for each name in capitals.
        options: in the place of what may follow.
    """
    command = program.read_text().splitlines()[0].strip('"').partition(" [")[0]
    assert command.startswith(launcher)
    words = [str(given.get(word, word)) for word in command.removeprefix(launcher).split()]
    words[words.index(program.name)] = str(program)
    return run_ranks(["-m", *module.split(), *words, *options], program.parent)

"""The programs of docs/interop.md, and a dataset that their batches of four divide; one thread a process for torch."""

import os
from pathlib import Path

import pytest
import torch

from loaders.dataset.manifest import read_manifest
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
    write_programs(ROOT / "docs" / "interop.md", folder)
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

"""Plain DDP with the program of docs/trainers.md: two ranks share every clip, and go on with the very next batch."""

import itertools
import shutil
from pathlib import Path

import pytest
import torch

from tests.interop.conftest import CLIPS, run_as_called, watch_ranks

EVERY = list(range(CLIPS["train"]))
LAST = "step-00000006.pt"  # of two epochs: two ranks take eight clips a step


def same(one: object, other: object) -> bool:
    """Whether nested states are equal, bit by bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.equal(other)
    return one == other


def test_two_ranks_share_every_clip_and_are_resumed(programs: Path, clips: Path, tmp_path: Path) -> None:
    program, whole, resumed = programs / "with_ddp.py", tmp_path / "whole", tmp_path / "resumed"
    ranks = watch_ranks(program, tmp_path, clips, whole)
    for epoch in (0, 1):
        first, second = (list(itertools.chain(*rank[epoch])) for rank in ranks)
        assert sorted(first + second) == EVERY
        assert len(first) == len(second)
    assert [path.name for path in sorted(whole.iterdir())] == [f"step-{step:08d}.pt" for step in (2, 4, 6)]
    resumed.mkdir()
    shutil.copy(whole / "step-00000004.pt", resumed)
    assert watch_ranks(program, tmp_path, clips, resumed, "--resume") == [[rank[1][1:]] for rank in ranks]
    ours, theirs = (torch.load(folder / LAST, weights_only=True) for folder in (whole, resumed))
    assert same(ours, theirs)


def test_the_program_runs_as_the_page_says(programs: Path, clips: Path, tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("torchrun and its ranks take seconds to get ready: --full runs them")
    given = {"DATASET": clips, "OUTPUT": tmp_path}
    for options in ((), ("--resume",)):
        run_as_called(programs / "with_ddp.py", "torchrun", "torch.distributed.run", given, *options)
        (tmp_path / LAST).unlink()

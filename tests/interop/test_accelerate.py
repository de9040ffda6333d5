"""accelerate with the program of docs/trainers.md: every clip once an epoch, resumed, and on two processes."""

import itertools
import json
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from tests.interop.conftest import CLIPS, run_as_called, watch_ranks

EVERY = list(range(CLIPS["train"]))
LAST = "step-00000012"


@pytest.fixture
def launch(programs: Path, clips: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """The program as accelerate launch starts one process of it, in this one."""
    file = str(programs / "with_accelerate.py")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")

    def call(output: Path, *options: str) -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
        monkeypatch.setattr(sys, "argv", [file, str(clips), str(output), *options])
        runpy.run_path(file, run_name="__main__")

    yield call
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_run_is_resumed_with_the_very_next_batch(
    launch: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From within an epoch and from its end: the same weights in the end, bit by bit."""
    whole = tmp_path / "whole"
    launch(whole)
    assert [path.name for path in sorted(whole.iterdir())] == [f"step-{step:08d}" for step in range(2, 13, 2)]
    assert capsys.readouterr().out.count("loss") == 2
    states = [json.loads((path / "loader.json").read_text()) for path in sorted(whole.iterdir())]
    assert [(state["epoch"], state["step"]) for state in states] == [(0, 2), (0, 4), (1, 0), (1, 2), (1, 4), (2, 0)]
    for step in (4, 6):
        resumed = tmp_path / f"from {step}"
        shutil.copytree(whole / f"step-{step:08d}", resumed / f"step-{step:08d}")
        (resumed / "unfinished").mkdir()  # of a process that was killed
        launch(resumed, "--resume")
        ours, theirs = (load_file(folder / LAST / "model.safetensors") for folder in (whole, resumed))
        assert ours.keys() == theirs.keys()
        assert all(ours[name].equal(theirs[name]) for name in ours), step


def test_two_processes_share_every_clip(programs: Path, clips: Path, tmp_path: Path, full: bool) -> None:
    """Once an epoch; and what they save is of all of them."""
    if not full:
        pytest.skip("three seconds of a core: --full runs it, and two ranks of plain DDP are run always")
    output = tmp_path / "run"
    ranks = watch_ranks(programs / "with_accelerate.py", tmp_path, clips, output)
    for epoch in (0, 1):
        first, second = (list(itertools.chain(*rank[epoch])) for rank in ranks)
        assert sorted(first + second) == EVERY
        assert len(first) == len(second)
    states = {path.name for path in (output / "step-00000004").glob("random_states_*")}
    assert states == {"random_states_0.pkl", "random_states_1.pkl"}


def test_the_program_runs_as_the_page_says(programs: Path, clips: Path, tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("launchers take seconds to get ready: --full runs them")
    given = {"DATASET": clips, "OUTPUT": tmp_path}
    program = programs / "with_accelerate.py"
    for options in ((), ("--resume",)):
        run_as_called(program, "accelerate launch", "accelerate.commands.launch --cpu", given, *options)
        shutil.rmtree(tmp_path / LAST)

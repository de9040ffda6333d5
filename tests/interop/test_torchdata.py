"""torchdata's StatefulDataLoader over a ClipLoader, as in docs/trainers.md: a snapshot is continued."""

import itertools
import json
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torchdata.stateful_dataloader", reason="the extra interop is not installed")

from loaders import ClipLoader
from tests.interop.conftest import CLIPS
from tests.programs import as_module

EVERY = list(range(CLIPS["train"]))
STEPS = 6


@pytest.fixture(scope="module")
def program(programs: Path) -> ModuleType:
    return as_module(programs / "with_torchdata.py")


@pytest.mark.filterwarnings("ignore:Length of IterableDataset")  # at an epoch's end, see the page
def test_a_snapshot_after_any_batch_is_continued(program: ModuleType, clips: Path) -> None:
    """Over two epochs, each of which holds every clip once; the snapshots go through JSON."""
    seen, snapshots = [], []
    with ClipLoader(clips, batch_size=4) as loader:
        batches = program.stateful(loader)
        assert len(batches) == STEPS
        for _ in range(2):
            for batch in batches:
                seen.append(batch.clip.tolist())
                snapshots.append(json.dumps(batches.state_dict()))
    assert sorted(itertools.chain(*seen[:STEPS])) == sorted(itertools.chain(*seen[STEPS:])) == EVERY
    for step, snapshot in enumerate(snapshots[: 2 * STEPS - 1], start=1):
        with ClipLoader(clips, batch_size=4) as loader:
            batches = program.stateful(loader)
            batches.load_state_dict(json.loads(snapshot))
            rest = [batch.clip.tolist() for batch in batches]
            end = STEPS if step < STEPS else 2 * STEPS
            assert rest == seen[step:end]
            if end == STEPS:
                assert [batch.clip.tolist() for batch in batches] == seen[STEPS:]


def test_a_snapshot_before_the_first_batch_is_of_the_beginning(program: ModuleType, clips: Path) -> None:
    with ClipLoader(clips, batch_size=4) as loader:
        batches = program.stateful(loader)
        snapshot = batches.state_dict()
        first = [batch.clip.tolist() for batch in batches]
        batches.load_state_dict(snapshot)
        assert [batch.clip.tolist() for batch in batches] == first
    assert sorted(itertools.chain(*first)) == EVERY


def test_the_program_runs_as_the_page_says(
    programs: Path, clips: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = str(programs / "with_torchdata.py")
    monkeypatch.setattr(sys, "argv", [program, str(clips)])
    runpy.run_path(program, run_name="__main__")
    assert capsys.readouterr().out == "20 more examples in this epoch\n"

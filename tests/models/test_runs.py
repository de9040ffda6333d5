"""What a run's folder holds is read back as it was, and what is not whole or not meant is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from loaders.errors import InputError
from models.frontend import FrontEnd
from models.presets import correspondence_net, emotion_net
from models.runs import (
    CHECKPOINTS,
    MODEL,
    checkpoints,
    load_correspondence,
    load_emotion,
    open_run,
    read_results,
    read_run,
    save_checkpoint,
    save_model,
    save_results,
)
from tests.presets import SMALLEST

RUN = {"sizes": dataclasses.asdict(SMALLEST), "gaze": True, "seed": 0}
PRETRAINING, FINE_TUNING = RUN | {"stage": "pretrain", "model": "ave"}, RUN | {"stage": "finetune", "init": None}


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator()


@pytest.fixture
def front_end() -> FrontEnd:
    return FrontEnd(SMALLEST.front_end, gaze_mean=torch.arange(103.0), gaze_std=torch.arange(1.0, 104.0))


def assert_same(one: nn.Module, other: nn.Module) -> None:
    left, right = one.state_dict(), other.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("gaze", [True, False])
def test_a_trained_network_is_read_back_with_its_front_end(
    gaze: bool, front_end: FrontEnd, accelerator: Accelerator, tmp_path: Path
) -> None:
    open_run(tmp_path / "a", PRETRAINING | {"gaze": gaze}, accelerator, resume=False)
    pairing = correspondence_net(SMALLEST, "ave", gaze=gaze)
    save_model(tmp_path / "a", front_end, pairing)
    for one, other in zip(load_correspondence(tmp_path / "a"), (front_end, pairing), strict=True):
        assert_same(one, other)
    open_run(tmp_path / "b", FINE_TUNING | {"gaze": gaze}, accelerator, resume=False)
    network = emotion_net(SMALLEST, gaze=gaze)
    save_model(tmp_path / "b", front_end, network)
    for one, other in zip(load_emotion(str(tmp_path / "b")), (front_end, network), strict=True):
        assert_same(one, other)


def test_runs_of_another_stage_or_not_finished_are_refused(
    front_end: FrontEnd, accelerator: Accelerator, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no run there"):
        load_emotion(tmp_path)
    open_run(tmp_path / "run", FINE_TUNING, accelerator, resume=False)
    with pytest.raises(InputError, match="not finished"):
        load_emotion(tmp_path / "run")
    save_model(tmp_path / "run", front_end, emotion_net(SMALLEST))
    with pytest.raises(InputError, match="a run of stage finetune: give one of stage pretrain"):
        load_correspondence(tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(InputError, match="broken"):
        load_emotion(tmp_path / "run")


def test_only_the_same_run_is_resumed(accelerator: Accelerator, tmp_path: Path) -> None:
    open_run(tmp_path / "run", PRETRAINING, accelerator, resume=False)
    with pytest.raises(InputError, match="holds a run already"):
        open_run(tmp_path / "run", PRETRAINING, accelerator, resume=False)
    open_run(tmp_path / "run", PRETRAINING, accelerator, resume=True)
    with pytest.raises(InputError, match="another gaze, seed:"):
        open_run(tmp_path / "run", PRETRAINING | {"gaze": False, "seed": 1}, accelerator, resume=True)
    assert read_run(tmp_path / "run")["seed"] == 0
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(InputError, match="holds other files"):
        open_run(tmp_path / "full", PRETRAINING, accelerator, resume=False)
    with pytest.raises(InputError, match="can be written"):
        open_run(tmp_path / "full" / "thesis.txt" / "run", PRETRAINING, accelerator, resume=False)


def test_the_last_two_whole_checkpoints_are_kept(accelerator: Accelerator, tmp_path: Path) -> None:
    open_run(tmp_path / "run", PRETRAINING, accelerator, resume=False)
    assert checkpoints(tmp_path / "run") == []
    (tmp_path / "run" / CHECKPOINTS / "00000004.partial").mkdir()  # as a killed process leaves it
    for step in (1, 2, 3):
        save_checkpoint(tmp_path / "run", accelerator, step)
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["00000002", "00000003"]
    save_checkpoint(tmp_path / "run", accelerator, 4)
    assert sorted(path.name for path in (tmp_path / "run" / CHECKPOINTS).iterdir()) == ["00000003", "00000004"]


def test_results_are_read_back_and_nothing_else_is_left(
    front_end: FrontEnd, accelerator: Accelerator, tmp_path: Path
) -> None:
    open_run(tmp_path / "run", FINE_TUNING, accelerator, resume=False)
    assert read_results(tmp_path / "run") == {}
    results = {"emotion": {"audio": {"micro_f1": 0.5, "confusion": [[1, 2], [3, 4]]}}}
    save_results(tmp_path / "run", results)
    save_model(tmp_path / "run", front_end, emotion_net(SMALLEST))
    assert read_results(tmp_path / "run") == results
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"run.json", CHECKPOINTS, MODEL, "results.json"}

"""What a run's folder holds is read back as it was, and what is not whole or not meant is refused."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from loaders.errors import InputError
from models.frontend.front_end import FrontEnd
from models.systems.presets import correspondence_net, target_net
from models.training.evaluation import MODALITIES
from models.training.labels import to_json
from models.training.provenance import Change
from models.training.runlock import LOCK
from models.training.runs import (
    CHECKPOINTS,
    MODEL,
    RUN,
    describe_run,
    held,
    load_correspondence,
    load_targets,
    model_sha256,
    read_results,
    read_run,
    save_model,
    save_results,
)
from models.training.scores import results_table
from tests.datasets import LABELS
from tests.presets import SMALLEST

DESCRIBED = {"sizes": dataclasses.asdict(SMALLEST), "gaze": True, "seed": 0}
PRETRAINING, FINE_TUNING = (
    DESCRIBED | {"stage": "pretrain", "model": "ave"},
    DESCRIBED | {"stage": "finetune", "init": None, "targets": to_json(LABELS)},
)


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


def test_scores_and_answers_stay_as_long_as_the_weights_that_they_are_of(front_end: FrontEnd, tmp_path: Path) -> None:
    """A process that is killed between its weights and their scores leaves none of other weights beside them."""
    network = target_net(SMALLEST, LABELS)
    save_model(tmp_path, front_end, network)
    of_model = ("results.json", "predictions.parquet", "pairs.parquet", "confusion.png")
    for name in (*of_model, "run.json", "metrics.jsonl", "mine.json"):
        (tmp_path / name).write_text("{}")
    before = {path.name for path in tmp_path.iterdir()}
    save_model(tmp_path, front_end, network)
    assert {path.name for path in tmp_path.iterdir()} == before
    with torch.no_grad():
        next(network.parameters()).add_(1.0)
    save_model(tmp_path, front_end, network)
    assert {path.name for path in tmp_path.iterdir()} == before - {*of_model}


@pytest.mark.parametrize("gaze", [True, False])
def test_a_trained_network_is_read_back_with_its_front_end(
    gaze: bool, front_end: FrontEnd, accelerator: Accelerator, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    describe_run(tmp_path / "a", PRETRAINING | {"gaze": gaze}, accelerator)
    pairing = correspondence_net(SMALLEST, "ave", gaze=gaze)
    save_model(tmp_path / "a", front_end, pairing)
    for one, other in zip(load_correspondence(tmp_path / "a"), (front_end, pairing), strict=True):
        assert_same(one, other)
    (tmp_path / "b").mkdir()
    describe_run(tmp_path / "b", FINE_TUNING | {"gaze": gaze}, accelerator)
    network = target_net(SMALLEST, LABELS, gaze=gaze)
    save_model(tmp_path / "b", front_end, network)
    for one, other in zip(load_targets(str(tmp_path / "b")), (front_end, network), strict=True):
        assert_same(one, other)


def test_runs_of_another_stage_or_not_finished_are_refused(
    front_end: FrontEnd, accelerator: Accelerator, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no run there"):
        load_targets(tmp_path)
    (tmp_path / "run").mkdir()
    describe_run(tmp_path / "run", FINE_TUNING, accelerator)
    with pytest.raises(InputError, match="not finished"):
        load_targets(tmp_path / "run")
    save_model(tmp_path / "run", front_end, target_net(SMALLEST, LABELS))
    with pytest.raises(InputError, match="a run of stage finetune: give one of stage pretrain"):
        load_correspondence(tmp_path / "run")
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    for targets in (None, [], [{"name": "emotion", "classes": []}], [{"title": "emotion"}], "emotion", [3]):
        (tmp_path / "run" / "run.json").write_text(json.dumps(run | {"targets": targets}))
        with pytest.raises(InputError, match="does not say what it predicts: train it again"):
            load_targets(tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(InputError, match="broken"):
        load_targets(tmp_path / "run")


def test_a_folder_is_one_run_s(accelerator: Accelerator, tmp_path: Path) -> None:
    with held(tmp_path / "run", accelerator, resume=False):
        describe_run(tmp_path / "run", PRETRAINING, accelerator)
    with pytest.raises(InputError, match="holds a run already"), held(tmp_path / "run", accelerator, resume=False):
        pass
    with held(tmp_path / "run", accelerator, resume=True):
        pass
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    for resume in (False, True):
        with pytest.raises(InputError, match="holds other files"), held(tmp_path / "full", accelerator, resume=resume):
            pass
        below = tmp_path / "full" / "thesis.txt"
        with pytest.raises(InputError, match="holds other files"), held(below, accelerator, resume=resume):
            pass
        with pytest.raises(InputError, match="can be written"), held(below / "run", accelerator, resume=resume):
            pass
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_what_a_process_left_that_was_killed_as_it_began_is_no_other_file(
    accelerator: Accelerator, tmp_path: Path
) -> None:
    (tmp_path / LOCK).touch()
    (tmp_path / f".{RUN}.4711").touch()
    with held(tmp_path, accelerator, resume=False):
        describe_run(tmp_path, PRETRAINING, accelerator)
    assert read_run(tmp_path)["gaze"] is True


def test_two_trainings_in_one_folder_are_refused(accelerator: Accelerator, tmp_path: Path) -> None:
    with held(tmp_path / "run", accelerator, resume=True):
        for resume in (False, True):
            with (
                pytest.raises(InputError, match="is training there"),
                held(tmp_path / "run", accelerator, resume=resume),
            ):
                pass


def test_a_run_keeps_the_history_of_its_changes(accelerator: Accelerator, tmp_path: Path) -> None:
    with held(tmp_path, accelerator, resume=False):
        describe_run(tmp_path, PRETRAINING | {"rate": 1}, accelerator)
        assert read_run(tmp_path)["changes"] == []
        for before, after in ((1, 2), (2, 3)):
            describe_run(
                tmp_path, PRETRAINING | {"rate": after}, accelerator, [Change("rate", before, after)], 10 * before
            )
        describe_run(tmp_path, PRETRAINING | {"rate": 3}, accelerator, [], 30)
    assert read_run(tmp_path)["rate"] == 3
    assert read_run(tmp_path)["changes"] == [
        {"step": 10, "option": "rate", "before": 1, "after": 2},
        {"step": 20, "option": "rate", "before": 2, "after": 3},
    ]


def test_a_disk_without_room_is_a_line_and_other_failures_are_ours(accelerator: Accelerator, tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        pytest.raises(InputError, match="No space left on device: make room"),
        held(tmp_path / "run", accelerator, resume=False),
    ):
        raise full
    with pytest.raises(ConnectionResetError), held(tmp_path / "run", accelerator, resume=False):
        raise ConnectionResetError


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "3",
        b"\xff\xfe{}",
        "[" * 100_000,
        json.dumps(PRETRAINING | {"sizes": 3}),
        json.dumps(PRETRAINING | {"gaze": "yes"}),
        json.dumps(PRETRAINING | {"stage": 3}),
        json.dumps(PRETRAINING | {"init": "there"}),
        json.dumps(PRETRAINING | {"model": "zzz"}),
        json.dumps(PRETRAINING | {"sizes": {}}),
        json.dumps(PRETRAINING | {"sizes": {"video": 3}}),
        json.dumps({name: value for name, value in PRETRAINING.items() if name != "model"}),
    ],
)
def test_what_does_not_describe_a_run_is_refused(
    text: str | bytes, front_end: FrontEnd, accelerator: Accelerator, tmp_path: Path
) -> None:
    with held(tmp_path, accelerator, resume=False):
        describe_run(tmp_path, PRETRAINING, accelerator)
    save_model(tmp_path, front_end, correspondence_net(SMALLEST, "ave"))
    (tmp_path / RUN).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError):
        load_correspondence(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("config", value) for value in (["a"], "a")),
        *(("settings", value) for value in (1, [{}])),
        ("execution", 7),
        ("selected", "step"),
        *(
            ("changes", value)
            for value in ("none", {"step": 3}, [3], [{"option": "seed"}], [{"step": 3, "option": []}])
        ),
        *(("builds", value) for value in ([3], {"corpus": "a"}, [{"settings": "a"}])),
    ],
)
def test_a_description_that_somebody_has_edited_is_named(
    name: str, value: Any, accelerator: Accelerator, tmp_path: Path
) -> None:
    with held(tmp_path, accelerator, resume=False):
        describe_run(tmp_path, PRETRAINING, accelerator, [Change("seed", 0, 1)], 3)
    described = read_run(tmp_path)
    (tmp_path / RUN).write_text(json.dumps({**described, name: value}))
    with pytest.raises(InputError, match=rf"run\.json: its {name} is not as"):
        read_run(tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 5000])
def test_a_network_that_is_not_whole_is_refused(
    keep: int, front_end: FrontEnd, accelerator: Accelerator, tmp_path: Path
) -> None:
    with held(tmp_path, accelerator, resume=False):
        describe_run(tmp_path, PRETRAINING, accelerator)
    save_model(tmp_path, front_end, correspondence_net(SMALLEST, "ave"))
    before = model_sha256(tmp_path)
    os.truncate(tmp_path / MODEL, keep)
    assert model_sha256(tmp_path) != before
    with pytest.raises(InputError, match="not this run's network"):
        load_correspondence(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"pretr',
        '{"pretraining": {"accuracy": "[/x]"}}',
        '{"targets": []}',
        '{"targets": {"emotion": {}}}',
        b"\xff",
    ],
)
def test_broken_results_are_refused(text: str | bytes, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match="not what a run scored"):
        read_results(tmp_path)


def test_a_score_of_nothing_is_null_in_json_and_a_dash_in_the_table(tmp_path: Path) -> None:
    of_class = {"micro_f1": math.nan, "macro_f1": 0.5, "f1_by_class": {"a": math.nan}, "confusion": [[0]]}
    of_number = {"ccc": 0.0, "pearson": math.nan, "rmse": math.nan}
    mood = {"split": "test", "utterances": 0, "classes": ["a"], "majority": math.nan}
    valence = {"split": "test", "utterances": 0, "mean": {"value": 0.0, "ccc": math.nan, "rmse": math.nan}}
    targets = {
        "mood": {**mood, **dict.fromkeys(MODALITIES, of_class)},
        "valence": {**valence, **dict.fromkeys(MODALITIES, of_number)},
    }
    save_results(tmp_path, {"targets": targets})
    json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    read = read_results(tmp_path)
    assert read["targets"]["mood"]["audio"]["f1_by_class"] == {"a": None}
    cells = [
        [str(cell) for column in results_table(of, title="").columns for cell in column.cells]
        for of in (read, {"targets": targets})
    ]
    assert cells[0] == cells[1]
    assert {"micro-F1 – %", "macro-F1 50.0 %", "– % majority", "CCC 0.000", "r –", "RMSE –", "RMSE – mean"} <= {
        line for cell in cells[0] for line in cell.split("\n")
    }


def test_results_are_read_back_and_nothing_else_is_left(
    front_end: FrontEnd, accelerator: Accelerator, tmp_path: Path
) -> None:
    scores = {"micro_f1": 0.5, "macro_f1": 0.4, "confusion": [[1, 2], [3, 4]]}
    of_emotion = {"split": "test", "utterances": 10, "classes": ["a", "b"], "majority": 0.3}
    results = {"targets": {"emotion": {**of_emotion, **dict.fromkeys(MODALITIES, scores)}}}
    with held(tmp_path / "run", accelerator, resume=False):
        describe_run(tmp_path / "run", FINE_TUNING, accelerator)
    assert read_results(tmp_path / "run") == {}
    save_model(tmp_path / "run", front_end, target_net(SMALLEST, LABELS))
    save_results(tmp_path / "run", results)
    assert read_results(tmp_path / "run") == results
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        LOCK,
        RUN,
        CHECKPOINTS,
        MODEL,
        "results.json",
    }

"""Validation chooses weights and the end of a training, and changes nothing else of it; killed, it ends the same."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import train
from models.training import runs
from models.training.checkpoint import checkpoints
from models.training.config import PretrainConfig
from models.training.curves import Curves
from models.training.data import datasets_of, training_loader, validation_loader
from models.training.loop import fit
from models.training.tasks.correspondence import Correspondence
from models.training.tasks.registry import registered
from models.training.validation import SELECTED, Standing
from tests import forked
from tests.datasets import Contents, make_dataset

ROOT = Path(__file__).parents[3]
SMALL = ("--preset", "tiny", "--width", "4", "--frame-size", "16")
STEPS = ("--batch-size", "8", "--log-every", "2", "--learning-rate", "1e-3")
VALIDATED = ("--validate-every", "1", "--validation-fraction", "0.3")
# It ends early: every better accuracy on so few pairs is better by much.
EARLY = (*VALIDATED, "--patience", "3", "--max-steps", "40", "--checkpoint-every", "2")


# -- the rule


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, math.nan]), max_size=12))
def test_the_first_of_the_highest_scores_stands(scores: list[float]) -> None:
    standing = Standing()
    for step, score in enumerate(scores, 1):
        standing = standing.after(step, score)
    numbers = [score for score in scores if math.isfinite(score)]
    if not numbers:
        assert standing == Standing(without_gain=len(scores))
        return
    best = scores.index(max(numbers)) + 1
    assert standing == Standing(best_step=best, best_score=max(numbers), without_gain=len(scores) - best)


# -- real runs, in processes that are forked from one that has imported everything


@dataclass(frozen=True)
class Kill:
    """Where a process kills itself, as by ``kill -9``."""

    at: str  #: "step", "validation" (in its midst) or "end" (all is trained, and the model is not written)
    number: int = 1  #: of them in this process


def _run(arguments: Sequence[str], kill: Kill | None, log: Path) -> None:
    """``train.py`` in a process of its own."""
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ["ACCELERATE_USE_CPU"] = "true"
    torch.set_num_threads(1)  # sums have one order
    if kill is not None:
        _arm(kill)
    sys.argv = ["train.py", *arguments]
    train.main()


def _arm(kill: Kill) -> None:
    seen = 0

    def count() -> None:
        nonlocal seen
        seen += 1
        if seen == kill.number:
            os.kill(os.getpid(), signal.SIGKILL)

    if kill.at == "step":
        added = Curves.add

        def add(self: Curves, values: Any) -> None:
            added(self, values)
            count()

        Curves.add = add  # type: ignore[method-assign]
    elif kill.at == "validation":
        for stage in registered().values():

            def score(*given: Any, own: Any = stage.task.score, **named: Any) -> Any:
                next(iter(given[4]))  # a batch of the loader's
                count()
                return own(*given, **named)

            stage.task.score = score  # type: ignore[method-assign]
    else:
        runs.save_model = lambda *_: count()


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    return forked.context()


@pytest.fixture(scope="module")
def trained(processes: ForkServerContext, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Runs a training to its end or to a kill; returns its folder."""
    log = tmp_path_factory.mktemp("log") / "log"

    def call(output: Path, *arguments: object, kill: Kill | None = None, after: float | None = None) -> Path:
        line = [*map(str, arguments), "--output", str(output), *(["--resume"] if output.exists() else [])]
        process = processes.Process(target=_run, args=(line, kill, log))
        process.start()
        if after is None:
            process.join(120)
        else:
            time.sleep(after)
            process.kill()
            process.join()
        allowed = {0, -9} if after is not None else {0 if kill is None else -9}
        assert process.exitcode in allowed, log.read_text()[-4000:]
        return output

    return call


@pytest.fixture(scope="module")
def pretrained(trained: Callable[..., Path], dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "pretrained"
    return trained(folder, "--stage", "pretrain", "--data", dataset, *SMALL, *STEPS, *EARLY)


def line_of(stage: str, dataset: Path, pretrained: Path) -> tuple[object, ...]:
    if stage == "pretrain":
        return "--stage", stage, "--data", dataset, *SMALL, *STEPS, *EARLY
    frozen = ("--freeze-stages", "2", "--tower-learning-rate", "1e-4", "--class-weights", "effective")
    return "--stage", stage, "--data", dataset, "--init", pretrained, *STEPS, *EARLY, *frozen


def require_same(one: Path, other: Path) -> None:
    """Raise AssertionError where two runs have not ended alike."""
    for name in ("model.safetensors", "results.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    found = [json.loads((folder / "run.json").read_text())[SELECTED] for folder in (one, other)]
    assert found[0] == found[1]
    ends = [checkpoints(folder / "checkpoints")[-1] for folder in (one, other)]
    assert ends[0].name == ends[1].name
    for name in ("model.safetensors", "optimizer.safetensors", "best.safetensors", "rank-00000.safetensors"):
        assert (ends[0] / name).read_bytes() == (ends[1] / name).read_bytes(), name


def test_a_pre_training_killed_in_a_validation_at_a_step_and_at_its_end_ends_as_one_that_was_not(
    trained: Callable[..., Path], dataset: Path, pretrained: Path, tmp_path: Path
) -> None:
    line = line_of("pretrain", dataset, pretrained)
    # The first validation is of the untrained network, the fourth after step 3: two steps after the checkpoint is one.
    for kill in (Kill("validation", 4), Kill("step", 2), Kill("end")):
        folder = trained(tmp_path / "killed", *line, kill=kill)
    trained(folder, *line)
    require_same(folder, pretrained)
    selected = json.loads((folder / "results.json").read_text())[SELECTED]["pretrain"]
    assert selected["stopped_early"]
    assert selected["steps"] == selected["step"] + 3 < 40
    assert int(checkpoints(folder / "checkpoints")[-1].name) == selected["steps"]


def test_a_fine_tuning_killed_and_resumed_keeps_the_same_weights_and_its_frozen_stages(
    trained: Callable[..., Path], dataset: Path, pretrained: Path, tmp_path: Path
) -> None:
    line = line_of("finetune", dataset, pretrained)
    whole = trained(tmp_path / "whole", *line)
    killed = trained(tmp_path / "killed", *line, kill=Kill("validation", 5))
    trained(killed, *line)
    require_same(killed, whole)
    results = json.loads((whole / "results.json").read_text())
    assert results[SELECTED].keys() == {"pretrain", "finetune"}
    assert results[SELECTED]["finetune"]["by"] == "mean"
    before, after = (load_file(folder / "model.safetensors") for folder in (pretrained, whole))
    towers = [name for name in before if name.startswith(("network.video.", "network.audio."))]
    frozen = [name for name in towers if ".stages.0." in name or ".stages.1." in name]
    assert any("running_mean" in name for name in frozen)
    assert all(before[name].equal(after[name]) for name in frozen)
    assert not any(before[name].equal(after[name]) for name in towers if ".stages.3." in name)
    gaze = [name for name in before if name.startswith("network.gaze.")]  # one stage, of which two are frozen
    assert gaze
    assert all(before[name].equal(after[name]) for name in gaze)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_kills_at_ten_random_moments_change_nothing(
    stage: str, full: bool, trained: Callable[..., Path], dataset: Path, pretrained: Path, tmp_path: Path
) -> None:
    if not full:
        pytest.skip("--full kills ten times")
    line = line_of(stage, dataset, pretrained)
    whole = trained(tmp_path / "whole", *line)
    draw = random.Random(stage)
    steps = json.loads((whole / "results.json").read_text())[SELECTED][stage]["steps"]
    folder = tmp_path / "killed"
    for number in range(10):
        if number % 2:  # at a step or in a validation, wherever in the run
            shutil.rmtree(folder, ignore_errors=True)
            at = draw.choice(["step", "validation"])
            trained(folder, *line, kill=Kill(at, draw.randint(1, steps)))
        else:
            trained(folder, *line, after=draw.uniform(0.5, 3.0))
        if number == 9 or (folder / "results.json").exists():
            trained(folder, *line)
            require_same(folder, whole)
    # And one that is killed again and again.
    shutil.rmtree(folder)
    for at in range(2, steps, 2):
        trained(folder, *line, kill=Kill("validation", min(at, 3)))
    trained(folder, *line)
    require_same(folder, whole)


def test_the_weights_of_a_run_are_those_with_the_score_that_it_names(dataset: Path, pretrained: Path) -> None:
    selected = json.loads((pretrained / "run.json").read_text())[SELECTED]
    config, _ = train.parse(["--config", str(pretrained / "run.json"), "--stage", "pretrain", "--output", "elsewhere"])
    assert isinstance(config, PretrainConfig)
    accelerator = train.accelerator_of(config)
    datasets = datasets_of(config.data, config.loader, None)
    task = Correspondence.of(config)
    of_batches: dict[str, Any] = {"paired": True, "frames": task.frames}
    with validation_loader(
        datasets, config.data, config.loader, accelerator, config.validation, None, **of_batches
    ) as third:
        score = task.score(accelerator, *task.load(pretrained), third)["pretraining"]
        held = set(third.catalogs[0].table(["speaker"])["speaker"].to_pylist())
    assert task.choices({"pretraining": score}) == {"accuracy": selected["score"]}
    assert score["pairs"] == selected["clips"]
    assert len(held) == selected["speakers"]
    with training_loader(datasets, config.data, config.loader, accelerator, config.validation, **of_batches) as loader:
        assert not held & set(loader.catalogs[0].table(["speaker"])["speaker"].to_pylist())


def test_validation_changes_no_step_of_the_training(
    trained: Callable[..., Path], dataset: Path, pretrained: Path, tmp_path: Path
) -> None:
    """The same batches, weights and random states as of a training on the same speakers that validates nothing."""
    newest = checkpoints(pretrained / "checkpoints")[-1]
    small = [*SMALL, *STEPS, "--max-steps", str(int(newest.name)), "--checkpoint-every", "1000"]
    config, _ = train.parse(
        ["--stage", "pretrain", "--data", str(dataset), "--output", str(tmp_path / "run"), *small, *VALIDATED]
    )
    assert isinstance(config, PretrainConfig)
    AcceleratorState._reset_state(True)
    accelerator = train.accelerator_of(config)
    task = Correspondence.of(config)
    datasets = datasets_of(config.data, config.loader, None)
    loader = training_loader(
        datasets, config.data, config.loader, accelerator, config.validation, paired=True, frames=task.frames
    )
    set_seed(config.data.seed)
    (tmp_path / "run").mkdir()
    fit(config, accelerator, task, task.model(loader.catalogs), loader)
    accelerator.end_training()
    (other,) = checkpoints(tmp_path / "run" / "checkpoints")
    for name in ("model.safetensors", "optimizer.safetensors", "rank-00000.safetensors"):
        assert (other / name).read_bytes() == (newest / name).read_bytes(), name
    states = [json.loads((path / "rank-00000.json").read_text()) for path in (other, newest)]
    assert states[0]["loader"] == states[1]["loader"]
    assert states[0]["random"] == states[1]["random"]
    assert states[0]["validation"] is None


# -- what is refused


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    """The one line with which the program, called from here, refuses its arguments."""
    AcceleratorState._reset_state(True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")

    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            train.main()
        (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
        assert ended.value.code == 2
        return line

    yield call
    AcceleratorState._reset_state(True)


def test_the_choice_is_never_made_on_the_split_that_is_evaluated(
    dataset: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    line = ("--stage", "pretrain", "--data", dataset, "--output", tmp_path / "run", *SMALL, *STEPS)
    every = ("--validate-every", "1")
    assert "--validation-split test: it is evaluated" in refused(*line, *every, "--validation-split", "test")
    assert "--validation-split train: it is trained on" in refused(*line, *every, "--validation-split", "train")
    fraction = ("--validation-fraction", "0.3")
    assert "--evaluation-split train: a share of its speakers is validated on" in refused(
        *line, *every, *fraction, "--evaluation-split", "train"
    )
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_validated_is_refused_before_a_step_is_taken(
    dataset: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    line = ("--stage", "finetune", "--data", dataset, "--output", tmp_path / "run", *SMALL, *STEPS, *VALIDATED)
    said = refused(*line, "--select-by", "emotion.joint.accuracy")
    assert "--select-by emotion.joint.accuracy: there is no such score, only mean, emotion.audio.micro_f1" in said
    assert checkpoints(tmp_path / "run" / "checkpoints") == []
    none = (*line[:-1], "1e-9")
    assert "holds out 0 of 5 speakers" in refused(*none)
    seldom = ("--stage", "pretrain", *line[2:4], "--output", tmp_path / "other", *SMALL, *STEPS, *VALIDATED[2:])
    assert "--validate-every is 9, and the run has 3 steps" in refused(
        *seldom, "--validate-every", "9", "--max-steps", "3"
    )


def test_a_third_split_is_validated_on_and_what_was_validated_counts_only_for_itself(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    make_dataset(
        tmp_path / "data",
        Contents(
            speakers={"train": 6, "validation": 2, "test": 2}, shards={"train": 1, "validation": 1, "test": 1}, videos=2
        ),
    )
    line = ("--stage", "pretrain", "--data", tmp_path / "data", *SMALL, *STEPS, "--validate-every", "1")
    run = trained(tmp_path / "run", *line, "--validation-split", "validation", "--max-steps", "2")
    assert json.loads((run / "run.json").read_text())["settings"]["validation_split"] == "validation"
    results = json.loads((run / "results.json").read_text())
    assert results["pretraining"]["split"] == "test"
    assert results[SELECTED]["pretrain"]["split"] == "validation"
    # Other clips' scores are not compared with these.
    change = ("--validation-fraction", "0.3", "--change", "validation-split", "validation-fraction")
    trained(run, *line, *change, "--max-steps", "3")
    selected = json.loads((run / "results.json").read_text())[SELECTED]["pretrain"]
    assert (selected["split"], selected["step"]) == ("train", 3)
    named = [change["option"] for change in json.loads((run / "run.json").read_text())["changes"]]
    assert {"validation_split", "validation_fraction"} <= set(named)

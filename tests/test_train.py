"""The training program as users start it: real processes, real runs, small networks."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from loaders import ClipLoader
from loaders.errors import TRY_AGAIN
from loaders.sampling.negatives import shares_at
from models import load
from models.answers import predict_targets
from models.training import scores, stages
from models.training.checkpoint import checkpoints
from models.training.config import (
    CorrespondenceNetworkConfig,
    DataConfig,
    EvaluateConfig,
    LoaderConfig,
    TrainingDataConfig,
)
from models.training.data import datasets_of, training_loader
from models.training.labels import to_json
from models.training.predictions import read_pairs, read_predictions
from models.training.runlock import locked
from models.training.runs import load_targets
from models.training.scores import score_targets
from models.training.stages import evaluate
from models.training.tasks import correspondence
from tests import datasets, forked
from tests.damage import copy_of, flip_byte
from tests.datasets import CONTENTS, EMOTIONS, LABELS, SETTINGS, Contents, make_dataset
from tests.exposition import parsed
from tests.films import write_film
from tests.forked import ENVIRONMENT, Forked
from tests.planes import needs_libturbojpeg
from tests.s3_adversary import s3_adversary

ROOT = Path(__file__).parents[1]
STEPS = ("--batch-size", "8", "--log-every", "2")
SMALL = ("--preset", "tiny", "--width", "4", "--frame-size", "16", "--no-picture", *STEPS)
ONE_PROCESS = ("-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1")
LAUNCHER = (*ONE_PROCESS, "--mixed_precision", "no", "--dynamo_backend", "no", "train.py")
Start = Callable[[Sequence[object], Mapping[str, str]], "subprocess.Popen[str] | Forked"]


def launched(arguments: Sequence[object], environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    """The program by the launcher, as users start it; all others here are without the seconds of getting ready."""
    command = [sys.executable, *LAUNCHER, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(*arguments: object, start: Start = forked.train, environment: Mapping[str, str] = ENVIRONMENT) -> str:
    process = start(arguments, environment)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line with which the program, called from here, refuses its arguments."""

    def call(*arguments: object, status: int = 2) -> str:
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            train.main()
        assert ended.value.code == status
        return refusal(capfd.readouterr().err)

    return call


def refusal(err: str) -> str:
    """The one line of an error."""
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


@pytest.fixture(scope="module")
def pretrained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "pretrained"
    run(
        "--stage",
        "pretrain",
        "--data",
        dataset,
        "--output",
        folder,
        *SMALL,
        "--max-steps",
        "8",
        "--checkpoint-every",
        "4",
        "--metrics",
        folder.with_suffix(".prom"),
        start=launched,
    )
    return folder


def test_the_figures_that_are_left_are_those_of_the_whole_run(dataset: Path, pretrained: Path, tmp_path: Path) -> None:
    found = parsed(pretrained.with_suffix(".prom").read_text())
    of = {"rank": "0", "stage": "pretrain"}

    def value(name: str, **more: str) -> float:
        return found[f"filmstrip_{name}", tuple(sorted({**of, **more}.items()))]

    last = json.loads((pretrained / "metrics.jsonl").read_text().splitlines()[-1])
    assert value("training_step") == value("training_steps_total") == last["step"] == 8
    assert value("training_loss") == last["loss"]
    assert value("training_learning_rate") == last["learning_rate"]
    assert value("loader_clips_total", loader="training", split="train") == 8 * 8
    scored = json.loads((pretrained / "results.json").read_text())["pretraining"]["pairs"]
    assert value("loader_clips_total", loader="scoring", split="test") == scored


def test_figures_are_refused_where_they_cannot_be_written(
    dataset: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    line = ("--stage", "pretrain", "--data", dataset, "--output", tmp_path / "run", *SMALL, "--metrics")
    assert "give a name that ends in .prom" in refused(*line, tmp_path / "run.csv")
    assert "there is no folder" in refused(*line, tmp_path / "missing" / "run.prom")
    assert list(tmp_path.iterdir()) == []


def test_the_thesis_in_three_commands(
    dataset: Path,
    pretrained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")
    tuned = tmp_path / "tuned"
    finetuning = ("--stage", "finetune", "--data", dataset, "--init", pretrained, "--output", tuned)
    run(*finetuning, *STEPS, "--max-steps", "4", "--mixed-precision", "bf16", start=forked.launched)
    found, answers = tmp_path / "found.json", tmp_path / "answers.parquet"
    asked = ("--stage", "evaluate", "--checkpoint", tuned, "--data", dataset)
    table = run(*asked, "--json", found, "--predictions", answers, start=forked.launched)
    for row in ("pre-training accuracy", "emotion from audio", "emotion from visual", "emotion from joint", "majority"):
        assert row in table
    results = json.loads((tuned / "results.json").read_text())
    assert results["pretraining"] == json.loads((pretrained / "results.json").read_text())["pretraining"]
    assert list(results["targets"]) == ["emotion"]  # of three labels the one that has classes
    emotion = results["targets"]["emotion"]
    assert sum(map(sum, emotion["audio"]["confusion"])) == emotion["utterances"] > 0
    assert list((tuned / "tensorboard").iterdir())
    # What is found again is what the run kept: evaluated as it was trained, which launch does not decide.
    assert json.loads(found.read_text()).keys() == results.keys()
    again, kept = (read_predictions(path)["emotion"] for path in (answers, tuned / "predictions.parquet"))
    assert again.keys == kept.keys
    for modality in ("audio", "visual", "joint"):
        of_modality = emotion[modality]
        for says, name in (("micro-F1", "micro_f1"), ("macro-F1", "macro_f1")):
            assert f"{says} {100 * of_modality[name]:.1f} % (" in table
    assert "evaluated in" not in table
    assert (
        sum(len(of.keys) for of in read_pairs(pretrained / "pairs.parquet").values()) == results["pretraining"]["pairs"]
    )
    # And otherwise where that is asked for.
    out = called(monkeypatch, capfd, *asked, "--mixed-precision", "no")
    assert "evaluated in float32; trained in bfloat16" in out
    with ClipLoader(dataset, "test", batch_size=8, negatives=None, targets=("emotion",)) as loader:
        scored = score_targets(Accelerator(), *load_targets(tuned), loader)
    assert f"micro-F1 {100 * scored['emotion']['joint']['micro_f1']:.1f} % (" in out
    assert (tuned / "curves.png").read_bytes().startswith(b"\x89PNG")


def called(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the program, called from here and on one thread, prints."""
    AcceleratorState._reset_state(True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train.main()
    finally:
        torch.set_num_threads(threads)
        AcceleratorState._reset_state(True)
    return capfd.readouterr().out


def test_pairs_are_scored_on_each_kind_of_negatives_by_itself(
    dataset: Path,
    pretrained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    refused: Callable[..., str],
) -> None:
    assert json.loads((pretrained / "results.json").read_text())["pretraining"]["negatives"] == "other_video"
    asked: list[tuple[dict[str, float], int]] = []
    answer = correspondence.answer_pairs

    def seen(accelerator: Accelerator, front_end: Any, network: Any, loader: ClipLoader, **rounds: int) -> Any:
        assert loader.negatives is not None
        asked.append((dict(shares_at(loader.negatives, loader.epoch)), loader.step))
        return answer(accelerator, front_end, network, loader, **rounds)

    monkeypatch.setattr(correspondence, "answer_pairs", seen)
    training = ("--stage", "pretrain", "--data", dataset, *SMALL, "--max-steps", "1")
    several = ("--evaluation-negatives", "same_speaker", "other_video", "--evaluation-rounds", "2")
    out = called(monkeypatch, capfd, *training, "--output", tmp_path / "run", *several)
    assert asked == [({"same_speaker": 1.0}, 0), ({"other_video": 1.0}, 0)]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    by_kind = results["pretraining_by_negatives"]
    assert list(by_kind) == ["same_speaker", "other_video"]
    assert results["pretraining"] == by_kind["same_speaker"]
    assert all(re.search(rf"pre-training accuracy, {kind}\b", out) for kind in by_kind)
    # As by the evaluation of the finished run.
    assert all(
        row
        in called(
            monkeypatch,
            capfd,
            *(*("--stage", "evaluate", "--data", dataset, "--checkpoint", tmp_path / "run"), *several),
        )
        for row in [line for line in out.splitlines() if "accuracy, " in line]
    )
    lonely = tmp_path / "lonely"
    make_dataset(lonely, replace(CONTENTS, videos=1, utterances=1, clips=1))
    of_lonely = ("--stage", "pretrain", "--data", lonely, *SMALL, "--output", tmp_path / "none")
    assert "3 of 3 clips have no candidate of kind same_speaker" in refused(
        *of_lonely, "--batch-size", "2", "--evaluation-negatives", "same_speaker"
    )
    assert "5 of 5 clips have no candidate of kind shifted" in refused(
        *of_lonely, "--batch-size", "2", "--negatives", "other_video", "1:shifted"
    )
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("loss", ["ccc", "mse"])
def test_a_class_and_a_number_are_learnt_together(
    loss: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    targets = ("--targets", "emotion", "valence", "--target-weights", "1", "0.5", "--number-loss", loss)
    training = ("--stage", "finetune", "--data", dataset, "--output", folder, *SMALL, *targets, "--max-steps", "4")
    table = called(monkeypatch, capfd, *training)
    for modality in ("audio", "visual", "joint"):
        assert f"emotion from {modality}" in table
        assert f"valence from {modality}" in table
    results = json.loads((folder / "results.json").read_text())["targets"]
    assert results["emotion"]["classes"] == list(EMOTIONS)
    assert results["emotion"]["utterances"] == results["valence"]["utterances"] > 0
    for modality in ("audio", "visual", "joint"):
        assert results["valence"][modality]["rmse"] > 0
        assert -1 <= results["valence"][modality]["ccc"] <= 1
    described = json.loads((folder / "run.json").read_text())
    assert described["targets"] == to_json([LABELS[0], LABELS[2]])
    assert described["config"]["targets"] == {
        "targets": ["emotion", "valence"],
        "target_weights": [1.0, 0.5],
        "number_loss": loss,
        "class_weights": None,
    }
    # Read back it predicts by names, in the labels' units.
    front_end, network = load_targets(folder)
    assert network.means["valence"] == pytest.approx(results["valence"]["mean"]["value"])
    with ClipLoader(dataset, "test", batch_size=8, negatives=None) as loader:
        said = predict_targets(front_end, network, audio=next(iter(loader)).audio)
    assert said["emotion"].classes == EMOTIONS
    assert said["valence"].audio is not None
    assert said["valence"].audio.shape == (8,)
    curves = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert {"train/emotion/joint", "train/valence/audio", "train/triplet"} < set(curves.Tags()["scalars"])
    assert (folder / "confusion.png").read_bytes().startswith(b"\x89PNG")
    again = called(monkeypatch, capfd, "--stage", "evaluate", "--checkpoint", folder, "--data", dataset)
    assert [line for line in again.splitlines() if " from " in line] == [
        line for line in table.splitlines() if " from " in line
    ]


def test_a_run_is_scored_and_resumed_with_the_classes_that_it_knows(
    dataset: Path,
    tmp_path: Path,
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    training = ("--stage", "finetune", "--data", dataset, "--output", folder, *SMALL, "--max-steps", "2")
    called(monkeypatch, capfd, *training)
    others = tmp_path / "others"
    calm = tuple(name for name in EMOTIONS if name != "fear")
    with monkeypatch.context() as drawing:
        drawing.setattr(datasets, "EMOTIONS", (*calm, "calm"))
        drawing.setattr(datasets, "LABELS", (replace(LABELS[0], classes=(*calm, "calm")), *LABELS[1:]))
        make_dataset(others)
    differs = "emotion lacks class 'fear' and has the new class 'calm'"
    assert differs in refused("--stage", "evaluate", "--checkpoint", folder, "--data", others)
    elsewhere = tuple(others if part == dataset else part for part in training)
    assert f"another network: {differs}" in refused(*elsewhere, "--resume", "--change", "data")
    assert "another network: targets was emotion and is valence" in refused(
        *training, "--resume", "--targets", "valence"
    )
    assert differs in refused("--stage", "finetune", "--data", dataset, others, "--output", tmp_path / "both", *SMALL)
    numbers = tmp_path / "numbers"
    with monkeypatch.context() as drawing:
        drawing.setattr(datasets, "LABELS", LABELS[1:])
        drawing.setattr(datasets, "_draw_labels", lambda draw: {"arousal": draw.random(), "valence": draw.random()})
        make_dataset(numbers)
    evaluation = ("--stage", "evaluate", "--checkpoint", folder, "--data", numbers)
    assert "has no label 'emotion', which the run predicts, only arousal (a number)" in refused(*evaluation)
    finetuning = ("--stage", "finetune", "--data", numbers, "--output", tmp_path / "numbers-run", *SMALL)
    assert "its labels are arousal (a number), valence (a number): choose what to predict" in refused(*finetuning)
    one_number = (*finetuning, "--targets", "valence", "--max-steps", "1")
    for option in (("--alpha", "0.1"), ("--margin", "0.2")):
        assert f"{option[0]} has no effect without a target that has classes" in refused(*one_number, *option)
    assert not (tmp_path / "numbers-run" / "run.json").exists()
    called(monkeypatch, capfd, *one_number)
    assert list(json.loads((tmp_path / "numbers-run" / "results.json").read_text())["targets"]) == ["valence"]


def test_training_on_a_dataset_in_a_store_is_training_on_the_local_one(
    dataset: Path, pretrained: Path, tmp_path: Path
) -> None:
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    store = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with s3_adversary(dataset.parent, every=0) as server:
        run(
            *("--stage", "pretrain", "--data", f"s3://{dataset.name}", "--output", tmp_path / "run", *SMALL),
            *("--max-steps", "8", "--checkpoint-every", "4", "--cache", tmp_path / "cache"),
            environment={**ENVIRONMENT, **store, "AWS_ENDPOINT_URL": server.url},
        )
    local, remote = (load_file(folder / "model.safetensors") for folder in (pretrained, tmp_path / "run"))
    assert all(local[name].equal(remote[name]) for name in local)
    assert list((tmp_path / "cache" / "shards").glob("*.tar"))


def test_fine_tuning_begins_with_the_pre_trained_towers(dataset: Path, pretrained: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned"
    finetuning = ("--stage", "finetune", "--data", dataset, "--init", pretrained, "--output", tuned)
    run(*finetuning, *STEPS, "--max-steps", "1", "--learning-rate", "1e-12")
    before, after = (load_file(folder / "model.safetensors") for folder in (pretrained, tuned))
    weights = [name for name in before if name.startswith("network.video.") and name.endswith(".0.weight")]
    assert weights
    assert all((before[name] - after[name]).abs().max() < 1e-9 for name in weights)


def test_a_killed_run_resumed_ends_as_one_that_was_not(dataset: Path, tmp_path: Path) -> None:
    """Of AVE-Net, wherever the signal finds it; of L3-Net see test_stopping, and with validation test_validation."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    steps = ("--model", "ave", *SMALL, "--max-steps", "10", "--checkpoint-every", "3", "--learning-rate", "1e-3")
    # From the eighth step on, after the kill, with other negatives.
    steps += ("--negatives", "other_video", "1:other_video=0.5", "1:same_speaker=0.5")
    run("--stage", "pretrain", "--data", dataset, "--output", whole, *steps)
    process = forked.train(("--stage", "pretrain", "--data", dataset, "--output", killed, *steps))
    deadline = time.monotonic() + 120
    while not (killed / "checkpoints" / "00000003").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    run("--stage", "pretrain", "--data", dataset, "--output", killed, *steps, "--resume")
    a, b = (load_file(folder / "model.safetensors") for folder in (whole, killed))
    assert a.keys() == b.keys()
    assert all(a[name].equal(b[name]) for name in a)


def curves_of(folder: Path) -> dict[str, list[float]]:
    """What a run has logged of its training, but not how fast it went."""
    curves = EventAccumulator(str(folder / "tensorboard")).Reload()
    names = [name for name in curves.Tags()["scalars"] if name.startswith("train/")]
    return {name: [line.value for line in curves.Scalars(name)] for name in names}


def require_figures_of_each(path: Path, folder: Path, trained: int, scored: int) -> None:
    """That each of two processes has left a file of its own: its rank in every series, its part of what was done.

    Args:
        path: as it was given.
        folder: of the run.
        trained: clips that each has trained on.
        scored: clips that both together have scored.
    """
    assert {found.name for found in path.parent.glob("*.prom")} == {"pair.rank0.prom", "pair.rank1.prom"}
    files = [parsed(path.with_stem(f"pair.rank{rank}").read_text()) for rank in range(2)]
    for rank, series in enumerate(files):
        assert {dict(labels)["rank"] for _, labels in series} == {str(rank)}

    def values(name: str, **more: str) -> list[float]:
        given = ({"stage": "pretrain", "rank": str(rank), **more} for rank in range(2))
        return [files[rank][f"filmstrip_{name}", tuple(sorted(of.items()))] for rank, of in enumerate(given)]

    assert values("training_steps_total") == [3, 3]
    assert values("loader_clips_total", loader="training", split="train") == [trained, trained]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    loss = [line["loss"] for line in lines if "loss" in line][-1]
    assert values("training_loss") == [loss, loss]  # over both, and one of them alone writes it into the run
    parts = values("loader_clips_total", loader="scoring", split="test")
    assert min(parts) > 0
    assert sum(parts) == scored


def test_two_processes_train_and_score_every_clip_once(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    halves = [value if value != "8" else "4" for value in SMALL]
    folder = tmp_path / "pair"
    validated = ("--validate-every", "2", "--validation-fraction", "0.2")
    training = ("--stage", "pretrain", "--data", dataset, "--output", folder, *validated)
    watched = ("--metrics", tmp_path / "pair.prom")
    run("train.py", *training, *halves, *watched, "--max-steps", "3", start=forked.torchrun)
    results = json.loads((folder / "results.json").read_text())
    clips = json.loads((dataset / "dataset.json").read_text())["splits"]["test"]["clips"]
    require_figures_of_each(watched[1], folder, 3 * 4, clips)
    assert results["pretraining"]["pairs"] == clips
    assert (results["selected"]["pretrain"]["step"], results["selected"]["pretrain"]["steps"]) == (2, 3)
    one = tmp_path / "one"
    alone = ("--stage", "pretrain", "--data", dataset, "--output", one, *validated)
    called(monkeypatch, capfd, *alone, *SMALL, "--max-steps", "3")
    of_pair = curves_of(folder)
    assert {"train/loss", "train/accuracy"} < of_pair.keys()
    for name, values in curves_of(one).items():
        assert of_pair[name] == pytest.approx(values, abs=1e-4, rel=1e-4), name
    # One process goes on alone, with the same global batches from the very next one, where that is meant.
    said = run(*training, *SMALL, "--max-steps", "4", "--resume", "--change", "world-size", "batch-size")
    assert "world_size was 2 and is 1" in said
    assert "left out" not in said
    assert "does not count" not in said  # what was validated is the same, by however many
    state = json.loads((folder / "checkpoints" / "00000004" / "rank-00000.json").read_text())
    assert (state["loader"]["epoch"], state["loader"]["step"]) == (0, 4)


def test_two_processes_train_what_one_does(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same global batches, labels of clips dealt out unevenly, steps of two batches, batch norms over all."""
    small = [value if value != "2" else "1" for value in SMALL]
    training = ("--stage", "finetune", "--data", dataset, *small, "--max-steps", "4", "--accumulate", "2")
    more = ("--targets", "emotion", "valence", "--alpha", "1", "--learning-rate", "3e-5", "--clip-gradients", "0.5")
    halves = [value if value != "8" else "4" for value in map(str, (*training, *more))]
    pair = [forked.train((*halves, "--output", tmp_path / "two"), rank) for rank in forked.rank_environments(2)]
    called(monkeypatch, capfd, *training, *more, "--output", tmp_path / "one")
    for each in pair:
        _, err = each.communicate(timeout=120)
        assert each.returncode == 0, err
    # Adam makes much of the rounding in small gradients, the more the higher the rate: at ten times this one they were
    # a thousandth apart after the second step on some processors.
    one, two = (curves_of(tmp_path / name) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert {"train/loss", "train/gradient_norm"} < one.keys()
    for name, values in one.items():
        assert len(values) == 4
        rel = 2e-4 if name == "train/gradient_norm" else 2e-5
        assert two[name] == pytest.approx(values, abs=2e-5, rel=rel), name
    assert len({round(value, 3) for value in one["train/loss"]}) == 4
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()
    statistics = [name for name in weights[0] if "running" in name]
    assert statistics
    for name in statistics:
        torch.testing.assert_close(weights[1][name], weights[0][name], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("objective", ["infonce", "margin-softmax"])
def test_an_objective_over_all_of_a_batch_is_resumed_exactly_and_scored(
    objective: str,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    refused: Callable[..., str],
) -> None:
    training = ("--stage", "pretrain", "--data", dataset, *SMALL, "--objective", objective, "--learning-rate", "1e-2")
    training += ("--model", "ave" if objective == "infonce" else "l3", "--mask", "speaker", "--checkpoint-every", "2")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    matches = []
    step = correspondence.Correspondence.step
    monkeypatch.setattr(
        correspondence.Correspondence,
        "step",
        lambda self, batch, *rest: matches.append(batch.match) or step(self, batch, *rest),
    )
    called(monkeypatch, capfd, *training, "--max-steps", "4", "--output", whole)
    assert all(match.all() for match in matches)  # no negatives are drawn: the others of the batch are
    called(monkeypatch, capfd, *training, "--max-steps", "2", "--output", parts)
    called(monkeypatch, capfd, *training, "--max-steps", "4", "--output", parts, "--resume")
    a, b = (load_file(folder / "model.safetensors") for folder in (whole, parts))
    assert a.keys() == b.keys()
    assert all(a[name].equal(b[name]) for name in a)
    start = 0.1 if objective == "infonce" else 1.0
    assert a["network.objective.log_temperature"].exp().item() not in (0, pytest.approx(start, rel=1e-6))
    results = json.loads((whole / "results.json").read_text())
    assert results.keys() == {"retrieval"}
    out = called(
        monkeypatch, capfd, "--stage", "evaluate", "--checkpoint", whole, "--data", dataset, "--json", tmp_path / "json"
    )
    assert out.count("recall@10") == 2
    assert json.loads((tmp_path / "json").read_text()) == results
    assert "another network: objective.temperature was null and is 1.0" in refused(
        *training, "--temperature", "1", "--max-steps", "5", "--output", parts, "--resume"
    )
    unasked = refused("--stage", "evaluate", "--checkpoint", whole, "--data", dataset, "--evaluation-rounds", "2")
    assert "--evaluation-rounds has no effect on" in unasked
    tuning = ("--stage", "finetune", "--data", dataset, "--init", whole, *STEPS, "--max-steps", "1", "--no-picture")
    called(monkeypatch, capfd, *tuning, "--output", tmp_path / "tuned")
    assert not any("objective" in name for name in load_file(tmp_path / "tuned" / "model.safetensors"))


def test_steps_of_several_batches_cross_epochs_and_are_resumed_between_them(
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    refused: Callable[..., str],
) -> None:
    training = ("--stage", "finetune", "--data", dataset, *SMALL, "--accumulate", "4", "--checkpoint-every", "2")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    called(monkeypatch, capfd, *training, "--max-steps", "5", "--output", whole)
    called(monkeypatch, capfd, *training, "--max-steps", "3", "--output", parts)
    called(monkeypatch, capfd, *training, "--max-steps", "5", "--output", parts, "--resume")
    a, b = (load_file(folder / "model.safetensors") for folder in (whole, parts))
    assert all(a[name].equal(b[name]) for name in a)
    states = [json.loads((folder / "checkpoints/00000005/rank-00000.json").read_text()) for folder in (whole, parts)]
    assert states[0]["loader"] == states[1]["loader"]
    described = json.loads((whole / "run.json").read_text())
    batches = json.loads((dataset / "dataset.json").read_text())["splits"]["train"]["clips"] // 8
    assert batches % 4  # so that a step takes batches of two epochs
    assert divmod(20, batches) == (states[0]["loader"]["epoch"], states[0]["loader"]["step"])
    assert described["settings"]["accumulate"] == 4
    again = ("--max-steps", "6", "--output", parts, "--resume")
    assert "accumulate was 4 and is 2" in refused(*training, *again, "--accumulate", "2")
    few = ("--epochs", "1", "--accumulate", "100", "--output", tmp_path / "few")
    assert "--accumulate is 100" in refused("--stage", "pretrain", "--data", dataset, *SMALL, *few)
    # What accelerate is told itself would divide the loss and leave it at that.
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "3")
    assert "--accumulate 3" in refused(*training, "--output", tmp_path / "told")


@pytest.mark.parametrize(
    "options",
    [
        ("--seed", "-1"),
        ("--seed", str(2**40)),
        ("--warmup-steps", "-5"),
        ("--weight-decay", "-1"),
        ("--weight-decay", "nan"),
        ("--learning-rate", "inf"),
        ("--learning-rate", "nan"),
        ("--gaze-dropout", "nan"),
        ("--weights", "inf"),
        ("--weights", "0"),
        ("--epochs", "0"),
        ("--accumulate", "0"),
        ("--clip-gradients", "-1"),
    ],
)
def test_settings_out_of_range_are_refused(
    options: tuple[str, str], dataset: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    said = refused("--stage", "pretrain", "--data", dataset, "--output", tmp_path / "run", *options)
    assert said.startswith(f"error: {options[0]} is ")
    assert not (tmp_path / "run").exists()


def test_options_without_effect_are_refused(
    dataset: Path, pretrained: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    """Be it by the stage, by what else was given, or by the device. (Every option at every stage: test_options.)"""
    out = ("--output", tmp_path / "run")
    pretraining = ("--stage", "pretrain", "--data", dataset, *out)
    finetuning = ("--stage", "finetune", "--data", dataset, *out)
    evaluation = ("--stage", "evaluate", "--data", dataset, "--checkpoint", pretrained)
    for arguments, what in (
        ((*pretraining, "--alpha", "0.1"), "--alpha has no effect at --stage pretrain, only at finetune"),
        ((*finetuning, "--evaluation-rounds", "1"), "--evaluation-rounds has no effect at --stage finetune"),
        ((*evaluation, "--epochs", "3"), "--epochs has no effect at --stage evaluate"),
        ((*finetuning, "--init", pretrained, "--preset", "tiny"), "--preset has no effect with --init"),
        ((*finetuning, "--init", pretrained, "--width", "4"), "--width has no effect with --init"),
        ((*finetuning, "--alpha", "0", "--margin", "1"), "--margin has no effect with --alpha 0"),
        ((*pretraining, "--no-gaze", "--gaze-dropout", "0.5"), "--gaze-dropout has no effect with --no-gaze"),
        ((*finetuning, "--alpha", "0", "--same-instance"), "--same-instance has no effect with --alpha 0"),
        ((*pretraining, "--sync-batch-norm", "no"), "--sync-batch-norm has no effect with one process"),
        ((*pretraining, "--change", "seed"), "--change has no effect without --resume"),
        ((*pretraining, "--temperature", "1"), "--temperature has no effect with --objective correspondence"),
        ((*pretraining, "--objective", "infonce", "--negatives", "shifted"), "--negatives has no effect with --obj"),
        ((*pretraining, "--objective", "infonce", "--softmax-margin", "1"), "--softmax-margin has no effect with"),
        ((*pretraining, "--objective", "infonce", "--temperature", "0"), "--temperature is 0.0: use 0.01 or more"),
        ((*pretraining, "--resume", "--change", "seed", *SMALL), "--change has no effect with"),
        ((*pretraining, "--cache-gb", "3"), "--cache-gb has no effect on local datasets"),
        ((*pretraining, "--tf32", "all"), "--tf32 has no effect on a CPU"),
    ):
        assert what in refused(*arguments)  # (None of them may train: these networks would for hours.)
    assert not (tmp_path / "run" / "run.json").exists()


def test_without_gaze_a_run_with_gaze_is_fine_tuned_without_it(
    dataset: Path, pretrained: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    assert any(".gaze." in name for name in load_file(pretrained / "model.safetensors"))
    tuned = tmp_path / "tuned"
    finetuning = ("--stage", "finetune", "--data", dataset, "--init", pretrained, "--output", tuned)
    run(*finetuning, *STEPS, "--max-steps", "1", "--no-gaze")
    _, network = load_targets(tuned)
    assert network.gaze is None
    assert not any(".gaze." in name for name in load_file(tuned / "model.safetensors"))
    # The run knows how its clips were made, and answers for any video, whose gaze it does not miss.
    predictor = load(tuned)
    assert predictor.making.settings.clip == SETTINGS.clip
    said = predictor.predict(write_film(tmp_path / "film.mp4", 2.0))
    assert said.notes == ()
    assert said.targets["emotion"].joint is not None
    asked = (tmp_path / "film.mp4", "--checkpoint", tuned, "--gaze", "openface")
    assert "does not look at gaze" in refused("--stage", "predict", *asked)
    evaluation = ("--stage", "evaluate", "--data", dataset, "--checkpoint", tuned)
    assert "--evaluation-rounds has no effect on" in refused(*evaluation, "--evaluation-rounds", "2")
    assert "gaze was false and is true" in refused(*finetuning, *STEPS, "--max-steps", "1", "--resume")


def test_a_gaze_tower_that_has_no_gaze_to_learn_from_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    contents = Contents(speakers={"train": 4, "test": 2}, shards={"train": 2, "test": 1})
    for name, share in (("half", 0.5), ("few", 0.95), ("none", 1.0)):
        make_dataset(tmp_path / name, replace(contents, without_gaze=share))

    def told(name: str, stage: str, *more: str) -> str:
        """What training says on standard error, here in this process, before its first step."""
        arguments = ("--stage", stage, "--data", tmp_path / name, *SMALL, "--max-steps", "1", *more)
        output = ("--output", tmp_path / f"{name}-{stage}{''.join(more)}")
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, (*arguments, *output))])
        with pytest.raises(FirstStep):
            train.main()
        return capfd.readouterr().err

    class FirstStep(BaseException):
        pass

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(stages, "fit", Mock(side_effect=FirstStep))
    for stage in ("pretrain", "finetune"):
        assert re.search(r"^warning: .*none: 0 of \d+ clips have gaze: .*--no-gaze", told("none", stage), re.MULTILINE)
    assert re.search(r"^warning: .*few: [1-9]\d* of \d+ clips have gaze", told("few", "pretrain"), re.MULTILINE)
    assert "have gaze" not in told("half", "pretrain")
    assert "have gaze" not in told("none", "pretrain", "--no-gaze")


def test_what_a_run_was_trained_with_is_written_down_and_changed_only_by_who_means_it(
    dataset: Path, pretrained: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(pretrained, folder)
    described = json.loads((folder / "run.json").read_text())
    assert described["settings"]["learning_rate"] == 1e-4
    assert described["settings"]["batch_size"] == 8
    assert {"epochs", "schedule", "mixed_precision", "world_size", "data", "seed"} < described["settings"].keys()
    assert described["execution"]["torch"] == torch.__version__
    again = (
        "--stage",
        "pretrain",
        "--data",
        dataset,
        "--output",
        folder,
        *SMALL,
        "--checkpoint-every",
        "4",
        "--resume",
    )
    assert "learning_rate was 0.0001 and is 0.5, weight_decay was 1e-05 and is 0" in refused(
        *again, "--max-steps", "8", "--learning-rate", "0.5", "--weight-decay", "0"
    )
    assert "--change width" in refused(*again, "--max-steps", "8", "--change", "width")
    assert "sizes.video.width was 4 and is 8" in refused(*again, "--max-steps", "8", "--width", "8")
    assert "8 steps and 1 epochs are behind the run" in refused(*again, "--max-steps", "5")
    assert described["settings"]["negatives"] == {"other_video": 1.0}
    said = refused(*again, "--max-steps", "8", "--negatives", "other_video=1.0", "2:same_speaker")
    assert 'negatives was {"other_video": 1.0} and is {"0": {"other_video": 1.0}, "2": {"same_speaker": 1.0}}' in said
    assert said.endswith("mean it with --change negatives")
    assert json.loads((folder / "run.json").read_text()) == described
    other = tmp_path / "other"
    make_dataset(other, replace(CONTENTS, seed=CONTENTS.seed + 1))
    assert "data was " in refused(*(other if part == dataset else part for part in again), "--max-steps", "8")
    moved = tmp_path / "moved"
    shutil.copytree(dataset, moved)
    changed = ("--learning-rate", "1e-5", "--seed", "3", "--change", "learning-rate", "seed")
    said = run(*(moved if part == dataset else part for part in again), "--max-steps", "10", *changed)
    assert "what was left of epoch 1 is left out, epoch 2 begins" in said
    after = json.loads((folder / "run.json").read_text())
    assert after["settings"] == described["settings"] | {"learning_rate": 1e-5, "seed": 3, "max_steps": 10}
    assert [(change["step"], change["option"]) for change in after["changes"]] == [
        (8, "seed"),
        (8, "learning_rate"),
        (8, "max_steps"),
        (8, "folders"),
    ]


def test_a_change_whose_process_was_killed_before_its_first_checkpoint_is_begun_again(
    dataset: Path, pretrained: Path, tmp_path: Path
) -> None:
    """run.json has it already, the checkpoint is of before."""
    folder = tmp_path / "run"
    shutil.copytree(pretrained, folder)
    changed = ("--batch-size", "4", "--validate-every", "2", "--validation-fraction", "0.3", "--max-steps", "12")
    meant = ("--change", "batch-size", "validate-every", "validation-fraction")
    again = ("--stage", "pretrain", "--data", dataset, "--output", folder, *SMALL, *changed, *meant, "--resume")

    def ended() -> tuple[bytes, list[dict[str, Any]]]:
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        of_time = ("clips_per_second", "data_wait_share")
        lines = [{name: value for name, value in line.items() if name not in of_time} for line in lines]
        return (folder / "model.safetensors").read_bytes(), lines

    assert "epoch 2 begins" in run(*again)
    whole = ended()
    shutil.rmtree(folder / "checkpoints" / "00000012")
    assert checkpoints(folder / "checkpoints")[-1].name == "00000008"
    said = run(*again)
    assert "epoch 2 begins" in said
    assert f"{folder}: weights and scores there stay as they are until it ends, 4 steps on" in said
    assert ended() == whole


def test_of_a_network_that_is_no_longer_finite_no_checkpoint_is_kept(
    dataset: Path, pretrained: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    """Between two lines of the curves, too: there are none here before step 20."""
    folder = tmp_path / "run"
    shutil.copytree(pretrained, folder)
    sizes = [part for part in SMALL if part not in ("--log-every", "2")]
    training = ("--stage", "pretrain", "--data", dataset, "--output", folder, *sizes, "--max-steps", "19")
    hopeless = ("--resume", "--checkpoint-every", "1", "--learning-rate", "1e30", "--change", "learning-rate")
    said = refused(*training, *hopeless)
    kept = checkpoints(folder / "checkpoints")
    assert "not finite" in said
    assert f"the last finite checkpoint is {kept[-1]}: --resume" in said
    for path in kept:
        for file in ("model.safetensors", "optimizer.safetensors"):
            assert all(tensor.isfinite().all() for tensor in load_file(path / file).values())


def test_a_broken_checkpoint_is_said_and_the_one_before_goes_on_to_the_same_end(
    dataset: Path, pretrained: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(pretrained, folder)
    (folder / "model.safetensors").unlink()
    newest = checkpoints(folder / "checkpoints")[-1]
    os.truncate(newest / "optimizer.safetensors", 1000)
    again = ("--stage", "pretrain", "--data", dataset, "--output", folder, *SMALL, "--max-steps", "8")
    process = forked.train((*again, "--checkpoint-every", "4", "--resume"))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    [warning] = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert str(newest) in warning
    assert "optimizer.safetensors is not as it was written" in warning
    before, after = (load_file(path / "model.safetensors") for path in (pretrained, folder))
    assert all(before[name].equal(after[name]) for name in before)
    # What the curves had after the checkpoint that the run went back to is not there twice.
    curves = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [line.step for line in curves.Scalars("train/loss")] == [2, 4, 6, 8]


def test_a_run_in_training_is_left_to_it(dataset: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    with locked(tmp_path):
        training = ("--stage", "pretrain", "--data", dataset, "--output", tmp_path, *SMALL, "--max-steps", "1")
        for resume in ((), ("--resume",)):
            assert f"process {os.getpid()} on" in refused(*training, *resume, status=TRY_AGAIN)


def test_a_run_is_evaluated_in_the_precision_that_was_asked_for(
    dataset: Path, pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[torch.dtype | None] = []
    answered = scores.match_predictions

    def observed(*arguments: Any, **named: Any) -> Any:
        found.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        return answered(*arguments, **named)

    monkeypatch.setattr(scores, "match_predictions", observed)
    try:
        for precision in ("no", "bf16"):
            AcceleratorState._reset_state(True)
            accelerator = Accelerator(cpu=True, mixed_precision=precision)
            evaluate(EvaluateConfig(checkpoint=pretrained, data=DataConfig(data=(str(dataset),))), accelerator)
    finally:
        AcceleratorState._reset_state(True)
    rounds = len(found) // 2
    assert rounds > 0
    assert found == [None] * rounds + [torch.bfloat16] * rounds


def test_what_evaluation_would_write_over_is_refused_before_it_scores(
    dataset: Path, pretrained: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    evaluation = ("--stage", "evaluate", "--checkpoint", pretrained, "--data", dataset)
    (tmp_path / "there").touch()
    for option in ("--json", "--predictions"):
        assert f"{option} {tmp_path / 'there'}: is there already" in refused(*evaluation, option, tmp_path / "there")
        assert "there is no folder" in refused(*evaluation, option, tmp_path / "none" / "file")
    assert (tmp_path / "there").read_bytes() == b""


@needs_libturbojpeg
def test_a_damaged_dataset_ends_training_and_evaluation_in_a_line(
    dataset: Path, pretrained: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    damaged = copy_of(dataset, tmp_path / "damaged")
    for split in ("train", "test"):
        for row in range(3):
            flip_byte(damaged, split, row)
    training = ("--stage", "pretrain", "--data", damaged, "--output", tmp_path / "run", *SMALL, "--max-steps", "20")
    for line in (training, ("--stage", "evaluate", "--checkpoint", pretrained, "--data", damaged)):
        assert re.search(r"\d of \d+ clips of .* are bad, .*: run sharding/verify\.py --repair", refused(*line))


def test_a_step_from_planes_is_all_but_one_from_rgb(dataset: Path) -> None:
    accelerator = Accelerator(cpu=True)
    losses = []
    for pixels in ("rgb", "yuv420"):
        task = correspondence.Correspondence(CorrespondenceNetworkConfig(preset="tiny", width=4, frame_size=32))
        data = TrainingDataConfig(data=(str(dataset),), batch_size=16)
        config = LoaderConfig(pixels=pixels)
        datasets = datasets_of(data, config, None)
        set_seed(0)
        model = task.model(())
        with training_loader(datasets, data, config, accelerator, paired=True) as loader:
            assert loader.stats().decoder == "turbo"
            losses.append(task.step(next(iter(loader)), model.network.train(), model.front_end.train()).loss.item())
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], abs=0.02)


def test_wrong_input_is_refused_in_one_line(
    dataset: Path, pretrained: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    nothing = tmp_path / "nothing"
    process = forked.train(("--stage", "pretrain", "--data", nothing, "--output", tmp_path / "run"))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert str(nothing) in refusal(err)
    assert not (tmp_path / "run").exists()
    assert "--output" in refused("--stage", "pretrain", "--data", dataset)
    pretraining = ("--stage", "pretrain", "--data", dataset)
    assert "--resume" in refused(*pretraining, "--output", pretrained, *SMALL)
    for store in ("s3://bucket/run", "gs://bucket/run"):
        assert f"--output {store}: has to be a local folder" in refused(*pretraining, "--output", store)
    assert not Path("s3:").exists()
    twice = (dataset, f"{dataset}/../{dataset.name}")
    assert "names" in refused("--stage", "pretrain", "--data", *twice, "--output", tmp_path / "run")
    on_gpu = ("--placement", "gpu", "--output", tmp_path / "run")
    assert "placement is 'gpu'" in refused("--stage", "pretrain", "--data", dataset, *on_gpu)
    assert str(nothing) in refused("--stage", "evaluate", "--checkpoint", nothing, "--data", dataset)
    planes = ("--pixels", "yuv420", "--cpu-decoder", "dali", "--output", tmp_path / "run", *SMALL)
    assert "which decodes RGB" in refused("--stage", "pretrain", "--data", dataset, *planes)
    assert "\\x1b" not in ascii(refused("--stage", "evaluate", "--checkpoint", "a\x1b[2Jb", "--data", dataset))
    unlabelled = tmp_path / "unlabelled"
    make_dataset(unlabelled, replace(CONTENTS, unlabelled=1.0))
    finetuning = ("--stage", "finetune", "--data", unlabelled, "--output", tmp_path / "run", *SMALL)
    assert "no clip of the split 'train' has the label 'emotion'" in refused(*finetuning)
    assert not (tmp_path / "run").exists()

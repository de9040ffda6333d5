"""The training program as users start it: real processes, real runs, small networks."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate import Accelerator
from accelerate.utils import set_seed
from safetensors.torch import load_file

import train
from loaders import ClipLoader
from models.runs import load_emotion
from models.scores import score_emotion
from tests.datasets import CONTENTS, make_dataset
from tests.planes import needs_libturbojpeg
from tests.s3_adversary import s3_adversary

ROOT = Path(__file__).parents[1]
SMALL = ("--preset", "tiny", "--width", "4", "--frame-size", "16", "--batch-size", "8", "--log-every", "2")
ONE_PROCESS = ("-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1")
LAUNCHED = (*ONE_PROCESS, "--mixed_precision", "no", "--dynamo_backend", "no", "train.py")
PLAIN = ("train.py",)  # the same run, without the seconds in which a launcher gets ready
# One thread: sums have one order, so that runs can be compared bit by bit.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def start(
    *arguments: object, launcher: tuple[str, ...] = PLAIN, environment: Mapping[str, str] = ENVIRONMENT
) -> "subprocess.Popen[str]":
    command = [sys.executable, *launcher, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(*arguments: object, launcher: tuple[str, ...] = PLAIN, environment: Mapping[str, str] = ENVIRONMENT) -> str:
    process = start(*arguments, launcher=launcher, environment=environment)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line with which the program, called from here, refuses its arguments."""

    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            train.main()
        assert ended.value.code == 2
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
        launcher=LAUNCHED,
    )
    return folder


def test_the_thesis_in_three_commands(dataset: Path, pretrained: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned"
    finetuning = ("--stage", "finetune", "--data", dataset, "--init", pretrained, "--output", tuned)
    run(*finetuning, *SMALL, "--max-steps", "4", "--mixed-precision", "bf16", launcher=LAUNCHED)
    table = run("--stage", "evaluate", "--checkpoint", tuned, "--data", dataset, launcher=LAUNCHED)
    for row in ("pre-training accuracy", "emotion from audio", "emotion from visual", "emotion from joint", "majority"):
        assert row in table
    results = json.loads((tuned / "results.json").read_text())
    assert results["pretraining"] == json.loads((pretrained / "results.json").read_text())["pretraining"]
    counted = sum(map(sum, results["emotion"]["audio"]["confusion"]))
    assert counted == results["emotion"]["utterances"] > 0
    assert list((tuned / "tensorboard").iterdir())
    with ClipLoader(dataset, "test", batch_size=8, negatives=None) as loader:
        again = score_emotion(Accelerator(), *load_emotion(tuned), loader)
    assert f"{100 * again['joint']['micro_f1']:.1f} │" in table


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
    run(*finetuning, *SMALL, "--max-steps", "1", "--learning-rate", "1e-12")
    before, after = (load_file(folder / "model.safetensors") for folder in (pretrained, tuned))
    weights = [name for name in before if name.startswith("network.video.") and name.endswith(".0.weight")]
    assert weights
    assert all((before[name] - after[name]).abs().max() < 1e-9 for name in weights)


@pytest.mark.parametrize("model", ["l3", "ave"])
def test_a_killed_run_resumed_ends_as_one_that_was_not(model: str, dataset: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    steps = ("--model", model, *SMALL, "--max-steps", "10", "--checkpoint-every", "3", "--learning-rate", "1e-3")
    run("--stage", "pretrain", "--data", dataset, "--output", whole, *steps)
    process = start("--stage", "pretrain", "--data", dataset, "--output", killed, *steps)
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


def test_two_processes_train_and_score_every_clip_once(dataset: Path, tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "train.py")
    halves = [value if value != "8" else "4" for value in SMALL]
    folder = tmp_path / "pair"
    run("--stage", "pretrain", "--data", dataset, "--output", folder, *halves, "--max-steps", "3", launcher=launcher)
    results = json.loads((folder / "results.json").read_text())["pretraining"]
    clips = json.loads((dataset / "dataset.json").read_text())["splits"]["test"]["clips"]
    assert results["pairs"] == clips


@needs_libturbojpeg
def test_a_step_from_planes_is_all_but_one_from_rgb(dataset: Path) -> None:
    accelerator = Accelerator(cpu=True)
    losses = []
    for pixels in ("rgb", "yuv420"):
        settings = train.Settings(
            stage="pretrain", data=(str(dataset),), preset="tiny", width=4, frame_size=32, batch_size=16, pixels=pixels
        )
        set_seed(0)
        sizes = train.sizes_of(settings)
        front_end, network = train.front_end_of(sizes, []), train.correspondence_net(sizes, "l3")
        with train._loader(settings, accelerator, "train", training=True, paired=True) as loader:
            assert loader.stats().decoder == "turbo"
            losses.append(train.pretrain_step(next(iter(loader)), network.train(), front_end.train()).loss.item())
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], abs=0.02)


def test_wrong_input_is_refused_in_one_line(
    dataset: Path, pretrained: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    nothing = tmp_path / "nothing"
    process = start("--stage", "pretrain", "--data", nothing, "--output", tmp_path / "run")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert str(nothing) in refusal(err)
    assert not (tmp_path / "run").exists()
    assert "--output" in refused("--stage", "pretrain", "--data", dataset)
    assert "--resume" in refused("--stage", "pretrain", "--data", dataset, "--output", pretrained, *SMALL)
    on_gpu = ("--placement", "gpu", "--output", tmp_path / "run")
    assert "placement is 'gpu'" in refused("--stage", "pretrain", "--data", dataset, *on_gpu)
    assert str(nothing) in refused("--stage", "evaluate", "--checkpoint", nothing, "--data", dataset)
    planes = ("--pixels", "yuv420", "--window", "3", "--output", tmp_path / "run", *SMALL)
    assert "whole clips" in refused("--stage", "pretrain", "--data", dataset, *planes)
    unlabelled = tmp_path / "unlabelled"
    make_dataset(unlabelled, replace(CONTENTS, unlabelled=1.0))
    finetuning = ("--stage", "finetune", "--data", unlabelled, "--output", tmp_path / "run", *SMALL)
    assert "no clip of the split 'train' has a label" in refused(*finetuning)
    assert not (tmp_path / "run").exists()

"""All three networks train on a GPU in bfloat16, without waiting in the step, and runs there resume."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import nn

import train
from loaders import Batch, ClipLoader
from loaders.decode import dali
from models.frontend.augmentation import Augmentation
from models.frontend.front_end import FrontEnd, FrontEndConfig
from models.objectives.correspondence import correspondence_loss
from models.objectives.targets import target_loss
from models.systems.presets import FULL, correspondence_net, target_net
from models.systems.targets import TargetNet
from models.training.curves import decoded_by
from models.training.execution import adam, place, set_tf32
from tests.datasets import LABELS

ROOT = Path(__file__).parents[2]
CARD = torch.device("cuda", 0)
STEPS = ("--batch-size", "8", "--log-every", "2")
SMALL = ("--preset", "tiny", "--width", "8", "--frame-size", "32", *STEPS)
BF16 = ("--mixed-precision", "bf16")
BF16_LAUNCH = ("--mixed_precision", "bf16", "--dynamo_backend", "no")
COMPILING = 60  # seconds
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "l3": lambda: correspondence_net(FULL, "l3"),
    "ave": lambda: correspondence_net(FULL, "ave"),
    "targets": lambda: target_net(FULL, LABELS),
}


def started(*arguments: object, launcher: tuple[str, ...] = (), limit: float = 120) -> str:
    """What a program says in a process of its own, which ends by itself or with all that it has started."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    command = [sys.executable, *launcher, "train.py", *map(str, arguments)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        pytest.fail(f"not done after {limit:g} s: {' '.join(command)}")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, err
    return out


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    """The program called from here, which saves the ten seconds of a start; returns what it says."""
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        monkeypatch.delenv(name)

    def call(*arguments: object) -> str:
        # What a new process would begin with.
        AcceleratorState._reset_state(reset_partial_state=True)
        set_tf32("convolutions")
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        train.main()
        return capsys.readouterr().out

    yield call
    AcceleratorState._reset_state(reset_partial_state=True)
    set_tf32("convolutions")


# -- the step


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_in_bfloat16_learns_and_waits_for_nothing(name: str, full_size: Path) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]().train()
    place(network, CARD)
    assert all(p.is_contiguous(memory_format=torch.channels_last_3d) for p in network.parameters() if p.ndim == 5)
    optimizer = adam(network, learning_rate=1e-4, weight_decay=1e-5)
    assert optimizer.param_groups[0]["fused"] is True
    front_end = FrontEnd(FrontEndConfig(augmentation=Augmentation(gaze_dropout=0.3))).to(CARD).train()

    def loss_of(batch: Batch) -> torch.Tensor:
        inputs = front_end(batch.video, batch.audio, batch.gaze, batch.gaze_valid, batch.seed)
        with torch.autocast("cuda", torch.bfloat16):
            output = network(inputs.video, inputs.audio, inputs.gaze)
            if isinstance(network, TargetNet):
                return target_loss(output, batch.targets).total
            return correspondence_loss(output, batch.match)

    def step(batch: Batch) -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    negatives = None if name == "targets" else {"other_video": 1.0}
    asked = [label.name for label in LABELS] if name == "targets" else []
    with ClipLoader(
        full_size, batch_size=8, device=CARD, placement="gpu", negatives=negatives, targets=asked
    ) as loader:
        batches = list(islice(loader, 4))
        losses = [step(batch) for batch in batches]
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(6):
                losses += [step(batch) for batch in batches]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    values = torch.stack(losses).cpu()
    assert values.isfinite().all()
    assert values[-4:].mean() < values[:4].mean()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_answers_on_the_gpu_as_on_the_cpu(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    inputs = torch.randn(2, 3, 16, 64, 64), torch.randn(2, 1, 128, 51), torch.randn(2, 103)

    def answer(device: torch.device) -> torch.Tensor:
        with torch.no_grad():
            output = network(*(tensor.to(device) for tensor in inputs))
        logits: torch.Tensor = output if isinstance(output, torch.Tensor) else output.from_joint["emotion"]
        return logits.cpu()

    expected = answer(torch.device("cpu"))
    place(network, CARD)
    assert torch.allclose(answer(CARD), expected, atol=2e-2, rtol=2e-2)  # convolutions are rounded to TF32


# -- the program

of_one_run = pytest.mark.xdist_group("launched")  # to one process: the run that these start from is made once


@pytest.fixture(scope="module")
def launched(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a pre-training run that accelerate launched, and what it said."""
    folder = tmp_path_factory.mktemp("runs") / "l3"
    launcher = ("-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1", *BF16_LAUNCH)
    arguments = ("--stage", "pretrain", "--data", dataset, "--output", folder, *SMALL, "--placement", "gpu")
    said = started(*arguments, "--max-steps", 6, "--checkpoint-every", 3, launcher=launcher)
    return folder, said


def assert_trained(folder: Path, pairs: int = 38) -> None:
    """A finished run: it has scored every clip of the test split, and its weights are numbers."""
    results = json.loads((folder / "results.json").read_text())["pretraining"]
    assert results["pairs"] == pairs
    weights = load_file(folder / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values() if tensor.is_floating_point())


@of_one_run
def test_pre_training_is_launched_in_bfloat16(launched: tuple[Path, str]) -> None:
    folder, said = launched
    assert decoded_by("gpu") in said
    assert_trained(folder)


@pytest.mark.parametrize(
    ("placement", "extra"), [("cpu", ("--model", "ave", "--tf32", "all")), ("gpu", ("--hw-decoder-load", "0"))]
)
def test_pre_training_with_what_can_be_chosen(
    placement: str, extra: tuple[str, ...], dataset: Path, tmp_path: Path, run: Callable[..., str]
) -> None:
    arguments = ("--stage", "pretrain", "--data", dataset, "--output", tmp_path / "run", *SMALL, *BF16)
    assert decoded_by(placement) in run(*arguments, "--max-steps", 6, "--placement", placement, *extra)
    assert_trained(tmp_path / "run")


def test_pre_training_in_float32_without_dali(
    dataset: Path, tmp_path: Path, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Towers of full width: what their kernels want of a GPU grows with it, and with the values' size."""
    monkeypatch.setattr(dali, "is_installed", lambda: False)
    wide = ("--preset", "tiny", "--width", 64, "--frame-size", 32, *STEPS)
    said = run("--stage", "pretrain", "--data", dataset, "--output", tmp_path / "run", *wide, "--max-steps", 4)
    assert decoded_by("turbo") in said
    assert_trained(tmp_path / "run")


@of_one_run
def test_fine_tuning_in_bfloat16_and_evaluation(
    dataset: Path, launched: tuple[Path, str], tmp_path: Path, run: Callable[..., str]
) -> None:
    finetuning = ("--stage", "finetune", "--data", dataset, "--init", launched[0], "--output", tmp_path / "emotion")
    run(*finetuning, *STEPS, *BF16, "--max-steps", 6)
    table = run("--stage", "evaluate", "--checkpoint", tmp_path / "emotion", "--data", dataset)
    for row in ("pre-training accuracy", "emotion from audio", "emotion from visual", "emotion from joint"):
        assert row in table


@of_one_run
def test_a_run_on_the_gpu_is_gone_on_with_there_and_on_the_cpu(
    dataset: Path,
    launched: tuple[Path, str],
    tmp_path: Path,
    run: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(launched[0], folder)
    steps = ("--stage", "pretrain", "--data", dataset, "--output", folder, *SMALL, "--checkpoint-every", 3, "--resume")
    said = run(*steps, *BF16, "--max-steps", 9)
    assert "00000006" in said
    assert decoded_by("gpu") in said  # as before, though nobody says so
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    said = run(*steps, "--max-steps", 12, "--change", "mixed-precision")
    assert "00000009" in said
    assert decoded_by("turbo") in said
    assert (folder / "checkpoints" / "00000012").is_dir()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are fewer than two GPUs")
def test_two_ranks_train_on_a_gpu_each(dataset: Path, tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    arguments = ("--stage", "pretrain", "--data", dataset, "--output", tmp_path / "run", *SMALL, *BF16)
    started(*arguments, "--batch-size", 4, "--max-steps", 6, launcher=launcher)
    assert_trained(tmp_path / "run")


def test_compiled_pre_training(dataset: Path, tmp_path: Path) -> None:
    """The last one, and limited: how long torch compiles is its own affair."""
    arguments = ("--stage", "pretrain", "--data", dataset, "--output", tmp_path / "run", *SMALL, *BF16)
    started(*arguments, "--max-steps", 4, "--compile", limit=COMPILING)
    assert_trained(tmp_path / "run")

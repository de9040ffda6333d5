"""All three networks train on a GPU in bfloat16, without waiting in the step, and runs there resume."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from loaders import Batch, ClipLoader
from models.augmentation import Augmentation
from models.emotion import EmotionNet
from models.execution import adam, place
from models.frontend import FrontEnd, FrontEndConfig
from models.losses import correspondence_loss, emotion_loss
from models.presets import FULL, correspondence_net, emotion_net

ROOT = Path(__file__).parents[2]
CARD = torch.device("cuda", 0)
STEPS = ("--batch-size", "8", "--log-every", "2")
SMALL = ("--preset", "tiny", "--width", "8", "--frame-size", "32", *STEPS)
BF16 = ("--mixed-precision", "bf16")
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "l3": lambda: correspondence_net(FULL, "l3"),
    "ave": lambda: correspondence_net(FULL, "ave"),
    "emotion": lambda: emotion_net(FULL),
}


def run(*arguments: object) -> str:
    command = [sys.executable, "train.py", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "ACCELERATE_USE_CPU"}
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


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
            if isinstance(network, EmotionNet):
                return emotion_loss(output, batch.emotion).total
            return correspondence_loss(output, batch.match)

    def step(batch: Batch) -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    negatives = None if name == "emotion" else {"other_video": 1.0}
    with ClipLoader(full_size, batch_size=8, device=CARD, placement="gpu", negatives=negatives) as loader:
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
        logits: torch.Tensor = output if isinstance(output, torch.Tensor) else output.logits_joint
        return logits.cpu()

    expected = answer(torch.device("cpu"))
    place(network, CARD)
    assert torch.allclose(answer(CARD), expected, atol=2e-2, rtol=2e-2)  # convolutions are rounded to TF32


# -- the program


@pytest.mark.parametrize("model", ["l3", "ave"])
@pytest.mark.parametrize("extra", [("--placement", "gpu"), ("--placement", "cpu", "--tf32", "all"), ("--compile",)])
def test_pre_training_in_bfloat16(model: str, extra: tuple[str, ...], dataset: Path, tmp_path: Path) -> None:
    said = run(
        *("--stage", "pretrain", "--model", model, "--data", dataset, "--output", tmp_path / "run", *SMALL, *BF16),
        *("--max-steps", 10, *extra),
    )
    assert "filmstrips were decoded on the" in said
    results = json.loads((tmp_path / "run" / "results.json").read_text())["pretraining"]
    assert results["pairs"] == 38
    weights = load_file(tmp_path / "run" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values() if tensor.is_floating_point())


def test_fine_tuning_in_bfloat16_and_evaluation(dataset: Path, tmp_path: Path) -> None:
    run("--stage", "pretrain", "--data", dataset, "--output", tmp_path / "l3", *SMALL, *BF16, "--max-steps", 4)
    finetuning = ("--stage", "finetune", "--data", dataset, "--init", tmp_path / "l3", "--output", tmp_path / "emotion")
    run(*finetuning, *STEPS, *BF16, "--max-steps", 6)
    table = run("--stage", "evaluate", "--checkpoint", tmp_path / "emotion", "--data", dataset)
    for row in ("pre-training accuracy", "emotion from audio", "emotion from visual", "emotion from joint"):
        assert row in table


def test_a_run_on_the_gpu_is_gone_on_with_there_and_on_the_cpu(dataset: Path, tmp_path: Path) -> None:
    steps = ("--stage", "pretrain", "--data", dataset, "--output", tmp_path / "run", *SMALL, "--checkpoint-every", 3)
    run(*steps, *BF16, "--max-steps", 6)
    assert "00000006" in run(*steps, *BF16, "--max-steps", 9, "--resume")
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
    command = [
        sys.executable,
        "train.py",
        *map(str, (*steps, "--max-steps", 12, "--resume", "--change", "mixed-precision")),
    ]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=500)
    assert (tmp_path / "run" / "checkpoints" / "00000012").is_dir()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are fewer than two GPUs")
def test_two_ranks_train_on_a_gpu_each(dataset: Path, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "train.py"]
    arguments = ("--stage", "pretrain", "--data", dataset, "--output", tmp_path / "run", *SMALL, *BF16)
    command = [*launcher, *map(str, (*arguments, "--batch-size", 4, "--max-steps", 6))]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=500)
    assert json.loads((tmp_path / "run" / "results.json").read_text())["pretraining"]["pairs"] == 38

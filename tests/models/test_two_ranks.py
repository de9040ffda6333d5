"""Of two processes, the losses, their gradients and batch norms' statistics are those of one with the whole batch."""

from __future__ import annotations

from pathlib import Path

from tests import forked

RANK = """
import copy, sys
from math import nan
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from loaders.dataset.labels import Label
from models.objectives.global_batch import gather_rows
from models.objectives.margin_softmax import MarginSoftmaxConfig
from models.objectives.targets import TargetLossConfig, of_all_ranks, target_loss
from models.systems.correspondence import AVEConfig, AVENet, Encoder, L3Net
from models.systems.targets import TargetNet
from models.towers.synced_norm import synchronise
from models.towers.tower import Tower

class Small(Tower):
    embedding_dim = 6
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 6))
    def forward(self, x):
        return self.layers(x)

torch.set_num_threads(1)
rank = int(sys.argv[2])
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=rank, world_size=2)
torch.manual_seed(0)
labels = (Label(name="mood", classes=("a", "b", "c")), Label(name="valence", low=-1.0, high=1.0))
plain = TargetNet(Small(), Small(), targets=labels)
video, audio = torch.randn(2, 10, 4) * 2 + 3
# The first rank has one row with a class and two with a number, the second four of each.
stated = {
    "mood": torch.tensor([-1, 0, -1, -1, -1, 0, 1, 2, 1, -1]),
    "valence": torch.tensor([nan, 0.5, nan, -1.0, nan, 0.25, nan, 1.0, 0.0, -0.5]),
}
own = slice(5 * rank, 5 * rank + 5)
for config in (
    TargetLossConfig(margin=None, reduction="sum", normalise=False),
    TargetLossConfig(margin=0.5, reduction="mean", normalise=True, same_instance=True, number="mse"),
):
    whole, shared = copy.deepcopy(plain), copy.deepcopy(plain)
    expected = target_loss(whole(video, audio), stated, config)
    expected.total.backward()
    synchronise(shared, torch.device("cpu"))
    parallel = DistributedDataParallel(shared)
    output = parallel(video[own], audio[own])
    got = target_loss(*of_all_ranks(output, {name: values[own] for name, values in stated.items()}), config)
    got.total.backward()
    torch.testing.assert_close(got.total, expected.total)
    for part in ("audio", "visual", "joint"):
        torch.testing.assert_close(dict(getattr(got, part)), dict(getattr(expected, part)))
    for (name, one), other in zip(shared.named_parameters(), whole.parameters(), strict=True):
        assert one.grad is not None and (one.grad != 0).any() or "layers.0.bias" in name, name
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(dict(shared.state_dict()), dict(whole.state_dict()))
stream = torch.randn(2, 10, 4)
video_of = torch.tensor([0, 1, 2, 3, 4, 0, 1, 5, 5, 6])  # of some, a rank has one clip, and the other another
for build in (L3Net, lambda *towers: AVENet(*towers, config=AVEConfig(embedding=8))):
    plain = build(Small(), Small())
    whole, shared = copy.deepcopy(plain), copy.deepcopy(plain)
    for network in (whole, shared):
        network.objective = MarginSoftmaxConfig(temperature=0.5, softmax_margin=0.1).objective(1.0)
    scores = whole.scores(*whole.encode(*stream))
    expected = whole.objective(scores, video_of[:, None] != video_of[None])
    expected.backward()
    synchronise(shared, torch.device("cpu"))
    parallel = DistributedDataParallel(Encoder(shared))
    seen, heard, group = gather_rows([*parallel(*stream[:, own]), video_of[own]])
    got = shared.objective(shared.scores(seen, heard), group[:, None] != group[None])
    got.backward()
    torch.testing.assert_close(got, expected)
    for (name, one), other in zip(shared.named_parameters(), whole.parameters(), strict=True):
        assert one.grad is not None, name
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=2e-6)
    assert shared.objective.log_temperature.grad != 0 and shared.video.layers[0].weight.grad.abs().sum() > 0
codes, half = torch.tensor([2**40 + rank]), torch.tensor([rank + 0.5]).bfloat16()
codes, half, wide = gather_rows([codes, half, torch.ones(1, 2, 3)])
assert codes.tolist() == [2**40, 2**40 + 1] and half.tolist() == [0.5, 1.5] and wide.shape == (2, 2, 3)
dist.destroy_process_group()
print("equal")
"""


def test_losses_gradients_and_statistics_are_those_of_one_process(tmp_path: Path) -> None:
    for out, _ in forked.of_two_ranks(RANK, tmp_path / "meet"):
        assert out.strip().endswith("equal")

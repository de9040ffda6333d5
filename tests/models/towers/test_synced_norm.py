"""The batch norm over all ranks is torch's own where there is one rank. (Over two: tests/models/test_two_ranks.py.)"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from models.towers.synced_norm import SyncedBatchNorm, synchronise


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def network(momentum: float | None) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Conv3d(2, 4, 1), nn.BatchNorm3d(4, momentum=momentum)),
        nn.MaxPool3d((2, 1, 1)),
        nn.Flatten(1, 2),
        nn.BatchNorm2d(4, affine=False),
        nn.Flatten(),
        nn.BatchNorm1d(4 * 9, eps=1e-3, momentum=momentum),
    )


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.usefixtures("alone")
def test_of_one_rank_it_is_torchs_own(momentum: float | None) -> None:
    plain = network(momentum)
    synced = copy.deepcopy(plain)
    weights = list(synced.parameters())
    synchronise(synced, torch.device("cpu"))
    assert sum(isinstance(each, SyncedBatchNorm) for each in synced.modules()) == 3
    assert all(one is other for one, other in zip(weights, synced.parameters(), strict=True))
    x = torch.randn(5, 2, 2, 3, 3) * 3 + 50
    for training in (True, True, False):
        outputs = [each.train(training)(x) for each in (plain, synced)]
        torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-4)
        target = torch.randn_like(outputs[0])
        gradients = [torch.autograd.grad((each * target).sum(), list(net.parameters())) for each, net in
                     zip(outputs, (plain, synced), strict=True)]  # fmt: skip
        for got, expected in zip(gradients[1], gradients[0], strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)
    after, expected_after = synced.state_dict(), plain.state_dict()
    assert list(after) == list(expected_after)
    for name, value in expected_after.items():
        torch.testing.assert_close(after[name], value)


def test_on_a_gpu_it_is_torchs_own_with_the_same_weights() -> None:
    net = network(0.1)
    before = list(net.named_parameters())
    synchronise(net, torch.device("cuda"))
    assert sum(isinstance(each, nn.SyncBatchNorm) for each in net.modules()) == 3
    after = list(net.named_parameters())
    assert [name for name, _ in after] == [name for name, _ in before]
    assert all(one is other for (_, one), (_, other) in zip(before, after, strict=True))


@pytest.mark.usefixtures("alone")
def test_statistics_are_float32_whatever_the_map() -> None:
    norm = SyncedBatchNorm(nn.BatchNorm2d(2))
    x = (torch.randn(64, 2, 8, 8) + 200).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(x)
    assert y.dtype == torch.bfloat16
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, 0.1 * x.float().mean((0, 2, 3)))
    assert float(y.detach().float().std()) == pytest.approx(1, abs=0.02)


@pytest.mark.usefixtures("alone")
def test_one_value_a_channel_has_no_variance() -> None:
    with pytest.raises(ValueError, match="more than one value"):
        SyncedBatchNorm(nn.BatchNorm1d(3))(torch.zeros(1, 3))

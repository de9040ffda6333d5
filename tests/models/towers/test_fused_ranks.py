"""A step of two ranks by fused kernels is one of a single process with the whole batch, by torch's own operations."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.towers import fused_norm
from tests import forked

pytestmark = pytest.mark.skipif(fused_norm.MISSING is not None, reason=str(fused_norm.MISSING))

RANK = """
import copy, sys
import torch
import torch.distributed as dist
from torch import nn
from models.towers.audio import AudioTower
from models.towers.convolutional import ConvTower, ConvTowerConfig
from models.towers.synced_norm import synchronise
from models.towers.video import VideoTower

torch.set_num_threads(1)
torch.backends.cudnn.allow_tf32 = False
device = "cuda" if torch.cuda.is_available() else "cpu"  # one for both: gloo adds up what lies on a GPU, too
rank = int(sys.argv[2])
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=rank, world_size=2)
own = (slice(0, 3), slice(3, 5))[rank]  # not as many on either, which shares of a last batch may be
for kind, shape in ((VideoTower, (5, 3, 4, 7, 6)), (AudioTower, (5, 1, 6, 9))):
    torch.manual_seed(0)
    whole = kind(ConvTowerConfig(width=2)).to(device)
    for norm in whole.modules():  # as after some steps
        if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
            norm.running_mean.normal_(std=0.1)
    whole.fuse = False
    shared = copy.deepcopy(whole)
    shared.fuse = True
    synchronise(shared, torch.device("cuda"))
    assert sum(isinstance(each, nn.SyncBatchNorm) for each in shared.modules()) == 8
    x = torch.randn(shape, device=device) * 2 + 1
    towards = torch.randn(5, whole.embedding_dim, device=device)
    expected = whole(x)
    (expected * towards).sum().backward()
    shared._on_gpu = lambda x: True
    found = shared(x[own])
    (found * towards[own]).sum().backward()
    for parameter in shared.parameters():  # DistributedDataParallel takes such norms on GPUs alone
        dist.all_reduce(parameter.grad)
    torch.testing.assert_close(found, expected[own], rtol=1e-4, atol=1e-5)
    largest = max(float(parameter.grad.norm()) for parameter in whole.parameters())
    for (name, one), other in zip(shared.named_parameters(), whole.parameters(), strict=True):
        # Some are differences of nearly all that comes, and hold but rounding.
        assert (one.grad - other.grad).norm() <= 1e-3 * other.grad.norm() + 1e-5 * largest, name
    torch.testing.assert_close(dict(shared.state_dict()), dict(whole.state_dict()), rtol=1e-4, atol=1e-5)
dist.destroy_process_group()
print("equal")
"""


def test_a_step_of_two_ranks_is_one_with_the_whole_batch(tmp_path: Path) -> None:
    for out, err in forked.of_two_ranks(RANK, tmp_path / "meet", patience=240):
        assert "one after the other" not in err
        assert out.strip().endswith("equal")

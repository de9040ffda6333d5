"""Where one rank cannot run the towers' own kernels, no rank does: they would add up other sums than its."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import forked

RANK = """
import logging, sys
import torch
import torch.distributed as dist
from models.systems.presets import TINY, correspondence_net
from models.towers import fused_norm
from models.training.execution import agree_on_kernels, towers

logging.basicConfig(format="%(message)s")
rank, lacking = int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=rank, world_size=2)
fused_norm.unavailable = lambda device: "there is no compiler" if str(rank) == lacking else None
network = correspondence_net(TINY, "l3")
agree_on_kernels(network, torch.device("cuda"))
print([tower.fuse for tower in towers(network) if hasattr(tower, "fuse")])
dist.destroy_process_group()
"""


@pytest.mark.parametrize("lacking", ["nobody", "1"])
def test_kernels_run_on_all_ranks_or_on_none(lacking: str, tmp_path: Path) -> None:
    for out, err in forked.of_two_ranks(RANK, tmp_path / "meet", lacking):
        assert out.strip().endswith("[True, True]" if lacking == "nobody" else "[False, False]")
        assert ("of rank 1: there is no compiler" in err) == (lacking == "1")

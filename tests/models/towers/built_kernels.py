"""What the kernels that a tower starts in a step need of a GPU, built for one that is not there.

    python -m tests.models.towers.built_kernels TYPE CAPABILITY

A program, for Triton decides when it is imported whether its functions are interpreted, as they are in tests. Prints
bytes of shared memory by kernel, as JSON; TYPE is the step's, as torch calls it, and CAPABILITY the GPU's, such as 90.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.distributed as dist
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime import JITFunction

from models.towers import fused_norm, stem
from models.towers.convolutional import ConvTower
from models.towers.synced_norm import synchronise
from models.towers.video import VideoTowerConfig

_POINTERS = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.uint8: "*u8"}


def shared_memory(dtype: torch.dtype, capability: int) -> dict[str, int]:
    """Bytes of it, by kernel. From here on kernels are built in this process where they would be started."""
    needed: dict[str, int] = {}

    def build(kernel: Any, *values: Any, **options: Any) -> None:
        signature, constants = {}, {}
        for parameter, value in zip(kernel.params, values, strict=True):
            if parameter.is_constexpr:
                signature[parameter.name], constants[parameter.name] = "constexpr", value
            elif isinstance(value, Tensor):
                signature[parameter.name] = _POINTERS[value.dtype]
            else:
                signature[parameter.name] = "fp32" if isinstance(value, float) else "i32"
        target = GPUTarget("cuda", capability, 32)
        built = triton.compile(ASTSource(kernel, signature, constants), target=target, options=options)
        name = " ".join([kernel.__name__, *(name for name, value in constants.items() if value is True)])
        needed[name] = max(needed.get(name, 0), built.metadata.shared)

    def started(kernel: Any, grid: tuple[int, ...]) -> Callable[..., None]:
        return lambda *values, **options: build(kernel, *values, **options)

    JITFunction.__getitem__ = started  # type: ignore[method-assign]
    fused_norm._why_not = lambda device: None  # type: ignore[assignment]
    ConvTower._on_gpu = staticmethod(lambda x: True)  # type: ignore[method-assign]
    tower = VideoTowerConfig(width=64).tower().train()
    half = dtype != torch.float32
    frames = torch.zeros(2, 3, 4, 33, 32, dtype=torch.float16 if half else torch.float32)
    with torch.autocast("cpu", dtype, enabled=half):
        tower(frames).float().sum().backward()
        # As one of two ranks, which only norms of these kinds and the joining of sums know.
        synchronise(tower, torch.device("cuda"))
        fused_norm.ranks_of = stem.ranks_of = lambda norm: cast(dist.ProcessGroup, norm)
        dist.get_world_size, dist.all_reduce = lambda group: 2, lambda sums, group: None
        tower(frames).float().sum().backward()
    return needed


if __name__ == "__main__":
    print(json.dumps(shared_memory(getattr(torch, sys.argv[1]), int(sys.argv[2]))))

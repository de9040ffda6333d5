"""No kernel of a step wants more of a multiprocessor than it has: seen without a GPU, by building them for one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.towers import fused_norm

pytestmark = pytest.mark.skipif(fused_norm.MISSING is not None, reason=str(fused_norm.MISSING))

#: Capability → kB of shared memory that a block can have (CUDA C++ Programming Guide, technical specifications).
SHARED = {75: 64, 80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}


@pytest.mark.parametrize("capability", SHARED)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_kernels_fit_into_shared_memory(dtype: str, capability: int, full: bool, tmp_path: Path) -> None:
    """In float32 the first layer's gradient once wanted 262 kB, so that training without mixed precision failed."""
    if not full and (dtype, capability) != ("float32", 86):
        pytest.skip("built with --full: ten seconds each")
    command = [sys.executable, "-m", "tests.models.towers.built_kernels", dtype, str(capability)]
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    needed = json.loads(ended.stdout)
    wanted = {"convolve", "kernel_gradient", "pool", "pool_gradient", "affine_gradient"}
    assert wanted | {"join_statistics", "join_statistics SYNCED"} <= needed.keys()
    assert {kernel: size for kernel, size in needed.items() if size > 1024 * SHARED[capability]} == {}

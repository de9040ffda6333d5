"""Where a step's time goes: what torch's profiler saw, by kind and one by one."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

#: Kind → what the names of its kernels (on a CPU: of torch's operators) have in them; the first that fits counts.
KINDS: tuple[tuple[str, str], ...] = (
    ("batch norm, ReLU and pooling in one", r"^(partial|join)_(statistics|gradients)$|^affine_|^pool(_gradient)?$"),
    ("first convolution", r"^convolve$|^kernel_gradient$"),
    ("convolutions backwards", r"dgrad|wgrad|convolution_backward|conv.*backward|bwd"),
    ("batch norm", r"batch_?norm|bn_(fw|bw)|batchnorm|welford"),
    ("convolutions forwards", r"fprop|conv|implicit_gemm"),
    ("optimiser", r"adam|multi_tensor|foreach"),
    ("matrix products", r"gemm|gemv|cutlass|matmul|addmm|::mm|bmm|cublas|nvjet"),
    ("pooling", r"pool"),
    ("copies and casts", r"copy|memcpy|memset|transpose|nchwtonhwc|nhwctonchw|_to_copy|\bcat|fill"),
    ("Fourier transforms", r"fft|stft"),
    ("compiled", r"^triton"),
    ("reductions", r"reduce|softmax|::sum|::mean"),
    ("elementwise", r"elementwise|::add|::mul|::div|::sub|relu|clamp|threshold"),
)
OTHER = "other"
_LONGEST_NAME = 110  # characters


@dataclass(frozen=True, slots=True)
class Kernel:
    """All calls of one kernel."""

    name: str
    calls: float  #: a step
    ms: float  #: a step, of all calls


def kind_of(name: str) -> str:
    """Which of `KINDS` a kernel is."""
    return next((kind for kind, pattern in KINDS if re.search(pattern, name, re.IGNORECASE)), OTHER)


def by_kind(kernels: Sequence[Kernel]) -> dict[str, float]:
    """Milliseconds a step of each kind that there is, the largest first."""
    found: dict[str, float] = {}
    for kernel in kernels:
        kind = kind_of(kernel.name)
        found[kind] = found.get(kind, 0.0) + kernel.ms
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def profiled(run: Callable[[], object], steps: int, device: torch.device) -> list[Kernel]:
    """The kernels of so many steps of a GPU, or torch's operators on a CPU, the longest first.

    Args:
        run: takes the steps, and waits until they are done. What is compiled or tuned at first is so already.
    """
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as seen:
        run()
    found = []
    for event in seen.key_averages():
        # An operator's kernels stand beside it under their own names; so do the spans in which an optimiser works.
        if on_gpu and (event.device_type.name != "CUDA" or getattr(event, "is_user_annotation", False)):
            continue
        microseconds = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if microseconds > 0:
            found.append(Kernel(event.key, event.count / steps, microseconds / 1000 / steps))
    return sorted(found, key=lambda kernel: -kernel.ms)


def facts(kernels: Sequence[Kernel], most: int = 12) -> Mapping[str, Any]:
    """What a record says of them: milliseconds a step by kind, and the longest one by one."""
    return {
        "ms a step by kind": {kind: round(ms, 2) for kind, ms in by_kind(kernels).items()},
        "longest, ms a step": [
            {"kernel": k.name[:_LONGEST_NAME], "calls": round(k.calls, 1), "ms": round(k.ms, 2)} for k in kernels[:most]
        ],
    }

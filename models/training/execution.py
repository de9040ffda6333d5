"""How a network is run on a device: the layout of its weights, its optimiser, compilation, and TF32.

None of this changes what is computed, but for rounding. On a CPU nothing is done that was not asked for.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from loaders.errors import InputError, first_line
from models.frontend.front_end import FrontEnd
from models.towers import fused_norm
from models.towers.tower import Tower

_log = logging.getLogger(__name__)

#: Which float32 products a GPU may round to TF32, with 10 bits of mantissa instead of 23.
Tf32 = Literal["none", "convolutions", "all"]


def set_tf32(which: Tf32) -> None:
    """Allow TF32, for the whole process and for GPUs alone; "convolutions" is what torch starts with.

    Matrix products include those of the front end. (torch's older switches: since 2.9 there are others, but as of 2.13
    its compiler still reads these, and refuses a mixture.)
    """
    torch.backends.cudnn.allow_tf32 = which != "none"
    torch.backends.cuda.matmul.allow_tf32 = which == "all"


def place(network: nn.Module, device: torch.device) -> None:
    """Move a network to where it is trained. On a GPU its towers' weights take the layout of their input."""
    network.to(device)
    if device.type == "cuda":
        lay_out(network)


def place_front_end(front_end: FrontEnd, device: torch.device, *, half: bool) -> None:
    """Move a front end to where it is trained.

    Args:
        front_end: to move.
        device: of its network.
        half: whether the network computes in half precision. On a GPU frames then are float16, resampled on tensor
            cores: otherwise the network's own casts would follow.
    """
    front_end.to(device)
    front_end.frame_dtype = torch.float16 if half and device.type == "cuda" else torch.float32


def lay_out(network: nn.Module) -> None:
    """Give the weights of all towers the layout that they ask for, see `Tower.memory_format`.

    Otherwise cuDNN brings the weights into that layout, and their gradients out of it, in every step.
    """
    for tower in towers(network):
        if tower.memory_format is not None:
            tower.to(memory_format=tower.memory_format)  # type: ignore[call-overload]


def towers(network: nn.Module) -> Iterator[Tower]:
    """The towers of a network; of one inside another, the outer one alone."""
    if isinstance(network, Tower):
        yield network
        return
    for child in network.children():
        yield from towers(child)


_OUTLIVING: list[Any] = []  # process groups


def keep_process_group() -> None:
    """Have the ranks' process group outlive the network that is trained over it, until this process ends.

    Data-parallel training of torch owns its group, too, and where it is the last one to let go of it, it waits for
    gloo's threads without releasing the interpreter's lock, for which one of them may be waiting: a training that was
    told to stop now and then stood still instead of ending. Of what Python itself holds torch lets go without the lock.
    """
    if dist.is_available() and dist.is_initialized():
        _OUTLIVING.append(dist.group.WORLD)


#: Of a group of Adam's parameters: its learning rate, as a multiple of the schedule's.
RATE_FACTOR = "rate_factor"


def adam(
    network: nn.Module, *, learning_rate: float, weight_decay: float, tower_learning_rate: float | None = None
) -> torch.optim.Adam:
    """Adam over a network that is where it will stay; on a GPU all parameters in one kernel.

    With a learning rate of their own, the towers' parameters are a group of their own. `set_learning_rate` sets both.
    """
    on_gpu = all(parameter.is_cuda for parameter in network.parameters())
    groups: list[dict[str, Any]] = [{"params": list(network.parameters())}]
    if tower_learning_rate is not None:
        of_towers = {id(parameter) for tower in towers(network) for parameter in tower.parameters()}
        sides: list[list[nn.Parameter]] = [[], []]
        for parameter in network.parameters():
            sides[id(parameter) in of_towers].append(parameter)
        factors = 1.0, tower_learning_rate / learning_rate
        groups = [
            {"params": side, "lr": factor * learning_rate, RATE_FACTOR: factor}
            for side, factor in zip(sides, factors, strict=True)
            if side
        ]
    return torch.optim.Adam(groups, lr=learning_rate, weight_decay=weight_decay, fused=True if on_gpu else None)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the schedule's learning rate: a group's is a multiple of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(RATE_FACTOR, 1.0)


def compile_towers(network: nn.Module, device: torch.device, backend: str | Callable[..., Any] = "inductor") -> None:
    """Have torch compile the towers that are `compilable`, where nearly all of the work is done, when first called.

    Names and shapes of the weights stay what they were, and so do checkpoints. Kernels that the towers have of their
    own on a GPU are left aside, which is said: on an H100 they are faster than what torch compiles (docs/gpu.md).

    Raises:
        InputError: torch cannot compile here, for want of a compiler or of Triton: tried on a few numbers first.
    """
    try:
        torch.compile(_a_little, backend=backend)(torch.ones(8, device=device))
    except Exception as error:  # whatever the compiler in question raises
        raise InputError(f"torch cannot compile for {device} ({first_line(error)}): leave --compile away") from error
    left_aside = False
    for tower in towers(network):
        if tower.compilable:
            if tower.use_plain_operations():  # fusing is the compiler's part now
                left_aside = True
            # Audio and video share their code: told that sizes may change, the compiler takes minutes over the second.
            tower.compile(backend=backend, dynamic=False)
    if left_aside:
        _log.warning("--compile leaves the towers' own kernels aside: steps may take longer than without (docs/gpu.md)")


def as_written() -> AbstractContextManager[object]:
    """While it lasts, what torch has compiled runs as it was written: for evaluation mode, and for each other size of a
    batch, it would be compiled anew, which takes longer than they do. Where nothing was compiled, it does nothing."""
    # The compiler, which takes a second to import, is there once something was compiled.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def agree_on_kernels(network: nn.Module, device: torch.device) -> None:
    """Have the towers' own kernels on all ranks or on none: a norm over all ranks adds up other sums without them.

    All ranks of the default process group call it.
    """
    if device.type != "cuda":
        return
    obstacles: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(obstacles, fused_norm.unavailable(device))
    there = next(((rank, why) for rank, why in enumerate(obstacles) if why is not None), None)
    if there is None:
        return
    for tower in towers(network):
        tower.use_plain_operations()
    _log.warning("the towers' own kernels are left aside, and steps take longer: of rank %d: %s", *there)


def _a_little(x: Tensor) -> Tensor:
    return (x * 2 + 1).relu()

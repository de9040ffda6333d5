"""What the networks are made of: ``python -m models.summary [RUN] [--preset tiny] [--system …] [--json]``.

For L3-Net, AVE-Net and the network that predicts labels, for those of systems by name, or for that of a run, tower by
tower, the parameters, and the floating-point operations for one clip. Both are counted from the code itself: the
network runs on tensors without data, and torch counts the operations of each convolution and matrix product as it is
called (a multiplication and an addition are two; batch norms, pooling and the like are not counted, nor is the front
end). Padding counts as pixels do, but for the time padding of one or two frames, which is never computed. "forward" is
what a prediction takes, "step" forward and backward: what a clip takes in training.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from loaders.arguments import cli
from loaders.dataset.labels import Label
from loaders.dataset.manifest import GAZE_STATISTICS
from loaders.errors import InputError, printable, reported
from models.frontend.front_end import FrontEnd, FrontEndConfig, Inputs
from models.systems.presets import (
    PRESETS,
    ModelConfig,
    PresetName,
    correspondence_net,
    has_gaze_tower,
    model_config_from_json,
    needs,
    preset,
    target_net,
)
from models.systems.registry import sizes_of_system, system_of
from models.systems.streams import needs_of_network
from models.systems.targets import TargetOutput
from models.towers.tower import Masked, Stream, Tower
from models.training.config import SystemName
from models.training.labels import TARGETS, from_json
from models.training.runs import read_run

#: What the network that predicts labels is counted with where no run says: the thesis' seven emotions.
_EMOTION = Label(
    name="emotion",
    classes=("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    low=None,
    high=None,
)
_CLIPS = 2  # that are counted and divided by: batch norm in training wants more than one


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Parameters and operations of the networks, tower by tower, counted from the code."""

    run: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """A run, for its own network alone."""
    preset: tuple[PresetName, ...] = ()
    """Which presets; by default all."""
    system: tuple[SystemName, ...] = ()
    """Which systems: of each the network that is pre-trained, and the one that predicts labels."""
    seconds: float = 2.0
    """Length of a clip's sound. As many frames are counted as the network takes, and of gaze frame by frame 25 a
    second."""
    json: bool = False
    """As JSON, for programs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A network that can be trained."""

    name: str
    gaze: bool  #: whether it looks at gaze
    build: Callable[[], nn.Module]
    members: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  #: that it takes, with a clip's shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A tower, or what lies over the towers, of a network."""

    name: str
    parameters: int
    forward: int  #: operations for one clip
    step: int  #: the same, forward and backward


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A network's parts."""

    system: str
    gaze: bool
    parts: tuple[Part, ...]

    @property
    def total(self) -> Part:
        """All of them together."""
        sums = (sum(getattr(part, name) for part in self.parts) for name in ("parameters", "forward", "step"))
        parameters, forward, step = sums
        return Part(name="all", parameters=parameters, forward=forward, step=step)


def systems(sizes: ModelConfig, targets: Sequence[Label] = (_EMOTION,)) -> Iterator[System]:
    """The three networks, with gaze and without."""
    for gaze in (True, False):
        yield System(name="l3", gaze=gaze, build=partial(correspondence_net, sizes, "l3", gaze=gaze))
        yield System(name="ave", gaze=gaze, build=partial(correspondence_net, sizes, "ave", gaze=gaze))
        yield System(name="targets", gaze=gaze, build=partial(target_net, sizes, targets, gaze=gaze))


def systems_by_name(
    sizes: ModelConfig, name: str, seconds: float, targets: Sequence[Label] = (_EMOTION,)
) -> tuple[ModelConfig, list[System]]:
    """A preset with the towers of a system of `models.systems.registry`, and its two networks: that which is
    pre-trained, and that which predicts labels.

    Raises:
        InputError: there is no such system, or a tower of it does not say how large its members are.
    """
    known = system_of(name)
    sizes = sizes_of_system(sizes, known, {})
    gaze = has_gaze_tower(sizes, gaze=known.looks_at_gaze)
    members = _members(sizes, seconds, name, gaze=gaze)
    build: dict[str, Callable[[], nn.Module]] = {
        f"{name}, {known.correspondence}": partial(correspondence_net, sizes, known.correspondence, gaze=gaze),
        f"{name}, targets": partial(target_net, sizes, targets, gaze=gaze),
    }
    looks = known.looks_at_gaze  # by a tower for it, or by the video tower
    return sizes, [System(name=title, gaze=looks, build=make, members=members) for title, make in build.items()]


def _members(sizes: ModelConfig, seconds: float, whose: str, *, gaze: bool) -> dict[str, tuple[int, ...]]:
    needed = needs(sizes, gaze=gaze).members
    shapes: dict[str, tuple[int, ...]] = {}
    for tower in (sizes.video, sizes.audio, sizes.gaze, *sizes.further.values()):
        shapes |= tower.member_shapes(seconds)
    unsaid = [member for member in needed if member not in shapes]
    if unsaid:
        raise InputError(
            f"{whose}: its towers take {', '.join(unsaid)} and do not say how large: give another, or say so in "
            "member_shapes of the tower's settings"
        )
    return {member: shapes[member] for member in needed}


def of_run(folder: Path, seconds: float = 2.0) -> tuple[ModelConfig, System]:
    """The sizes and the system of a run, finished or not.

    Raises:
        InputError: there is no run, or its system is none of these, or a tower does not say how large its members are.
    """
    run = read_run(folder)
    sizes = model_config_from_json(run["sizes"])
    members = _members(sizes, seconds, str(folder), gaze=run["gaze"])
    targets = from_json(run[TARGETS], folder) if run.get(TARGETS) else ()
    name = run.get("model", "targets")
    for system in systems(sizes, targets):
        if (system.name, system.gaze) == (name, run["gaze"]):
            return sizes, replace(system, members=members)
    raise InputError(f"{folder}: a run of the system {name!r}, which is none of this program's")


def inputs_of(
    config: FrontEndConfig, seconds: float, members: Mapping[str, tuple[int, ...]] | None = None
) -> dict[str, Stream]:
    """What the front end makes of `_CLIPS` black and silent clips, with members of these shapes."""
    size = config.frame_size
    with torch.no_grad():
        made: Inputs = FrontEnd(replace(config, augmentation=None))(
            torch.zeros((_CLIPS, config.frames, size, size, 3), dtype=torch.uint8),
            torch.zeros((_CLIPS, round(seconds * config.sample_rate))),
            torch.zeros((_CLIPS, GAZE_STATISTICS)),
        )
    there = torch.ones(_CLIPS, dtype=torch.bool)
    arrays = {name: Masked(torch.zeros((_CLIPS, *shape)), there) for name, shape in (members or {}).items()}
    return {**made, **arrays}


def count(system: System, inputs: Mapping[str, Stream]) -> Counted:
    """Parameters and operations of a network, by its direct children.

    Raises:
        RuntimeError: some operations belong to none of them: the table would lack them.
    """
    # Attention as products of matrices, which are counted wherever they are called from.
    with sdpa_kernel(SDPBackend.MATH), FakeTensorMode() as without_data:  # shapes and types alone
        network = system.build().train()
        for module in network.modules():
            if isinstance(module, Tower):
                module.use_plain_operations()
        taken = needs_of_network(network).streams
        given = {name: _mapped(inputs[name], without_data.from_tensor) for name in taken}
        parts = _parts(network)
        called = [(name, part) for name, child in parts.items() for part in _called(child)]
        calls = {part: _Calls(part) for _, part in called}
        with FlopCounterMode(display=False) as whole:
            torch.autograd.backward(_sum(network(**given)))
        # Each part once more by itself: torch does not say which module a backward pass belongs to.
        forward: Counter[str] = Counter()
        step: Counter[str] = Counter()
        for name, part in called:
            forward[name] += calls[part].operations(backward=False)
            step[name] += calls[part].operations(backward=True)
    if step.total() != whole.get_total_flops():
        raise RuntimeError(f"{type(network).__name__} computes outside of its parts {', '.join(step)}")
    sizes = {name: sum(weight.numel() for weight in child.parameters()) for name, child in parts.items()}
    return Counted(
        system=system.name,
        gaze=system.gaze,
        parts=tuple(
            Part(name=name, parameters=weights, forward=forward[name] // _CLIPS, step=step[name] // _CLIPS)
            for name, weights in sizes.items()
        ),
    )


class _Calls:
    """What a module is called with, from now on."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._given: list[tuple[Stream, ...]] = []
        self._hook = module.register_forward_pre_hook(self._note)

    def _note(self, module: nn.Module, given: tuple[Stream, ...]) -> None:
        # With or without a gradient of its own, as it comes.
        alone = partial(_mapped, of=lambda tensor: tensor.detach().requires_grad_(tensor.requires_grad))
        self._given.append(tuple(map(alone, given)))

    def operations(self, *, backward: bool) -> int:
        """Of all calls until now, forward alone or forward and backward."""
        self._hook.remove()
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
            for given in self._given:
                said = self._module(*given)
                if backward:
                    torch.autograd.backward(_sum(said))
        return int(counter.get_total_flops())


def table(counted: Sequence[Counted], title: str, caption: str) -> Table:
    """Parts below each other; 80 columns hold it."""
    shown = Table(title=printable(title), caption=printable(caption), caption_justify="left")
    for column, right in (("system", False), ("part", False), ("parameters", True), ("forward", True), ("step", True)):
        shown.add_column(column, no_wrap=column != "system", justify="right" if right else "left")
    for one in counted:
        called = f"{one.system}{'' if one.gaze else ', no gaze'}"
        for number, part in enumerate((*one.parts, one.total)):
            last = number == len(one.parts)
            cells = (f"{part.parameters:,}", readable(part.forward), readable(part.step))
            shown.add_row(called if number == 0 else "", part.name, *cells, end_section=last)
    return shown


def main(arguments: Sequence[str] | None = None, prog: str = "python -m models.summary") -> None:
    """The command line, of a program that is called so."""
    with reported():
        summarise(cli(Summary, args=arguments, prog=prog, description=__doc__))


def summarise(config: Summary) -> None:
    """Print what was asked for.

    Raises:
        InputError: the settings do not go together, or there is no such run.
    """
    if not 0.1 <= config.seconds <= 600:
        raise InputError(f"--seconds is {config.seconds:g}: use 0.1 to 600")
    if len(config.run) > 1:
        raise InputError("several runs: give one")
    for option, given in (("--preset", config.preset), ("--system", config.system)):
        if config.run and given:
            raise InputError(f"{option} has no effect with a run, which has sizes of its own: leave it away")
    found: list[dict[str, Any]] = []
    if config.run:
        sizes, system = of_run(config.run[0], config.seconds)
        asked = [(str(config.run[0]), sizes, [system])]
    else:
        names = dict.fromkeys(config.preset or PRESETS)
        asked = [(name, preset(name), list(_asked_for(config, preset(name)))) for name in names]
    console = Console(width=None if sys.stdout.isatty() else 80)
    for title, sizes, several in asked:
        members = {name: shape for system in several for name, shape in system.members.items()}
        inputs = inputs_of(sizes.front_end, config.seconds, members)
        counted = [count(system, inputs) for system in several]
        if config.json:
            shapes = {name: _shape(stream) for name, stream in inputs.items()}
            found.append({"sizes": title, "inputs": shapes, "systems": [_as_data(one) for one in counted]})
        else:
            console.print(table(counted, title, of_what(inputs, config.seconds)))
    if config.json:
        print(json.dumps(found, indent=1))


def _asked_for(config: Summary, sizes: ModelConfig) -> Iterator[System]:
    if not config.system:
        yield from systems(sizes)
    for name in dict.fromkeys(config.system):
        yield from systems_by_name(sizes, name, config.seconds)[1]


def _parts(network: nn.Module) -> dict[str, nn.Module]:
    """A network's children by name; of those by places (``further``, ``project_further``) each by its place's."""
    found: dict[str, nn.Module] = {}
    for name, child in network.named_children():
        if isinstance(child, nn.ModuleDict):
            found |= {name.replace("further", place): part for place, part in child.items()}
        else:
            found[name] = child
    return found


def _called(module: nn.Module) -> list[nn.Module]:
    """What is called of a network's child: a list itself never is."""
    return list(module) if isinstance(module, nn.ModuleList) else [module]


def _mapped(stream: Stream, of: Callable[[Tensor], Tensor]) -> Stream:
    if isinstance(stream, Tensor):
        return of(stream)
    return Masked(of(stream.values), of(stream.mask), None if stream.mirrored is None else of(stream.mirrored))


def _sum(output: Tensor | TargetOutput) -> Tensor:
    """Of all that a network says, so that a gradient reaches whatever training reaches."""
    if isinstance(output, Tensor):
        return output.float().sum()
    said = [one for by in (output.from_audio, output.from_visual, output.from_joint) for one in (by or {}).values()]
    return torch.stack([one.float().sum() for one in said]).sum()


def _shape(stream: Stream) -> list[int]:
    tensor = stream if isinstance(stream, Tensor) else stream.values
    return list(tensor.shape[1:])


def of_what(inputs: Mapping[str, Stream], seconds: float) -> str:
    """For what a network is counted."""
    frames, bands = _shape(inputs["video"]), _shape(inputs["audio"])
    return (
        f"for one clip: {frames[1]} frames of {frames[2]}×{frames[3]}, {seconds:g} s of sound as {bands[1]}×{bands[2]}"
    )


def readable(operations: int) -> str:
    """Three digits and a unit."""
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if operations >= 0.9995 * size:
            return f"{operations / size:.{max(0, 2 - math.floor(math.log10(operations / size) + 0.0003))}f} {unit}"
    return str(operations)


def _as_data(counted: Counted) -> dict[str, Any]:
    parts = [asdict(part) for part in counted.parts]
    return {"system": counted.system, "gaze": counted.gaze, "parts": parts, "total": asdict(counted.total)}


if __name__ == "__main__":
    main()

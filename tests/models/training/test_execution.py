"""How a network is run changes nothing of what it computes, nor of its checkpoints."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from loaders import ClipLoader, InputError
from models.frontend.front_end import FrontEnd
from models.systems.presets import TINY, correspondence_net, target_net
from models.systems.targets import TargetOutput
from models.towers import fused_norm
from models.towers.audio import AudioTowerConfig
from models.towers.convolutional import ConvTower
from models.towers.gaze import GazeTowerConfig
from models.towers.tower import Tower
from models.towers.video import VideoTowerConfig
from models.training.evaluation import match_predictions
from models.training.execution import adam, compile_towers, lay_out, place, place_front_end, set_tf32, towers
from tests.datasets import LABELS

CPU = torch.device("cpu")
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "l3": lambda: correspondence_net(TINY, "l3"),
    "ave": lambda: correspondence_net(TINY, "ave"),
    "targets": lambda: target_net(TINY, LABELS),
}


def inputs(batch: int = 3) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    return torch.randn(batch, 3, 2, 32, 32), torch.randn(batch, 1, 64, 41), torch.randn(batch, 103)


def answer(network: nn.Module) -> torch.Tensor:
    output = network(*inputs())
    if isinstance(output, torch.Tensor):
        return output
    assert isinstance(output, TargetOutput)
    assert output.from_joint is not None
    return torch.stack([said.sum() for said in output.from_joint.values()])


@pytest.mark.parametrize("name", NETWORKS)
def test_layout_changes_no_answer_no_gradient_and_no_checkpoint(name: str) -> None:
    torch.manual_seed(0)
    plain = NETWORKS[name]()
    laid_out = copy.deepcopy(plain)
    parameters = dict(laid_out.named_parameters())
    lay_out(laid_out)
    assert all(dict(laid_out.named_parameters())[n] is p for n, p in parameters.items())  # an optimiser keeps its hold
    for network in (plain, laid_out):
        answer(network).sum().backward()
    assert torch.allclose(answer(plain), answer(laid_out), atol=1e-4)
    for one, other in zip(plain.parameters(), laid_out.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None and other.grad is not None:
            assert torch.allclose(one.grad, other.grad, atol=1e-3, rtol=1e-3)
    state = laid_out.state_dict()
    assert all(torch.equal(state[n], tensor) for n, tensor in plain.state_dict().items() if "running" not in n)
    laid_out.load_state_dict(plain.state_dict())
    weights = [m.weight for m in laid_out.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    assert len(weights) == 16
    assert all(weight.is_contiguous(memory_format=formats[weight.ndim]) for weight in weights)


def test_on_a_cpu_nothing_is_laid_out_nor_fused() -> None:
    network = correspondence_net(TINY, "l3")
    place(network, CPU)
    assert all(parameter.is_contiguous() for parameter in network.parameters())
    optimizer = adam(network, learning_rate=1e-3, weight_decay=1e-5)
    [group] = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["fused"]) == (1e-3, 1e-5, None)


@pytest.mark.parametrize("half", [False, True])
def test_on_a_cpu_frames_stay_float32(half: bool) -> None:
    front_end = FrontEnd(TINY.front_end)
    place_front_end(front_end, CPU, half=half)
    assert front_end.frame_dtype == torch.float32


def test_compiled_towers_answer_as_before_under_the_same_names() -> None:
    """With a compiler that keeps what it is given: what is under test is what is handed to it."""
    compiled: list[Any] = []
    narrow = replace(TINY, video=VideoTowerConfig(width=2), audio=AudioTowerConfig(width=2))
    plain = correspondence_net(narrow, "l3").eval().requires_grad_(False)
    network = copy.deepcopy(plain)
    compile_towers(network, CPU, counting(compiled))
    probes = len(compiled)
    assert torch.equal(answer(plain), answer(network))
    towers = sum(isinstance(module, ConvTower) for module in network.modules())
    assert len(compiled) - probes == towers == 2
    assert network.state_dict().keys() == plain.state_dict().keys()


def counting(graphs: list[Any]) -> Callable[..., Any]:
    """A compiler that keeps what it is given, and counts."""

    def backend(graph: torch.fx.GraphModule, example: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    return backend


def test_what_is_scored_is_not_compiled(dataset: Path) -> None:
    """In evaluation mode, and once more for a last batch that is shorter, torch would compile each tower anew."""
    narrow = replace(TINY, video=VideoTowerConfig(width=2), audio=AudioTowerConfig(width=2))
    network = correspondence_net(narrow, "l3").train()
    graphs: list[Any] = []
    compile_towers(network, CPU, counting(graphs))
    graphs.clear()
    with ClipLoader(dataset, "train", batch_size=3, training=False, device="cpu") as loader:
        found = match_predictions(FrontEnd(narrow.front_end), network, loader, CPU)
    assert len(found.clip) == len(loader.catalogs[0]) > 3
    assert not graphs
    answer(network)
    assert len(graphs) == 2  # the compiled code is there again


@pytest.mark.parametrize("has_kernels", [True, False])
def test_kernels_that_are_left_aside_for_compiled_code_are_told(
    has_kernels: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ConvTower, "_on_gpu", staticmethod(lambda x: True))
    monkeypatch.setattr(fused_norm, "obstacle", lambda norm, device: None if has_kernels else "there are none")
    network = correspondence_net(replace(TINY, video=VideoTowerConfig(width=2)), "l3").train()
    compile_towers(network, CPU, counting([]))
    assert caplog.text.count("kernels aside") == has_kernels


class Layered(Tower):
    """A tower of another kind, with one of ours inside."""

    memory_format = torch.channels_last_3d

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv3d(3, 3, 3)
        self.inner = VideoTowerConfig(width=2).tower()
        self.embedding_dim = self.inner.embedding_dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self.inner(self.first(x))
        return embedding


def test_a_tower_of_another_kind_is_laid_out_and_compiled_once_as_a_whole() -> None:
    network = torch.nn.ModuleDict({"video": Layered(), "gaze": GazeTowerConfig().tower()})
    assert list(towers(network)) == [network["video"], network["gaze"]]
    lay_out(network)
    assert network["video"].first.weight.is_contiguous(memory_format=torch.channels_last_3d)
    graphs: list[Any] = []
    compile_towers(network, CPU, counting(graphs))
    graphs.clear()
    network.eval()
    network["gaze"](torch.zeros(2, 103))
    assert not graphs  # too small to be worth it
    network["video"](torch.zeros(2, 3, 4, 18, 18))
    assert len(graphs) == 1


def test_where_torch_cannot_compile_that_is_said_before_training() -> None:
    def backend(graph: torch.fx.GraphModule, example: list[torch.Tensor]) -> Callable[..., Any]:
        raise RuntimeError("no compiler\nfor miles")

    with pytest.raises(InputError, match=r"cannot compile for cpu.*--compile") as caught:
        compile_towers(correspondence_net(TINY, "l3"), CPU, backend)
    assert "\n" not in str(caught.value)


def test_tf32_is_allowed_where_it_is_said() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        for which, allowed in (("none", (False, False)), ("convolutions", (True, False)), ("all", (True, True))):
            set_tf32(which)  # type: ignore[arg-type]
            assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == allowed
        set_tf32("convolutions")
        assert before == (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before

"""Frozen stages keep weights and statistics, whatever the training does; the rest learns."""

import copy

import pytest
import torch
from torch import Tensor, nn

from loaders.errors import InputError
from models.systems.presets import target_net
from models.systems.targets import TargetNet
from models.training.execution import adam, set_learning_rate
from models.training.freezing import freeze, require_free_towers, stages_to_freeze, train_all_but
from tests.datasets import LABELS
from tests.presets import SMALLEST


def network() -> TargetNet:
    torch.manual_seed(0)
    return target_net(SMALLEST, LABELS)


def steps(net: TargetNet, frozen: tuple[nn.Module, ...], optimizer: torch.optim.Optimizer, count: int = 2) -> None:
    torch.manual_seed(1)
    train_all_but(net, frozen)
    for _ in range(count):
        optimizer.zero_grad()
        output = net(torch.randn(4, 3, 2, 16, 16), torch.randn(4, 1, 16, 20), torch.randn(4, 103))
        said = [value.square().mean() for value in (output.audio, output.visual)]
        torch.autograd.backward(torch.stack(said).sum() + sum(v.square().mean() for v in output.from_audio.values()))
        optimizer.step()


def changed(before: dict[str, Tensor], net: nn.Module) -> set[str]:
    return {name for name, tensor in net.state_dict().items() if not tensor.equal(before[name])}


@pytest.mark.parametrize("count", [1, 3, "all"])
def test_the_first_stages_stay_and_the_others_learn(count: int) -> None:
    net = network()
    frozen = stages_to_freeze(net, count)  # type: ignore[arg-type]
    freeze(frozen)
    before = copy.deepcopy(net.state_dict())
    steps(net, frozen, adam(net, learning_rate=1e-2, weight_decay=0.1))
    stages = range(4 if count == "all" else int(count))
    names = tuple(f"{tower}.stages.{stage}." for tower in ("audio", "video") for stage in stages)
    kept = {name for name in before if name.startswith((*names, "gaze."))}  # the gaze tower is one stage
    assert any("running_var" in name for name in kept)
    learnt = changed(before, net)
    assert not learnt & kept
    free = {name for name in before if name.startswith(("audio.", "video.", "join."))} - kept
    assert {name for name in free if name.endswith("weight")} <= learnt
    # Evaluation and back leaves them frozen, see `models.answers`: modes are each module's own.
    assert all(not module.training for part in frozen for module in part.modules())


def test_a_fresh_tower_is_left_free() -> None:
    net = network()
    assert net.gaze is not None
    with_gaze = stages_to_freeze(net, 2)
    without = stages_to_freeze(net, 2, fresh=(net.gaze,))
    assert [part for part in with_gaze if part is net.gaze] == [net.gaze]
    assert [part for part in without if part is net.gaze] == []
    assert len(without) == len(with_gaze) - 1 == 4


@pytest.mark.parametrize("count", [0, -1, 5])
def test_more_stages_than_there_are_are_refused(count: int) -> None:
    with pytest.raises(InputError, match="the towers have 4 stages, use 1 to 4, or all"):
        stages_to_freeze(network(), count)


def test_a_rate_of_towers_that_are_all_frozen_is_refused() -> None:
    net = network()
    require_free_towers(net, stages_to_freeze(net, 3))
    with pytest.raises(InputError, match="--tower-learning-rate has no effect"):
        require_free_towers(net, stages_to_freeze(net, "all"))


def test_towers_learn_at_a_rate_of_their_own() -> None:
    """Adam's first step is as long as the rate, wherever the gradient is not tiny."""
    net = network()
    optimizer = adam(net, learning_rate=1e-2, weight_decay=0, tower_learning_rate=1e-4)
    set_learning_rate(optimizer, 0.5e-2)  # as a schedule would
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    steps(net, (), optimizer, 1)
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in net.named_parameters()}
    towers = {name for name in moved if name.startswith(("audio.", "video.", "gaze."))}
    assert all(moved[name] == pytest.approx(0.5e-4, rel=0.05) for name in towers if moved[name])
    assert moved["join.0.weight"] == pytest.approx(0.5e-2, rel=0.05)
    assert any(moved[name] for name in towers)


def test_without_one_all_parameters_are_one_group() -> None:
    net = network()
    optimizer = adam(net, learning_rate=1e-2, weight_decay=0)
    assert len(optimizer.param_groups) == 1
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in net.parameters()]
    set_learning_rate(optimizer, 3e-3)
    assert optimizer.param_groups[0]["lr"] == 3e-3

"""TargetNet: single modalities, transfer of towers, where gradients go, and heads of several kinds."""

from __future__ import annotations

import dataclasses
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from loaders.dataset.labels import Label
from models.objectives.targets import target_loss
from models.systems.presets import FULL, ModelConfig, correspondence_net, target_net
from models.systems.targets import HeadsConfig, NumberHead, TargetNet, TargetOutput
from models.towers.audio import AudioTowerConfig
from models.towers.gaze import GazeTower, GazeTowerConfig
from models.towers.video import VideoTowerConfig
from tests.datasets import EMOTIONS, LABELS

EMOTION, AROUSAL, VALENCE = LABELS
SMALL = ModelConfig(video=VideoTowerConfig(width=4), audio=AudioTowerConfig(width=4))


def inputs(batch: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(batch, 3, 2, 24, 24, generator=generator),
        torch.randn(batch, 1, 24, 40, generator=generator),
        torch.randn(batch, 103, generator=generator),
    )


def stated(code: list[int]) -> dict[str, Tensor]:
    numbers = torch.linspace(-1, 1, len(code))
    return {"emotion": torch.tensor(code), "arousal": numbers, "valence": numbers.square()}


def test_one_modality_gives_what_both_give_of_it() -> None:
    net = target_net(SMALL, LABELS).eval()
    video, audio, gaze = inputs()
    both = net(video, audio, gaze)
    heard, seen = net(audio=audio), net(video, gaze=gaze)
    torch.testing.assert_close(heard.from_audio, both.from_audio)
    torch.testing.assert_close(seen.from_visual, both.from_visual)
    assert heard.from_visual is heard.from_joint is heard.visual is None
    assert seen.from_audio is seen.from_joint is seen.audio is None
    shapes = {name: tuple(said.shape) for name, said in both.from_joint.items()}
    assert shapes == {"emotion": (6, len(EMOTIONS)), "arousal": (6,), "valence": (6,)}


def test_one_head_of_a_target_serves_both_embeddings() -> None:
    net = target_net(SMALL, LABELS).eval()
    out = net(*inputs())
    assert out.audio.shape == out.visual.shape == (6, net.audio.embedding_dim)
    for target, head in zip(LABELS, net.heads, strict=True):
        torch.testing.assert_close(out.from_audio[target.name], head(out.audio))
        torch.testing.assert_close(out.from_visual[target.name], head(out.visual))


def test_of_one_label_a_seed_gives_the_weights_that_it_gave_before_there_were_others() -> None:
    """Gaze, video, audio, what joins, the shared head, the joint head: in this order, and no draw between them."""
    torch.manual_seed(0)
    net = target_net(SMALL, (EMOTION,))
    rest = torch.rand(1)
    torch.manual_seed(0)
    gaze, video, audio = SMALL.gaze.tower(), SMALL.video.tower(), SMALL.audio.tower()

    def mlp(width: int, out: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Dropout(0.0), nn.Linear(256, out))

    size = audio.embedding_dim
    parts = {"join": mlp(video.embedding_dim + gaze.embedding_dim, size), "classifier": mlp(size, 7)}
    parts |= {"joint_head": mlp(2 * size, 7), "gaze": gaze, "video": video, "audio": audio}
    assert torch.equal(rest, torch.rand(1))
    now = {"classifier": "heads.0", "joint_head": "joint_heads.0"}
    before = {f"{now.get(n, n)}.{key}": value for n, part in parts.items() for key, value in part.state_dict().items()}
    assert before.keys() == net.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    # And in that order an optimiser has them.
    order = [name.partition(".")[0] for name, _ in net.named_parameters()]
    assert list(dict.fromkeys(order)) == ["video", "audio", "gaze", "join", "heads", "joint_heads"]


def test_a_first_targets_weights_do_not_depend_on_others() -> None:
    nets = []
    for targets in ((EMOTION,), LABELS):
        torch.manual_seed(0)
        nets.append(target_net(SMALL, targets).state_dict())
    assert all(torch.equal(value, nets[1][name]) for name, value in nets[0].items())


def test_a_label_may_be_called_as_a_modules_own_attributes_are() -> None:
    targets = [Label(name=name, low=0.0, high=1.0) for name in ("type", "forward", "training", "keys", "_modules")]
    out = target_net(SMALL, targets)(*inputs())
    assert list(out.from_joint) == [target.name for target in targets]


@pytest.mark.parametrize("targets", [(EMOTION,), (VALENCE,), LABELS])
@pytest.mark.parametrize("gaze", [True, False])
def test_gradients_reach_every_parameter(gaze: bool, targets: tuple[Label, ...]) -> None:
    torch.manual_seed(0)
    net = target_net(SMALL, targets, gaze=gaze)
    video, audio, gaze_values = inputs()
    out = net(video, audio, gaze_values if gaze else None)
    target_loss(out, stated([0, 1, 0, 1, 2, 2])).total.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("detach", [True, False])
def test_the_joint_heads_train_the_towers_only_if_asked_to(detach: bool) -> None:
    torch.manual_seed(0)
    net = target_net(dataclasses.replace(SMALL, heads=HeadsConfig(detach_joint=detach)), LABELS)
    torch.stack([said.square().sum() for said in net(*inputs()).from_joint.values()]).sum().backward()
    below = [p for name, p in net.named_parameters() if not name.startswith(("joint_heads", "heads"))]
    assert all((p.grad is None) == detach for p in below)
    assert all(p.grad is not None for p in net.joint_heads.parameters())


def test_a_numbers_heads_begin_at_its_mean_and_keep_its_scale_with_the_weights() -> None:
    net = target_net(SMALL, LABELS)
    with torch.no_grad():
        for head in (net.heads[1], net.joint_heads[1]):
            assert isinstance(head, NumberHead)
            last = head.layers[-1]
            last.weight.zero_()
            last.bias.fill_(2.0)
    net.standardise({"arousal": (30.0, 4.0), "valence": (0.0, 1.0)})
    out = net(*inputs())
    for said in (out.from_audio, out.from_visual, out.from_joint):
        torch.testing.assert_close(said["arousal"], torch.full((6,), 38.0))
    assert net.means == {"arousal": 30.0, "valence": 0.0}
    again = target_net(SMALL, LABELS)
    again.load_state_dict(net.state_dict())
    assert again.means == net.means
    assert again(*inputs()).scale["arousal"] == 4.0


@pytest.mark.parametrize("network", ["l3", "ave"])
def test_towers_come_from_a_correspondence_network(network: Literal["l3", "ave"]) -> None:
    pretrained = correspondence_net(SMALL, network)
    net = TargetNet.from_correspondence(pretrained, LABELS)
    for name in ("video", "audio", "gaze"):
        old, new = getattr(pretrained, name), getattr(net, name)
        assert new is not old
        for key, value in old.state_dict().items():
            assert torch.equal(value, new.state_dict()[key])
    # Copies: fine-tuning leaves the pre-trained network as it was.
    with torch.no_grad():
        next(net.video.parameters()).add_(1)
    assert not torch.equal(next(net.video.parameters()), next(pretrained.video.parameters()))


def test_a_network_pretrained_without_gaze_can_be_given_a_gaze_tower() -> None:
    pretrained = correspondence_net(SMALL, "l3", gaze=False)
    video, audio, gaze = inputs()
    without = TargetNet.from_correspondence(pretrained, LABELS)
    assert without.eval()(video, audio).from_joint["emotion"].shape == (6, 7)
    net = TargetNet.from_correspondence(pretrained, LABELS, gaze=GazeTower(GazeTowerConfig()))
    assert net(video, audio, gaze).from_joint["emotion"].shape == (6, 7)
    with pytest.raises(ValueError, match="no gaze"):
        net(video, audio)


def test_bfloat16_autocast() -> None:
    net = target_net(SMALL, LABELS)
    with torch.autocast("cpu", torch.bfloat16):
        out: TargetOutput = net(*inputs())
        loss = target_loss(out, stated([0, 1, 0, 1, 2, -1]))
    assert loss.triplet is not None
    parts = [loss.total, loss.triplet, *loss.audio.values(), *loss.visual.values(), *loss.joint.values()]
    assert len(parts) == 11
    for value in parts:
        assert value.dtype == torch.float32
        assert value.isfinite()
    loss.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_full_size_embeddings_are_those_of_the_thesis() -> None:
    net = target_net(FULL, (EMOTION,))
    assert net.join[0].in_features == 512 + 128
    assert net.heads[0][0].in_features == 512
    assert net.joint_heads[0][0].in_features == 1024

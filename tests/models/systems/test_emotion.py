"""EmotionNet: single modalities, transfer of towers, and where gradients go."""

from __future__ import annotations

import dataclasses
from typing import Literal

import pytest
import torch
from torch import Tensor

from loaders.dataset.manifest import EMOTIONS
from models.objectives.emotion import emotion_loss
from models.systems.emotion import EmotionConfig, EmotionNet
from models.systems.presets import FULL, ModelConfig, correspondence_net, emotion_net
from models.towers.audio import AudioTowerConfig
from models.towers.gaze import GazeTower, GazeTowerConfig
from models.towers.video import VideoTowerConfig

SMALL = ModelConfig(video=VideoTowerConfig(width=4), audio=AudioTowerConfig(width=4))


def inputs(batch: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(batch, 3, 2, 24, 24, generator=generator),
        torch.randn(batch, 1, 24, 40, generator=generator),
        torch.randn(batch, 103, generator=generator),
    )


def test_one_modality_gives_what_both_give_of_it() -> None:
    net = emotion_net(SMALL).eval()
    video, audio, gaze = inputs()
    both = net(video, audio, gaze)
    heard, seen = net(audio=audio), net(video, gaze=gaze)
    torch.testing.assert_close(heard.logits_audio, both.logits_audio)
    torch.testing.assert_close(seen.logits_visual, both.logits_visual)
    assert heard.logits_visual is heard.logits_joint is heard.visual is None
    assert seen.logits_audio is seen.logits_joint is seen.audio is None
    assert both.logits_joint.shape == (6, len(EMOTIONS))


def test_one_classifier_serves_both_embeddings() -> None:
    net = emotion_net(SMALL).eval()
    video, audio, gaze = inputs()
    out = net(video, audio, gaze)
    assert out.audio.shape == out.visual.shape == (6, net.audio.embedding_dim)
    torch.testing.assert_close(out.logits_audio, net.classifier(out.audio))
    torch.testing.assert_close(out.logits_visual, net.classifier(out.visual))


@pytest.mark.parametrize("gaze", [True, False])
def test_gradients_reach_every_parameter(gaze: bool) -> None:
    torch.manual_seed(0)
    net = emotion_net(SMALL, gaze=gaze)
    video, audio, gaze_values = inputs()
    out = net(video, audio, gaze_values if gaze else None)
    emotion_loss(out, torch.tensor([0, 1, 0, 1, 2, 2])).total.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("detach", [True, False])
def test_the_joint_head_trains_the_towers_only_if_asked_to(detach: bool) -> None:
    torch.manual_seed(0)
    preset = dataclasses.replace(SMALL, emotion=EmotionConfig(detach_joint=detach))
    net = emotion_net(preset)
    net(*inputs()).logits_joint.square().sum().backward()
    below = [p for name, p in net.named_parameters() if not name.startswith(("joint_head", "classifier"))]
    assert all((p.grad is None) == detach for p in below)
    assert all(p.grad is not None for p in net.joint_head.parameters())


@pytest.mark.parametrize("network", ["l3", "ave"])
def test_towers_come_from_a_correspondence_network(network: Literal["l3", "ave"]) -> None:
    pretrained = correspondence_net(SMALL, network)
    net = EmotionNet.from_correspondence(pretrained)
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
    assert EmotionNet.from_correspondence(pretrained).eval()(video, audio).logits_joint.shape == (6, 7)
    net = EmotionNet.from_correspondence(pretrained, gaze=GazeTower(GazeTowerConfig()))
    assert net(video, audio, gaze).logits_joint.shape == (6, 7)
    with pytest.raises(ValueError, match="without gaze"):
        net(video, audio)


def test_bfloat16_autocast() -> None:
    net = emotion_net(SMALL)
    with torch.autocast("cpu", torch.bfloat16):
        loss = emotion_loss(net(*inputs()), torch.tensor([0, 1, 0, 1, 2, -1]))
    for part in dataclasses.fields(loss):
        value = getattr(loss, part.name)
        assert value.dtype == torch.float32, part.name
        assert value.isfinite(), part.name
    loss.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_full_size_embeddings_are_those_of_the_thesis() -> None:
    net = emotion_net(FULL)
    assert net.join[0].in_features == 512 + 128
    assert net.classifier[0].in_features == 512
    assert net.joint_head[0].in_features == 1024

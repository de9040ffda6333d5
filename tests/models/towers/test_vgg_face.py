"""VGG-16 as published in its sizes, narrower ones for the rest."""

from __future__ import annotations

import torch

from models.towers.vgg_face import VggFaceConfig

SMALL = VggFaceConfig().with_width(2)


def frames(clips: int = 3, count: int = 4) -> torch.Tensor:
    return torch.randn(clips, 3, count, 32, 32, generator=torch.Generator().manual_seed(0))


def test_full_size_is_vgg_16_up_to_its_seventh_layer() -> None:
    with torch.device("meta"):
        net = VggFaceConfig().tower()
    of_frames = [p for name, p in net.named_parameters() if not name.startswith("gru")]
    # 138,357,544 of VGG-16, less its eighth layer's 4096 · 1000 + 1000.
    assert sum(p.numel() for p in of_frames) == 138_357_544 - 4_097_000
    assert net.gru.input_size == 4096
    assert net.gru.num_layers == 1


def test_frames_are_encoded_alone_and_their_order_by_the_gru() -> None:
    torch.manual_seed(0)
    net, video = SMALL.tower().eval(), frames()
    assert net(video).shape == (3, 128)
    each = torch.stack([net.of_frames(video[:, :, at]) for at in range(4)], 1)
    torch.testing.assert_close(net(video), net.gru(each)[1][-1])
    assert not torch.allclose(net(video), net(video.flip(2)))


def test_a_frame_of_vgg_faces_mean_colour_is_zero_to_it() -> None:
    """Whatever the first layers' weights: with no biases, nothing comes out."""
    net = SMALL.tower()
    mean = torch.tensor([129.1863, 104.7624, 93.5940]) / 255
    frame = ((mean - 0.45) / 0.225)[:, None, None].expand(1, 3, 32, 32)
    torch.testing.assert_close(net.of_frames(frame), torch.zeros(1, SMALL.features), atol=1e-3, rtol=0)


def test_early_fusion_encodes_gaze_with_every_frame() -> None:
    torch.manual_seed(0)
    early = SMALL.with_gaze()
    assert (SMALL.streams, early.streams) == (("video",), ("video", "gaze"))
    net, gaze = early.tower().eval(), torch.randn(3, 103)
    assert not torch.allclose(net(frames(), gaze), net(frames(), -gaze))
    net(frames(), gaze).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())

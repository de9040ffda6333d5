"""Audio and video towers: any size in, one vector out, as many parameters as the papers' description implies."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from loaders.errors import InputError
from models.towers import fused_norm
from models.towers.audio import AudioTower
from models.towers.convolutional import ConvTowerConfig, by_transpose
from models.towers.video import VideoTower

SMALL = ConvTowerConfig(width=2)


@given(frames=st.integers(1, 32), height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=15, deadline=None)
def test_video_of_any_size(frames: int, height: int, width: int) -> None:
    tower = VideoTower(SMALL).eval()
    embedding = tower(torch.randn(1, 3, frames, height, width))
    assert embedding.shape == (1, tower.embedding_dim) == (1, 16)
    assert embedding.isfinite().all()


@given(bands=st.integers(1, 130), frames=st.integers(1, 210), pool=st.sampled_from(["max", "average"]))
@settings(max_examples=15, deadline=None)
def test_audio_of_any_size(bands: int, frames: int, pool: str) -> None:
    config = ConvTowerConfig(width=2, pool="max" if pool == "max" else "average")
    tower = AudioTower(config).eval()
    assert tower(torch.randn(1, 1, bands, frames)).shape == (1, 16)


@pytest.mark.parametrize(("kind", "kernel", "channels"), [(VideoTower, 27, 3), (AudioTower, 9, 1)])
def test_parameters_at_full_size(kind: type[VideoTower | AudioTower], kernel: int, channels: int) -> None:
    # Four stages of two convolutions with 64, 128, 256, 512 channels, a batch norm's two vectors after each.
    expected = 0
    for width in (64, 128, 256, 512):
        expected += kernel * (channels * width + width * width) + 2 * 2 * width
        channels = width
    tower = kind(ConvTowerConfig())
    assert sum(p.numel() for p in tower.parameters()) == expected
    assert expected == {27: 14_054_208, 9: 4_686_144}[kernel]
    assert tower.embedding_dim == 512


def test_every_convolution_is_followed_by_batch_norm_and_relu() -> None:
    kinds = [type(m) for stage in VideoTower(SMALL).stages for m in stage.children()]
    assert all(issubclass(k, e) for k, e in zip(kinds, [nn.Conv3d, nn.BatchNorm3d, nn.ReLU] * 8, strict=True))


def test_only_space_has_the_first_stride_and_pooling_stops_at_one() -> None:
    tower = VideoTower(SMALL).eval()
    shapes: list[tuple[int, ...]] = []
    for stage in tower.stages:
        stage.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[2:])))
    tower(torch.randn(1, 3, 3, 32, 32))
    assert shapes == [(3, 16, 16), (2, 8, 8), (1, 4, 4), (1, 2, 2)]


def test_pooling_setting_decides_how_positions_become_one() -> None:
    x = torch.randn(2, 1, 20, 20)
    maximum = AudioTower(SMALL).eval()
    average = AudioTower(ConvTowerConfig(width=2, pool="average")).eval()
    average.load_state_dict(maximum.state_dict())
    last: list[torch.Tensor] = []
    maximum.stages[3].register_forward_hook(lambda _m, _i, out: last.append(out))
    torch.testing.assert_close(maximum(x), last[0].amax((2, 3)))
    torch.testing.assert_close(average(x), last[0].mean((2, 3)))


def test_every_frame_counts() -> None:
    # An odd number of frames is rounded up by pooling, so the last frame is not dropped.
    tower = VideoTower(ConvTowerConfig(width=4, pool="average")).eval()
    clip = torch.randn(1, 3, 5, 16, 16, requires_grad=True)
    tower(clip).sum().backward()
    assert clip.grad is not None
    assert (clip.grad.abs().amax((0, 1, 3, 4)) > 0).all()


def fill_free_memory_with_nan() -> None:
    """What is allocated next and never written to will not look like zeros."""
    filled = [torch.full((4**k,), float("nan")) for k in range(2, 10) for _ in range(12)]
    del filled


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("stage", [0, 1])
def test_bfloat16_gradients_of_convolutions_are_those_of_float32(frames: int, stage: int) -> None:
    convolution = VideoTower(ConvTowerConfig(width=4)).stages[stage][0]
    clip = torch.randn(4, convolution.in_channels, frames, 16, 16).contiguous(memory_format=torch.channels_last_3d)
    gradients = []
    for bfloat16 in (False, True):
        convolution.zero_grad()
        fill_free_memory_with_nan()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            out = convolution(clip)
        fill_free_memory_with_nan()
        torch.autograd.backward(out, torch.ones_like(out))
        gradients.append(convolution.weight.grad.clone())
    exact, rounded = gradients
    assert (rounded - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("stage", [0, 1])
def test_one_and_two_frames_are_convolved_as_any_others(frames: int, stage: int) -> None:
    convolution = VideoTower(SMALL).stages[stage][0]
    x = torch.randn(2, convolution.in_channels, frames, 6, 6)
    expected = nn.functional.conv3d(x, convolution.weight, stride=convolution.stride, padding=1)
    torch.testing.assert_close(convolution(x), expected)


def test_by_transpose_is_the_convolution() -> None:
    x, weight = torch.randn(2, 5, 4, 6, 7, requires_grad=True), torch.randn(3, 5, 3, 3, 3, requires_grad=True)
    found, expected = by_transpose(x, weight), nn.functional.conv3d(x, weight, padding=1)
    torch.testing.assert_close(found, expected)
    gradient = torch.randn_like(found)
    for one, other in zip(
        torch.autograd.grad(found, (x, weight), gradient),
        torch.autograd.grad(expected, (x, weight), gradient),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.skipif(fused_norm.MISSING is not None, reason=str(fused_norm.MISSING))
@pytest.mark.parametrize(
    ("kind", "shape"), [(VideoTower, (2, 3, 5, 20, 18)), (VideoTower, (2, 3, 16, 9, 16)), (AudioTower, (2, 1, 20, 33))]
)
def test_a_step_by_fused_kernels_is_a_step_without(
    kind: type[VideoTower | AudioTower], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole tower as on a GPU, in float32, without one by the interpreter: same weights in, same weights out."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    plain = kind(ConvTowerConfig(width=4)).to(device)
    fused = copy.deepcopy(plain)
    plain.fuse = False
    monkeypatch.setattr(fused, "_on_gpu", lambda x: True)
    x = torch.randn(shape, device=device)
    for tower in (plain, fused):
        optimizer = torch.optim.SGD(tower.parameters(), lr=0.1)
        (tower(x) * torch.linspace(-1, 1, tower.embedding_dim, device=device)).sum().backward()
        optimizer.step()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(fused.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(fused_norm.MISSING is not None, reason=str(fused_norm.MISSING))
def test_a_frozen_batch_norm_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = AudioTower(SMALL)
    monkeypatch.setattr(tower, "_on_gpu", lambda x: True)
    norms = [module for module in tower.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.eval()
    x = torch.randn(2, 1, 16, 16)
    expected = copy.deepcopy(tower).eval()(x)
    torch.testing.assert_close(tower(x), expected)
    assert all(norm.running_mean.eq(0).all() for norm in norms)


def test_where_kernels_cannot_run_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fused_norm, "MISSING", "Triton is not installed")
    tower = AudioTower(SMALL)
    monkeypatch.setattr(tower, "_on_gpu", lambda x: True)
    for _ in range(3):
        tower(torch.randn(2, 1, 16, 16))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Triton is not installed" in caplog.text


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        VideoTower(ConvTowerConfig(width=0))

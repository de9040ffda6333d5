"""The first convolution with its batch norm and ReLU in one go is torch's own operations one after the other."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.towers import fused_norm, stem
from models.towers.stem import fits, norm_relu_stem

pytestmark = pytest.mark.skipif(fused_norm.MISSING is not None, reason=str(fused_norm.MISSING))
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True, scope="module")
def in_float32() -> Iterator[None]:
    """torch's own convolutions, which the kernels are held against, round to TF32 on a GPU unless told otherwise."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = before


def parts(channels: int, stride: int) -> tuple[nn.Conv3d, nn.BatchNorm3d]:
    convolution = nn.Conv3d(3, channels, 3, (1, stride, stride), padding=1, bias=False).to(DEVICE)
    norm = nn.BatchNorm3d(channels).to(DEVICE)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    return convolution, norm


def assert_alike(frames: Tensor, channels: int, stride: int) -> None:
    convolution, norm = parts(channels, stride)
    others = copy.deepcopy((convolution, norm))
    found, expected = norm_relu_stem(frames, convolution, norm), F.relu(others[1](others[0](frames)))
    assert found.shape == expected.shape
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    gradient = torch.randn_like(expected)
    found.backward(gradient)
    expected.backward(gradient)
    pairs = [
        (found, expected),
        (convolution.weight.grad, others[0].weight.grad),
        (norm.weight.grad, others[1].weight.grad),
        (norm.bias.grad, others[1].bias.grad),
        (norm.running_mean, others[1].running_mean),
        (norm.running_var, others[1].running_var),
    ]
    for one, two in pairs:
        assert one is not None
        assert two is not None
        assert (one - two).norm() <= 2e-5 * two.norm() + 1e-5


@pytest.mark.parametrize(
    ("shape", "channels", "stride"),
    [((2, 4, 9, 8), 16, 1), ((1, 1, 3, 1), 1, 2), ((2, 3, 5, 9), 70, 2), ((1, 4, 7, 2), 5, 1)],
)
def test_of_some_sizes_it_is_convolution_norm_and_relu(
    shape: tuple[int, int, int, int], channels: int, stride: int
) -> None:
    torch.manual_seed(channels)
    batch, *rest = shape
    assert_alike(torch.randn(batch, 3, *rest, device=DEVICE), channels, stride)


@pytest.mark.skipif(DEVICE != "cpu", reason="each example has a GPU's kernels compiled anew, for tens of seconds")
@given(
    batch=st.integers(1, 2),
    frames=st.integers(1, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.sampled_from([1, 5, 16, 70]),
    stride=st.integers(1, 2),
)
@settings(max_examples=20, deadline=None)
def test_it_is_convolution_norm_and_relu(
    batch: int, frames: int, height: int, width: int, channels: int, stride: int
) -> None:
    torch.manual_seed(height)
    height += batch * frames * height * width == 1  # a single value has no variance
    assert_alike(torch.randn(batch, 3, frames, height + 2, width, device=DEVICE), channels, stride)


def test_more_positions_than_programs_have_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stem, "_PROGRAMS", 2)
    torch.manual_seed(0)
    assert_alike(torch.randn(2, 3, 3, 14, 13, device=DEVICE), 8, 1)


def test_under_autocast_it_answers_in_its_type_and_the_weights_keep_theirs() -> None:
    convolution, norm = parts(16, 2)
    frames = torch.randn(2, 3, 2, 8, 8, device=DEVICE).half()
    with torch.autocast(DEVICE, torch.float16):
        found = norm_relu_stem(frames, convolution, norm)
    assert found.dtype == torch.float16
    found.float().sum().backward()
    assert convolution.weight.grad is not None
    assert convolution.weight.grad.dtype == torch.float32
    expected = F.relu(copy.deepcopy(norm)(convolution(frames.float())))
    assert (found.float() - expected).norm() < 5e-3 * expected.norm()


def test_it_fits_the_first_convolution_alone() -> None:
    convolution, _ = parts(4, 2)
    frames = torch.randn(1, 3, 2, 8, 8, device=DEVICE)
    assert fits(frames, convolution)
    assert not fits(frames.clone().requires_grad_(), convolution)
    for other in (
        nn.Conv3d(4, 4, 3, padding=1, bias=False),
        nn.Conv3d(3, 4, 3, padding=1),
        nn.Conv3d(3, 4, 3, bias=False),
        nn.Conv3d(3, 4, 3, 2, padding=1, bias=False),
        nn.Conv3d(3, 4, 3, (1, 2, 1), padding=1, bias=False),
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
    ):
        assert not fits(frames, other)

"""Batch norm, ReLU and pooling in one go are torch's own operations one after the other: values, gradients, statistics.

Without a GPU, Triton's interpreter runs the kernels (tests/conftest.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.towers import fused_norm
from models.towers.fused_norm import Norm, norm_relu_pool, obstacle
from models.towers.synced_norm import SyncedBatchNorm

needs_triton = pytest.mark.skipif(fused_norm.MISSING is not None, reason=str(fused_norm.MISSING))
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EXAMPLES = 25 if DEVICE == "cpu" else 4  # each has a GPU's kernels compiled anew, for seconds


def norm_over(x: Tensor) -> Norm:
    norm: Norm = (nn.BatchNorm3d if x.ndim == 5 else nn.BatchNorm2d)(x.shape[1]).to(x.device)
    with torch.no_grad():
        norm.weight.normal_()  # negative ones turn the order of values around
        norm.bias.normal_()
        norm.running_mean.normal_()  # type: ignore[union-attr]
    return norm


def in_turn(x: Tensor, norm: Norm, window: tuple[int, ...]) -> Tensor:
    y = F.relu(norm(x))
    if max(window) == 1:
        return y
    pool: Callable[..., Tensor] = F.max_pool3d if x.ndim == 5 else F.max_pool2d
    return pool(y, window, ceil_mode=True)


def assert_alike(x: Tensor, window: tuple[int, ...], tolerance: float = 2e-5) -> None:
    norm = norm_over(x)
    other = copy.deepcopy(norm)
    mine, theirs = x.clone().requires_grad_(), x.float().requires_grad_()
    found, expected = norm_relu_pool(mine, norm, window), in_turn(theirs, other, window)
    assert found.shape == expected.shape
    assert found.dtype == x.dtype
    gradient = torch.randn_like(expected)
    found.backward(gradient.to(x.dtype))
    expected.backward(gradient)
    # What the norm takes from the gradient may be nearly all of it, as where it is over two values: what is left then
    # is rounding, as large as that of what it is the difference of.
    deviation = x.float().transpose(0, 1).flatten(1).var(1, unbiased=False).add(norm.eps).sqrt()
    before = gradient.norm() * (norm.weight.detach().abs() / deviation).max()
    assert mine.grad is not None
    assert theirs.grad is not None
    assert (mine.grad.float() - theirs.grad).norm() <= tolerance * torch.maximum(theirs.grad.norm(), 0.1 * before)
    pairs = [
        (found, expected),
        (norm.weight.grad, other.weight.grad),
        (norm.bias.grad, other.bias.grad),
        (norm.running_mean, other.running_mean),
        (norm.running_var, other.running_var),
        (norm.num_batches_tracked, other.num_batches_tracked),
    ]
    for one, two in pairs:
        assert one is not None
        assert two is not None
        assert (one.float() - two.float()).norm() <= tolerance * two.float().norm() + 1e-6


@needs_triton
@given(
    batch=st.integers(1, 3),
    channels=st.sampled_from([1, 2, 5, 16, 64, 70]),
    space=st.lists(st.integers(1, 7), min_size=2, max_size=3),
    data=st.data(),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_it_is_norm_relu_and_pooling(batch: int, channels: int, space: list[int], data: st.DataObject) -> None:
    if batch * torch.tensor(space).prod() == 1:
        space = [2, *space[1:]]  # torch refuses a single value, too: it has no variance
    window = tuple(data.draw(st.integers(1, min(2, size))) for size in space)
    torch.manual_seed(batch + channels)
    assert_alike(torch.randn(batch, channels, *space, device=DEVICE) * 3 + 5, window)


@needs_triton
@pytest.mark.parametrize("window", [(2, 2, 2), (1, 1, 1)])
def test_in_half_precision_it_is_as_close_as_that_is(window: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = (torch.randn(2, 64, 4, 8, 8, device=DEVICE) * 2 + 1).bfloat16()
    assert_alike(x, window, tolerance=1e-2)


@needs_triton
def test_more_rows_than_a_block_and_more_blocks_than_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_norm, "_PROGRAMS", 3)
    torch.manual_seed(0)
    assert_alike(torch.randn(2, 8, 3, 9, 11, device=DEVICE), (2, 2, 2))
    assert_alike(torch.randn(2, 8, 3, 9, 11, device=DEVICE), (1, 1, 1))


@needs_triton
def test_a_mean_far_from_nought_costs_no_precision_once_it_is_known() -> None:
    norm = nn.BatchNorm2d(4).to(DEVICE)
    norm.running_mean.fill_(1000.0)  # type: ignore[union-attr]
    x = 1000 + torch.randn(8, 4, 16, 16, device=DEVICE)
    expected = F.relu(nn.BatchNorm2d(4).to(DEVICE)(x.double().sub(1000).float()))
    assert (norm_relu_pool(x, norm, (1, 1)) - expected).abs().max() < 1e-3


@needs_triton
def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 3, 4, 4, device=DEVICE)
    norm = norm_over(x)
    direction, weights = torch.randn_like(x), torch.randn(2, 3, 2, 2, device=DEVICE)
    x.requires_grad_()
    (norm_relu_pool(x, norm, (2, 2)) * weights).sum().backward()
    assert x.grad is not None
    step = 1e-2
    with torch.no_grad():
        ahead, behind = ((in_turn(x + s * direction, norm, (2, 2)) * weights).sum() for s in (step, -step))
        slope = (ahead - behind) / (2 * step)
    assert abs((x.grad * direction).sum() - slope) < 0.02 * abs(slope) + 0.02


@needs_triton
def test_what_is_no_plain_batch_norm_is_left_to_torch_with_a_reason() -> None:
    device = torch.device(DEVICE)
    assert obstacle(nn.BatchNorm3d(4), device) is None
    assert obstacle(nn.SyncBatchNorm(4), device) is None
    assert "SyncedBatchNorm" in str(obstacle(SyncedBatchNorm(nn.BatchNorm2d(4)), device))
    assert "GroupNorm" in str(obstacle(nn.GroupNorm(2, 4), device))
    assert "evaluation mode" in str(obstacle(nn.BatchNorm3d(4).eval(), device))  # frozen within a tower that trains
    for setting in ({"momentum": None}, {"affine": False}, {"track_running_stats": False}):
        assert obstacle(nn.BatchNorm2d(4, **setting), device) is not None  # type: ignore[arg-type]


@needs_triton
@pytest.mark.parametrize("window", [(2, 2), (1, 1)])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_seen_and_forgotten(window: tuple[int, ...], value: float) -> None:
    """As with torch's own: a spoilt batch gives spoilt values, and the batch after it none."""
    torch.manual_seed(0)
    sound = torch.randn(2, 3, 6, 6, device=DEVICE)
    norm = norm_over(sound)
    spoilt = sound.clone()
    spoilt[1, 1, 2, 3] = value
    found, expected = (f(spoilt, copy.deepcopy(norm), window) for f in (norm_relu_pool, in_turn))
    assert torch.equal(found.isnan(), expected.isnan())
    assert found.isnan().any()
    norm_relu_pool(spoilt, norm, window)
    assert not norm.running_mean.isfinite().all()  # type: ignore[union-attr]
    assert (norm_relu_pool(sound, norm, window) - in_turn(sound, copy.deepcopy(norm), window)).abs().max() < 1e-4


@needs_triton
@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (0, 3, 4, 4)])
def test_a_single_value_a_channel_has_no_variance_and_is_refused(shape: tuple[int, ...]) -> None:
    norm = nn.BatchNorm2d(3).to(DEVICE)
    with pytest.raises(ValueError, match="more than one value"):
        norm_relu_pool(torch.zeros(shape, device=DEVICE), norm, (1, 1))
    assert norm.running_var.eq(1).all()  # type: ignore[union-attr]


@needs_triton
def test_where_kernels_cannot_be_built_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    monkeypatch.setattr(fused_norm.kernels, "answer", {(1,): broken})
    fused_norm._why_not.cache_clear()
    try:
        assert obstacle(nn.BatchNorm2d(3), torch.device(DEVICE)) == "Triton cannot run here: Failed to find C compiler."
    finally:
        fused_norm._why_not.cache_clear()

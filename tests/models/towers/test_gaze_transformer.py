"""The transformer looks at rows where the tracker succeeded, at nothing else, and sees clips in a mirror as such."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from loaders.errors import InputError
from models.towers.gaze_transformer import GazeTransformer, GazeTransformerConfig
from models.towers.tower import Masked
from sharding.gaze.statistics import SIGNAL_NAMES

CONFIG = GazeTransformerConfig(width=16, layers=1, heads=2)


def tower() -> GazeTransformer:
    torch.manual_seed(0)
    made = CONFIG.tower()
    made(gaze(seed=1))  # some moments
    return made.eval()


def gaze(rows: int = 10, clips: int = 6, seed: int = 0) -> Masked:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(clips, rows, 13, generator=generator)
    values[:, :, -1] = (torch.rand(clips, rows, generator=generator) < 0.7).float()
    return Masked(values, torch.ones(clips, dtype=torch.bool))


def changed(values: Tensor, where: Tensor) -> Tensor:
    other = values.clone()
    other[:, :, :-1][where] = 99.0
    return other


def test_rows_that_failed_are_not_looked_at_and_others_are() -> None:
    net, given = tower(), gaze()
    failed = given.values[:, :, -1] == 0
    plain = net(given)
    assert plain.shape == (6, 128)
    torch.testing.assert_close(net(Masked(changed(given.values, failed), given.mask)), plain)
    assert not torch.allclose(net(Masked(changed(given.values, ~failed), given.mask)), plain)


def test_a_clip_with_fewer_rows_is_the_same_however_many_others_have() -> None:
    """With the mask of a member whose number of rows varies."""
    net, short = tower(), gaze(rows=6)
    longer = torch.cat([short.values, torch.full((6, 4, 13), 7.0)], 1)
    mask = torch.arange(10).expand(6, -1) < 6
    torch.testing.assert_close(net(Masked(longer, mask)), net(short))


def test_order_matters() -> None:
    net, given = tower(), gaze()
    assert not torch.allclose(net(Masked(given.values.flip(1), given.mask)), net(given))


def test_clips_without_gaze_are_alike_and_give_finite_gradients() -> None:
    net, given = tower().train(), gaze()
    out = net(Masked(given.values, torch.tensor([True, True, False, True, False, True])))
    torch.testing.assert_close(out[2], out[4])
    out.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_a_mirror_turns_what_is_horizontal() -> None:
    horizontal = [name in ("gaze_angle_x", "delta_gaze_angle_x") for name in SIGNAL_NAMES]
    sign = torch.where(torch.tensor([*horizontal, False]), -1.0, 1.0)
    net, given = tower(), gaze()
    some = torch.tensor([True, False] * 3)
    turned = torch.where(some[:, None, None], given.values * sign, given.values)
    torch.testing.assert_close(net(Masked(given.values, given.mask, some)), net(Masked(turned, given.mask)))


def test_what_is_no_gaze_signals_is_refused_with_the_mend() -> None:
    with pytest.raises(InputError, match="rows of 13: build it again with --member gaze_frames"):
        tower()(Masked(torch.zeros(2, 5, 4), torch.ones(2, dtype=torch.bool)))

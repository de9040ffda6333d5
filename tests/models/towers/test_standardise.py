"""Moments measured while training: those of the valid rows, and of nothing else."""

from __future__ import annotations

import torch

from models.towers.standardise import Standardise


def drawn(seed: int, rows: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, 5, 3, generator=generator) * torch.tensor([1.0, 30.0, 0.2]) + torch.tensor([0, -5, 400])
    return values, torch.rand(rows, 5, generator=generator) < 0.7


def test_a_first_batch_is_standardised_by_its_own_valid_rows() -> None:
    values, mask = drawn(0)
    out = Standardise(3)(values, mask)
    torch.testing.assert_close(out[mask].mean(0), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(out[mask].std(0, unbiased=False), torch.ones(3), atol=1e-3, rtol=0)
    assert (out[~mask] == 0).all()
    # What stands where nothing is, is not looked at.
    other = torch.where(mask[..., None], values, torch.tensor(1e9))
    assert torch.equal(Standardise(3)(other, mask), out)


def test_moments_are_those_of_all_batches_and_evaluation_leaves_them() -> None:
    module = Standardise(3)
    batches = [drawn(seed) for seed in range(8)]
    for values, mask in batches:
        module(values, mask)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    valid = torch.cat([values[mask] for values, mask in batches])
    torch.testing.assert_close(module.mean, valid.mean(0), rtol=0.05, atol=0.3)
    torch.testing.assert_close(module.variance, valid.var(0), rtol=0.1, atol=0)
    module.eval()(*drawn(9))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    again = Standardise(3)
    again.load_state_dict(before)
    assert torch.equal(again.eval()(*drawn(9)), module(*drawn(9)))


def test_a_batch_without_a_valid_row_changes_nothing() -> None:
    module = Standardise(3)
    module(*drawn(0))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    out = module(drawn(1)[0], torch.zeros(64, 5, dtype=torch.bool))
    assert (out == 0).all()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_one_outlier_and_a_feature_that_is_constant_stay_within_the_limit() -> None:
    values, mask = torch.ones(200, 2), torch.ones(200, dtype=torch.bool)
    values[0, 0] = 1e6
    out = Standardise(2)(values, mask)
    assert out.abs().max() == 10
    assert (out[:, 1] == 0).all()

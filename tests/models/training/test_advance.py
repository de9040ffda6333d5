"""A step of several batches is that of one; a gradient that is too long is cut; nothing is applied by half."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from loaders import Batch
from loaders.errors import InputError
from models.frontend.front_end import FrontEnd
from models.training.advance import GRADIENT_NORM, Advance
from models.training.tasks.task import Step

NO_FRONT_END = cast(FrontEnd, None)


def square_error(batch: Any, network: nn.Module, front_end: FrontEnd) -> Step:
    """A mean over the rows of a batch, which is (B, 4) numbers here."""
    loss = F.mse_loss(network(batch[:, :3]).squeeze(1), batch[:, 3])
    return Step(loss, {"largest": batch[:, 3].max()})


class Trainee:
    """A small network and plain gradient descent: a weight's change is its gradient."""

    def __init__(self, network: nn.Module, **settings: Any) -> None:
        accelerator = Accelerator(cpu=True)
        self.network, optimizer = accelerator.prepare(
            copy.deepcopy(network), torch.optim.SGD(network.parameters(), lr=0.1)
        )
        optimizer.param_groups[0]["params"] = list(self.network.parameters())
        self.advance = Advance(accelerator, optimizer, square_error, **settings)

    def __call__(self, rows: Tensor) -> Step | None:
        return self.advance(cast(Batch, rows), self.network, NO_FRONT_END)

    @property
    def weights(self) -> Tensor:
        return torch.cat([each.detach().flatten() for each in self.network.parameters()])


@given(accumulate=st.integers(1, 5), rows=st.integers(1, 6), seed=st.integers(0, 1 << 30))
@settings(max_examples=15, deadline=None)
def test_several_batches_make_the_step_of_one_that_is_as_large(accumulate: int, rows: int, seed: int) -> None:
    torch.manual_seed(seed)
    network = nn.Linear(3, 1)
    several, one = Trainee(network, accumulate=accumulate, clip=1.0), Trainee(network, clip=1.0)
    for _ in range(3):
        whole = torch.randn(accumulate * rows, 4)
        before = several.weights
        *first, last = whole.split(rows)
        for part in first:
            assert several(part) is None
            assert several.weights.equal(before)
        taken, expected = several(last), one(whole)
        assert taken is not None
        assert expected is not None
        torch.testing.assert_close(several.weights, one.weights)
        torch.testing.assert_close(taken.loss, expected.loss)
        torch.testing.assert_close(taken.logged[GRADIENT_NORM], expected.logged[GRADIENT_NORM])
        means = torch.stack([part[:, 3].max() for part in whole.split(rows)]).mean()
        torch.testing.assert_close(taken.logged["largest"], means)


@pytest.mark.parametrize("clip", [0.0, 0.01, 1e6])
def test_a_gradient_is_cut_to_the_length_that_was_asked_for(clip: float) -> None:
    torch.manual_seed(0)
    network, rows = nn.Linear(3, 1), torch.randn(6, 4)
    reference = copy.deepcopy(network)
    square_error(rows, reference, NO_FRONT_END).loss.backward()
    gradient = torch.cat([each.grad.flatten() for each in reference.parameters() if each.grad is not None])
    trainee = Trainee(network, clip=clip)
    before = trainee.weights
    taken = trainee(rows)
    assert taken is not None
    # The length that is told is that before it is cut.
    torch.testing.assert_close(taken.logged[GRADIENT_NORM], gradient.norm())
    share = min(1.0, clip / float(gradient.norm())) if clip else 1.0
    torch.testing.assert_close(trainee.weights, before - 0.1 * share * gradient)


def test_accelerates_own_accumulation_is_refused() -> None:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=3)
    optimizer = torch.optim.SGD(nn.Linear(3, 1).parameters())
    with pytest.raises(InputError, match="--accumulate 3"):
        Advance(accelerator, optimizer, square_error)

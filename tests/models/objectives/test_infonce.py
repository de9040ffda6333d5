"""InfoNCE and the masked margin softmax are their formulas, and learn what they say they do."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from loaders.errors import InputError
from models.objectives.infonce import InfoNCE, InfoNCEConfig, both_ways, recall
from models.objectives.margin_softmax import MarginSoftmaxConfig


def by_loops(scores: Tensor, negative: Tensor, margin: float = 0.0) -> tuple[float, float]:
    """Of rows and of columns the mean of −log(e^(own − δ) / (e^(own − δ) + Σ of negatives e^other))."""
    count = len(scores)
    found = []
    for z, mask in ((scores.tolist(), negative.tolist()), (scores.T.tolist(), negative.T.tolist())):
        total = 0.0
        for i in range(count):
            own = math.exp(z[i][i] - margin)
            others = sum(math.exp(z[i][j]) for j in range(count) if mask[i][j])
            total -= math.log(own / (own + others)) / count
        found.append(total)
    return found[0], found[1]


def case(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Scores, and which are negatives: of clips of some three videos."""
    generator = torch.Generator().manual_seed(seed)
    video = torch.randint(0, 3, (count,), generator=generator)
    return torch.randn(count, count, generator=generator) * 3, video[:, None] != video[None]


@given(seed=st.integers(0, 1 << 30), count=st.integers(1, 7), temperature=st.floats(0.2, 4))
@settings(max_examples=25, deadline=None)
def test_they_are_the_published_formulas(seed: int, count: int, temperature: float) -> None:
    scores, negative = case(seed, count)
    rows, columns = by_loops(scores / temperature, negative)
    loss = InfoNCEConfig(temperature=temperature).objective(1.0)(scores, negative)
    assert float(loss.detach()) == pytest.approx((rows + columns) / 2, rel=1e-4, abs=1e-5)
    margin = MarginSoftmaxConfig(temperature=temperature, softmax_margin=0.3).objective(1.0)
    expected = sum(by_loops(scores / temperature, negative, 0.3))
    assert float(margin(scores, negative).detach()) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_what_is_masked_has_no_part_and_no_gradient() -> None:
    scores, negative = case(0, 6)
    scores.requires_grad_()
    torch.stack(both_ways(scores, negative)).sum().backward()
    assert scores.grad is not None
    counted = negative | torch.eye(6, dtype=torch.bool)
    assert not counted.all()
    assert (scores.grad[counted] != 0).all()
    assert (scores.grad[~counted] == 0).all()


def test_recall_counts_the_rows_and_columns_whose_own_is_ahead() -> None:
    scores = torch.tensor([[1.0, 5.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, 3.0]])
    everyone = ~torch.eye(3, dtype=torch.bool)
    # Rows: 5 is ahead of 1. Columns: 5 is ahead of 2.
    assert float(recall(scores, everyone)) == pytest.approx(4 / 6)
    alike = everyone.clone()
    alike[0, 1] = alike[1, 0] = False
    assert float(recall(scores, alike)) == 1


def test_a_temperature_is_the_networks_own_or_that_which_is_given_and_is_learnt_on_demand() -> None:
    scores, negative = case(1, 5)
    own, fixed = InfoNCEConfig().objective(0.1), InfoNCEConfig(temperature=2.0, learn_temperature=False).objective(0.1)
    assert isinstance(own, InfoNCE)
    assert float(own.logged()["temperature"]) == pytest.approx(0.1)
    assert not list(fixed.parameters())
    assert "log_temperature" in fixed.state_dict()
    descent = torch.optim.SGD(own.parameters(), lr=0.05)
    before = float(own(scores, negative).detach())
    for _ in range(20):
        descent.zero_grad()
        own(scores, negative).backward()
        descent.step()
    assert float(own(scores, negative).detach()) < before
    with torch.no_grad():
        own.log_temperature.fill_(-20.0)
    own(scores, negative).backward()
    assert float(own.logged()["temperature"]) == pytest.approx(0.01)


def test_the_margin_grows_every_thousand_batches_of_training() -> None:
    scores, negative = case(2, 4)
    margin = MarginSoftmaxConfig(softmax_margin=0.001, softmax_margin_growth=1.002).objective(1.0)
    margin.batches.fill_(999)
    assert float(margin.margin) == pytest.approx(0.001)
    margin.eval()(scores, negative)
    assert int(margin.batches) == 999
    margin.train()(scores, negative)
    assert float(margin.margin) == pytest.approx(0.001 * 1.002)
    margin.batches.fill_(100_000)
    assert float(margin.margin) == pytest.approx(0.001 * 1.002**100)
    again = MarginSoftmaxConfig(softmax_margin=0.001, softmax_margin_growth=1.002).objective(1.0)
    again.load_state_dict(margin.state_dict())  # as a checkpoint brings it back
    assert torch.equal(again.margin, margin.margin)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"temperature": 0.0}, "--temperature is 0.0"),
        ({"softmax_margin": -1.0}, "--softmax-margin is -1.0"),
        ({"softmax_margin_growth": 0.5}, "--softmax-margin-growth is 0.5"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        MarginSoftmaxConfig(**settings)

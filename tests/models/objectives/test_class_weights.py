"""Class weights against their formulas, and the weighted cross entropy against torch's."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.objectives.class_weights import ClassWeighting, class_weights
from models.objectives.targets import NO_CLASS, cross_entropy

COUNTS = [812, 26, 301, 0, 5]
KINDS: tuple[ClassWeighting, ...] = ("inverse", "inverse_sqrt", "effective")


def test_inverse_weights_are_those_of_scikit_learn() -> None:
    # sklearn.utils.class_weight.compute_class_weight("balanced"): n_samples / (n_classes * count), of what there is
    there = [count for count in COUNTS if count]
    expected = [sum(there) / (len(there) * count) if count else 0 for count in COUNTS]
    assert class_weights(COUNTS, "inverse") == pytest.approx(expected)


def test_weights_are_in_the_proportions_of_their_formulas() -> None:
    roots, effective = class_weights(COUNTS, "inverse_sqrt"), class_weights(COUNTS, "effective")
    assert roots[1] / roots[0] == pytest.approx((812 / 26) ** 0.5)
    number = [sum(0.999**n for n in range(count)) for count in COUNTS]  # Cui et al., formula 2 as a sum
    assert effective[1] / effective[0] == pytest.approx(number[0] / number[1])
    assert effective[4] / effective[2] == pytest.approx(number[2] / number[4])


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=8), st.sampled_from(KINDS))
def test_weights_have_a_mean_of_one_over_the_samples_and_rarer_classes_never_less(
    counts: list[int], kind: ClassWeighting
) -> None:
    weights = class_weights(counts, kind)
    if sum(counts):
        assert sum(w * n for w, n in zip(weights, counts, strict=True)) / sum(counts) == pytest.approx(1)
    by_count = sorted((n, w) for n, w in zip(counts, weights, strict=True) if n)
    assert all(w >= v - 1e-9 for (_, w), (_, v) in pairwise(by_count))
    assert all(w == 0 for n, w in zip(counts, weights, strict=True) if n == 0)


def test_another_weighting_is_none() -> None:
    with pytest.raises(ValueError, match="not one of inverse, inverse_sqrt, effective"):
        class_weights([1], "balanced")  # type: ignore[arg-type]


def test_the_weighted_cross_entropy_is_torchs() -> None:
    torch.manual_seed(0)
    logits = torch.randn(32, 5, requires_grad=True)
    code = torch.randint(-1, 5, (32,))
    weights = class_weights(COUNTS, "effective")
    oracle = torch.nn.CrossEntropyLoss(torch.tensor(weights), ignore_index=NO_CLASS)
    own, other = cross_entropy(logits, code, weights), oracle(logits, code)
    assert own.item() == pytest.approx(other.item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(own, logits)
    (expected,) = torch.autograd.grad(oracle(logits, code), logits)
    assert torch.allclose(gradient, expected, atol=1e-7)
    # With equal weights it is the plain one.
    assert cross_entropy(logits, code, (2.0,) * 5).item() == pytest.approx(cross_entropy(logits, code).item(), rel=1e-6)


def test_nothing_that_counts_is_a_loss_of_nothing() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    for code, weights in (([-1, -1, -1], (1.0, 1.0)), ([1, 1, -1], (1.0, 0.0))):
        loss = cross_entropy(logits, torch.tensor(code), weights)
        assert loss.item() == 0
        (gradient,) = torch.autograd.grad(loss, logits)
        assert (gradient == 0).all()

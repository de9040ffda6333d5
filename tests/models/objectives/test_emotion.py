"""The vectorised triplet loss is the published sum over loops; unlabelled rows take no part; nothing becomes NaN."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.objectives.emotion import EmotionLossConfig, emotion_loss, triplet_loss
from models.systems.emotion import EmotionOutput


def by_loops(a: Tensor, b: Tensor, label: list[int], margin: float | None, mean: bool) -> Tensor:
    """Anchor by anchor, as formulas 3.1 and 3.2 of the thesis read."""
    terms = []
    for i, own in enumerate(label):
        if own == -1:
            continue
        positives = [(a[i] - b[j]).norm() for j, other in enumerate(label) if j != i and other == own]
        negatives = [(a[i] - b[j]).norm() for j, other in enumerate(label) if other not in (own, -1)]
        if not positives or not negatives:
            continue
        term = max(positives) - min(negatives)
        terms.append(term if margin is None else torch.clamp(term + margin, min=0))
    if not terms:
        return (a.sum() + b.sum()) * 0
    total = torch.stack(terms).sum()
    return total / len(terms) if mean else total


@given(
    label=st.lists(st.integers(-1, 3), min_size=1, max_size=12),
    seed=st.integers(0, 2**31),
    margin=st.sampled_from([None, 0.0, 0.5]),
    mean=st.booleans(),
    intra=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_loops_gradients_included(
    label: list[int], seed: int, margin: float | None, mean: bool, intra: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(len(label), 5, generator=generator, requires_grad=True)
    b = a if intra else torch.randn(len(label), 5, generator=generator, requires_grad=True)
    wrt = [a] if intra else [a, b]
    got = triplet_loss(a, b, torch.tensor(label), margin, "mean" if mean else "sum")
    expected = by_loops(a, b, label, margin, mean)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    got_gradients, expected_gradients = torch.autograd.grad(got, wrt), torch.autograd.grad(expected, wrt)
    torch.testing.assert_close(got_gradients, expected_gradients, rtol=1e-3, atol=1e-4)


def test_many_rows_of_far_away_embeddings_are_exact() -> None:
    # More rows than torch's cdist takes by differences of its own accord, and offsets that cancel badly in products.
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(60, 8, generator=generator) + 300
    label = torch.arange(60) % 4
    expected = by_loops(a.double(), a.double(), label.tolist(), None, False)
    torch.testing.assert_close(triplet_loss(a, a, label).double(), expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("n", [4, 40])
def test_gradients_are_finite_where_embeddings_are_identical(n: int) -> None:
    a = torch.ones(n, 6, requires_grad=True)
    loss = triplet_loss(a, a, torch.arange(n) % 2)
    loss.backward()
    assert loss.item() == 0
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_the_same_instance_in_the_other_modality_is_not_a_positive() -> None:
    a = torch.tensor([[0.0], [0.0], [10.0]])
    b = torch.tensor([[100.0], [1.0], [4.0]])
    # Anchor 0: its other instance is 1 away (its own image, 100 away, does not count), the negative 4. Anchor 1 is 100
    # from instance 0. Anchor 2 has no positive.
    assert float(triplet_loss(a, b, torch.tensor([5, 5, 6]))) == pytest.approx((1 - 4) + (100 - 4))


def output(n: int, seed: int = 0) -> EmotionOutput:
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(n, size, generator=generator, requires_grad=True) for size in (5, 5, 7, 7, 7)]
    return EmotionOutput(
        audio=parts[0], visual=parts[1], logits_audio=parts[2], logits_visual=parts[3], logits_joint=parts[4]
    )


def test_the_total_is_the_published_sum() -> None:
    out, label = output(8), torch.tensor([0, 0, 1, 1, 2, 2, 0, 3])
    loss = emotion_loss(out, label, EmotionLossConfig(joint=0.0))
    a, v = out.audio, out.visual
    assert a is not None
    assert v is not None
    assert out.logits_audio is not None
    assert out.logits_visual is not None
    triplets = sum(by_loops(x, y, label.tolist(), None, False) for x, y in ((a, v), (a, a), (v, v)))
    expected = 0.1 * triplets + F.cross_entropy(out.logits_audio, label) + F.cross_entropy(out.logits_visual, label)
    torch.testing.assert_close(loss.total, expected)


def test_rows_without_a_label_take_no_part() -> None:
    out, label = output(9), torch.tensor([0, -1, 0, 1, 1, -1, 2, 2, -1])
    loss = emotion_loss(out, label)
    kept = label >= 0
    parts = {name: getattr(out, name)[kept] for name in ("audio", "visual")}
    logits = {name: getattr(out, name)[kept] for name in ("logits_audio", "logits_visual", "logits_joint")}
    torch.testing.assert_close(loss.total, emotion_loss(EmotionOutput(**parts, **logits), label[kept]).total)
    loss.total.backward()
    for part in (out.audio, out.visual, out.logits_audio, out.logits_visual, out.logits_joint):
        assert part is not None
        assert part.grad is not None
        assert (part.grad[~kept] == 0).all()
        assert part.grad[kept].abs().sum() > 0


def test_a_batch_without_labels_gives_zero_and_no_gradient() -> None:
    out = output(4)
    loss = emotion_loss(out, torch.full((4,), -1))
    loss.total.backward()
    assert loss.total.item() == 0
    assert out.logits_audio is not None
    assert out.logits_audio.grad is not None
    assert (out.logits_audio.grad == 0).all()


def test_both_modalities_are_needed() -> None:
    nothing = EmotionOutput(audio=None, visual=None, logits_audio=None, logits_visual=None, logits_joint=None)
    with pytest.raises(ValueError, match="both"):
        emotion_loss(nothing, torch.zeros(2, dtype=torch.int64))

"""The triplet loss is the published sum over loops; rows without a label take no part; nothing becomes NaN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import nan
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from loaders.dataset.labels import Label
from models.objectives.targets import (
    PUBLISHED,
    NumberLoss,
    TargetLossConfig,
    number_loss,
    target_loss,
    triplet_loss,
)
from models.systems.targets import TargetOutput
from models.training.agreement import agreement


def by_loops(
    a: Tensor, b: Tensor, label: list[int], margin: float | None, mean: bool, same_instance: bool = False
) -> Tensor:
    """Anchor by anchor, as formulas 3.1 and 3.2 of the thesis read."""
    terms = []
    for i, own in enumerate(label):
        if own == -1:
            continue
        positives = [
            (a[i] - b[j]).norm() for j, other in enumerate(label) if other == own and (j != i or same_instance)
        ]
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
    same_instance=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_loops_gradients_included(
    label: list[int], seed: int, margin: float | None, mean: bool, intra: bool, same_instance: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(len(label), 5, generator=generator, requires_grad=True)
    b = a if intra else torch.randn(len(label), 5, generator=generator, requires_grad=True)
    wrt = [a] if intra else [a, b]
    same_instance = same_instance and not intra
    reduction: Literal["sum", "mean"] = "mean" if mean else "sum"
    got = triplet_loss(a, b, torch.tensor(label), margin, reduction, same_instance=same_instance)
    expected = by_loops(a, b, label, margin, mean, same_instance)
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


def test_the_same_instance_may_be_asked_to_be_a_positive() -> None:
    a = torch.tensor([[0.0], [0.0], [10.0]])
    b = torch.tensor([[100.0], [1.0], [4.0]])
    # Anchors 0 and 1 are farthest from instance 0, and anchor 2 has its own image.
    loss = triplet_loss(a, b, torch.tensor([5, 5, 6]), same_instance=True)
    assert float(loss) == pytest.approx((100 - 4) + (100 - 4) + (6 - 9))


@given(s=st.floats(0.1, 1000))
@settings(max_examples=20, deadline=None)
def test_the_published_loss_has_no_least_value_and_one_with_a_margin_has(s: float) -> None:
    a, label = torch.tensor([[s], [s], [-s], [-s]]), torch.tensor([0, 0, 1, 1])
    assert float(triplet_loss(a, a, label)) == pytest.approx(-8 * s, rel=1e-5)
    assert float(triplet_loss(a, a, label, 0.2, "mean")) == pytest.approx(max(0.0, 0.2 - 2 * s), abs=1e-5)


def test_by_default_embeddings_count_by_their_direction() -> None:
    out, label = output(8), {"mood": torch.tensor([0, 0, 1, 1, 2, 2, 0, 3])}
    assert out.audio is not None
    assert out.visual is not None
    longer = replace(out, audio=7 * out.audio, visual=out.visual * torch.arange(1.0, 9.0)[:, None])
    one, other = target_loss(out, label), target_loss(longer, label)
    assert one.triplet is not None
    torch.testing.assert_close(other.triplet, one.triplet, rtol=1e-4, atol=1e-5)
    a, v = (x / x.norm(dim=1, keepdim=True) for x in (out.audio, out.visual))
    codes = label["mood"].tolist()
    own = replace(TargetLossConfig(), same_instance=True)
    expected = (
        by_loops(a, v, codes, 0.2, True, True) + by_loops(a, a, codes, 0.2, True) + by_loops(v, v, codes, 0.2, True)
    )
    torch.testing.assert_close(target_loss(out, label, own).triplet, expected, rtol=1e-4, atol=1e-5)


MOOD = Label(name="mood", classes=tuple("abcdefg"))
VALENCE = Label(name="valence", low=-1.0, high=1.0)
PLACE = Label(name="place", classes=("in", "out"))
ALL = (MOOD, VALENCE, PLACE)


def output(n: int, targets: tuple[Label, ...] = (MOOD,), seed: int = 0) -> TargetOutput:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, requires_grad=True)

    def said() -> dict[str, Tensor]:
        return {t.name: drawn(n) if t.classes is None else drawn(n, len(t.classes)) for t in targets}

    audio, visual = drawn(n, 5), drawn(n, 5)
    return TargetOutput(
        audio=audio,
        visual=visual,
        from_audio=said(),
        from_visual=said(),
        from_joint=said(),
        targets=targets,
        scale={t.name: torch.tensor(0.5) for t in targets if t.classes is None},
    )


def tensors(out: TargetOutput) -> list[Tensor]:
    """All that has a gradient."""
    assert out.audio is not None
    assert out.visual is not None
    found = [out.audio, out.visual]
    for said in (out.from_audio, out.from_visual, out.from_joint):
        assert said is not None
        found += said.values()
    return found


def formula_of_one_label(out: TargetOutput, label: Tensor, alpha: float, joint: float) -> Tensor:
    """The loss of one label as it was written before there were others: by formulas 3.3 and 3.4 of the thesis."""
    assert out.audio is not None
    assert out.visual is not None
    triplet = torch.stack(
        [
            triplet_loss(x, y, label)
            for x, y in ((out.audio, out.visual), (out.audio, out.audio), (out.visual, out.visual))
        ]
    ).sum()

    def cross_entropy(said: Mapping[str, Tensor] | None) -> Tensor:
        assert said is not None
        [logits] = said.values()
        return F.cross_entropy(logits, label, ignore_index=-1, reduction="sum") / (label != -1).sum().clamp(min=1)

    return (
        alpha * triplet
        + cross_entropy(out.from_audio)
        + cross_entropy(out.from_visual)
        + joint * cross_entropy(out.from_joint)
    )


def test_of_one_label_the_total_is_the_published_sum() -> None:
    out, label = output(8), torch.tensor([0, 0, 1, 1, 2, 2, 0, 3])
    loss = target_loss(out, {"mood": label}, replace(PUBLISHED, joint=0.0))
    a, v = out.audio, out.visual
    assert a is not None
    assert v is not None
    assert out.from_audio is not None
    assert out.from_visual is not None
    triplets = sum(by_loops(x, y, label.tolist(), None, False) for x, y in ((a, v), (a, a), (v, v)))
    expected = 0.1 * triplets
    expected = expected + F.cross_entropy(out.from_audio["mood"], label)
    expected = expected + F.cross_entropy(out.from_visual["mood"], label)
    torch.testing.assert_close(loss.total, expected)


@given(label=st.lists(st.integers(-1, 6), min_size=1, max_size=12), alpha=st.sampled_from([0.0, 0.1, 1.0]))
@settings(max_examples=20, deadline=None)
def test_of_one_label_the_total_and_its_gradients_are_to_the_bit_what_they_were(label: list[int], alpha: float) -> None:
    """By which a run of a seed ends where it ended before a network could have several targets."""
    out, code = output(len(label)), torch.tensor(label)
    loss = target_loss(out, {"mood": code}, replace(PUBLISHED, alpha=alpha))
    expected = formula_of_one_label(out, code, alpha, 1.0)
    assert torch.equal(loss.total, expected)
    wrt = tensors(out)
    gradients = torch.autograd.grad(loss.total, wrt, allow_unused=True)
    for got, wanted in zip(gradients, torch.autograd.grad(expected, wrt, allow_unused=True), strict=True):
        assert got is not None
        assert wanted is not None
        assert torch.equal(got, wanted)


STATED = {
    "mood": torch.tensor([0, -1, 0, 1, 1, -1, 2, 2, -1]),
    "valence": torch.tensor([0.5, -0.25, nan, nan, 1.0, -1.0, nan, 0.0, nan]),
    "place": torch.tensor([-1, -1, 1, 0, -1, 1, 0, -1, -1]),
}


@pytest.mark.parametrize("kind", ["ccc", "mse"])
def test_rows_without_a_label_take_no_part_in_its_loss(kind: NumberLoss) -> None:
    out, config = output(9, ALL), TargetLossConfig(number=kind)
    loss = target_loss(out, STATED, config)
    parts = (loss.audio, loss.visual, loss.joint)
    weighted = sum((value for part in parts for value in part.values()), torch.tensor(0.0))
    assert loss.triplet is not None
    torch.testing.assert_close(loss.total, 0.1 * loss.triplet + weighted)
    # Of each target the loss is that of the rows that have it, alone.
    there = {name: values >= 0 if values.dtype == torch.int64 else values.isfinite() for name, values in STATED.items()}
    for target in ALL:
        kept = there[target.name]
        some = TargetOutput(
            audio=pick(out.audio, kept),
            visual=pick(out.visual, kept),
            from_audio={target.name: pick(of(out.from_audio, target.name), kept)},
            from_visual={target.name: pick(of(out.from_visual, target.name), kept)},
            from_joint={target.name: pick(of(out.from_joint, target.name), kept)},
            targets=(target,),
            scale=out.scale,
        )
        alone = target_loss(some, {target.name: STATED[target.name][kept]}, config)
        for one, other in zip((alone.audio, alone.visual, alone.joint), parts, strict=True):
            torch.testing.assert_close(one[target.name], other[target.name])
    loss.total.backward()
    for said in (out.from_audio, out.from_visual, out.from_joint):
        assert said is not None
        for name, predicted in said.items():
            assert predicted.grad is not None
            assert predicted.grad.isfinite().all()
            assert (predicted.grad[~there[name]] == 0).all()
            assert (predicted.grad[there[name]] != 0).any()
    # The triplet terms are of the first target that has classes.
    for embedding in (out.audio, out.visual):
        assert embedding is not None
        assert embedding.grad is not None
        assert (embedding.grad[~there["mood"]] == 0).all()
        assert (embedding.grad[there["mood"]] != 0).any()


def of(said: Mapping[str, Tensor] | None, name: str) -> Tensor:
    assert said is not None
    return said[name]


def pick(tensor: Tensor | None, rows: Tensor) -> Tensor:
    assert tensor is not None
    return tensor[rows]


@pytest.mark.parametrize("kind", ["ccc", "mse"])
def test_a_batch_without_labels_gives_zero_and_no_gradient(kind: NumberLoss) -> None:
    out = output(4, ALL)
    none = torch.full((4,), -1)
    stated = {"mood": none, "place": none, "valence": torch.full((4,), nan)}
    loss = target_loss(out, stated, TargetLossConfig(number=kind))
    loss.total.backward()
    assert loss.total.item() == 0
    for tensor in tensors(out):
        assert tensor.grad is not None
        assert (tensor.grad == 0).all()


def test_each_target_counts_by_its_weight() -> None:
    out = output(9, ALL)
    plain = target_loss(out, STATED, TargetLossConfig(alpha=0.0))
    weighted = target_loss(out, STATED, TargetLossConfig(alpha=0.0, weights=(1.0, 0.5, 3.0)))
    expected = sum(
        weight * (plain.audio[t.name] + plain.visual[t.name] + plain.joint[t.name])
        for t, weight in zip(ALL, (1.0, 0.5, 3.0), strict=True)
    )
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(weighted.total, expected)


def test_without_classes_there_is_no_triplet_term() -> None:
    out = output(9, (VALENCE,))
    loss = target_loss(out, STATED)
    assert loss.triplet is None
    torch.testing.assert_close(loss.total, loss.audio["valence"] + loss.visual["valence"] + loss.joint["valence"])


def test_both_modalities_are_needed() -> None:
    nothing = TargetOutput(
        audio=None, visual=None, from_audio=None, from_visual=None, from_joint=None, targets=(MOOD,), scale={}
    )
    with pytest.raises(ValueError, match="both"):
        target_loss(nothing, {"mood": torch.zeros(2, dtype=torch.int64)})


# -- numbers

NUMBERS = st.lists(st.floats(-8, 8, width=32), min_size=3, max_size=20)


def varied(values: list[float]) -> Tensor:
    """No two of them alike, so that all has a spread."""
    return torch.tensor(values) + torch.linspace(0, 1, len(values)) ** 2


@given(values=NUMBERS, seed=st.integers(0, 1 << 30), missing=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_the_concordance_is_that_of_the_scores_over_the_stated_rows(
    values: list[float], seed: int, missing: int
) -> None:
    stated = varied(values)
    predicted = torch.randn(len(values), generator=torch.Generator().manual_seed(seed), requires_grad=True)
    stated = torch.cat([stated, torch.full((missing,), nan)])
    said = torch.cat([predicted, torch.full((missing,), 1e6)])
    loss = number_loss(said, stated, torch.tensor(0.5))
    scored = agreement(said.detach().numpy(), stated.numpy())
    assert loss.item() == pytest.approx(1 - scored.ccc, abs=1e-4)
    assert 0 - 1e-5 <= loss.item() <= 2 + 1e-5
    [gradient] = torch.autograd.grad(loss, predicted)
    assert gradient.isfinite().all()


@given(values=NUMBERS, shift=st.floats(-3, 3, width=32), stretch=st.floats(0.5, 2, width=32))
@settings(max_examples=40, deadline=None)
def test_concordance_is_one_of_equals_alone_and_does_not_know_units(
    values: list[float], shift: float, stretch: float
) -> None:
    one = torch.tensor(1.0)
    stated = varied(values)
    assert number_loss(stated, stated, one).item() == pytest.approx(0, abs=1e-5)
    other = stated.flip(0) * 0.7 + 0.1
    there = number_loss(other, stated, one)
    both = number_loss(stretch * other + shift, stretch * stated + shift, torch.tensor(stretch))
    torch.testing.assert_close(both, there, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(number_loss(stated, other, one), there, rtol=1e-3, atol=1e-3)
    # Correlated without fault, and yet no agreement: another mean, another spread.
    far = stated + 10 * stated.std()
    assert number_loss(far, stated, one).item() > 0.5
    assert number_loss(10 * (stated - stated.mean()), stated - stated.mean(), one).item() > 0.5


def test_numbers_that_do_not_vary_have_no_gradient_that_is_no_number() -> None:
    for stated in ([0.5, 0.5, 0.5], [0.5, nan, nan], [nan, nan, nan], [0.5, 0.5, nan]):
        predicted = torch.full((3,), 0.5, requires_grad=True)
        loss = number_loss(predicted, torch.tensor(stated), torch.tensor(1.0))
        [gradient] = torch.autograd.grad(loss, predicted)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_a_mean_square_is_in_standard_deviations() -> None:
    predicted, stated = torch.tensor([1.0, 5.0, 9.0]), torch.tensor([3.0, 3.0, nan])
    assert number_loss(predicted, stated, torch.tensor(2.0), "mse").item() == pytest.approx(1.0)

"""Answers do not depend on how a split is cut into batches and ranks; an utterance's is the mean of its clips'."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from loaders import ClipLoader
from models.frontend.front_end import FrontEnd
from models.systems.presets import correspondence_net, target_net
from models.training.evaluation import (
    MODALITIES,
    MatchPredictions,
    Predictions,
    TargetPredictions,
    by_utterance,
    join_matches,
    join_predictions,
    match_predictions,
    target_predictions,
)
from tests.datasets import LABELS
from tests.presets import SMALLEST

CPU = torch.device("cpu")
NAMES = [label.name for label in LABELS]


def drawn(utterances: list[int], seed: int) -> Predictions:
    """Of a label with classes and of a number."""
    draw = np.random.default_rng(seed)
    chances = draw.dirichlet(np.ones(7), (3, len(utterances))).astype(np.float32)
    numbers = draw.normal(size=(3, len(utterances))).astype(np.float32)
    return Predictions(
        clip=np.arange(len(utterances)),
        targets={
            "emotion": TargetPredictions(
                stated=np.array([number % 8 - 1 for number in utterances], np.int64),
                by=dict(zip(MODALITIES, chances, strict=True)),
            ),
            "valence": TargetPredictions(
                stated=np.array([number / 10 for number in utterances], np.float32),
                by=dict(zip(MODALITIES, numbers, strict=True)),
            ),
        },
    )


def part(predictions: Predictions, rows: slice) -> Predictions:
    return Predictions(
        clip=predictions.clip[rows],
        targets={
            name: TargetPredictions(stated=of.stated[rows], by={m: said[rows] for m, said in of.by.items()})
            for name, of in predictions.targets.items()
        },
    )


def assert_same(one: Predictions, other: Predictions, atol: float = 0.0) -> None:
    np.testing.assert_array_equal(one.clip, other.clip)
    assert one.targets.keys() == other.targets.keys()
    for name, of in one.targets.items():
        np.testing.assert_array_equal(of.stated, other.targets[name].stated)
        for modality in MODALITIES:
            np.testing.assert_allclose(of.by[modality], other.targets[name].by[modality], rtol=0, atol=atol)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 1 << 30))
def test_an_utterances_answer_is_the_mean_of_its_clips(utterances: list[int], seed: int) -> None:
    predictions = drawn(utterances, seed)
    of_utterance: dict[int, list[int]] = defaultdict(list)
    for clip, number in enumerate(utterances):
        of_utterance[number].append(clip)
    joined = by_utterance(predictions, np.array(utterances))
    for row, (number, clips) in enumerate(sorted(of_utterance.items())):
        assert joined.targets["emotion"].stated[row] == number % 8 - 1
        assert joined.targets["valence"].stated[row] == np.float32(number / 10)
        for name, of in predictions.targets.items():
            for modality in MODALITIES:
                mean = of.by[modality][clips].mean(0)
                np.testing.assert_allclose(joined.targets[name].by[modality][row], mean, rtol=1e-5, atol=1e-6)
    assert len(joined.clip) == len(of_utterance)


@given(st.integers(0, 20), st.integers(0, 20))
def test_the_answers_of_ranks_are_joined_in_their_order(one: int, other: int) -> None:
    predictions = drawn([*range(one + other)], 0)
    joined = join_predictions([part(predictions, slice(one)), part(predictions, slice(one, None))])
    assert_same(joined, predictions)


def test_answers_do_not_depend_on_batches_and_ranks(dataset: Path) -> None:
    torch.manual_seed(0)
    front_end, network, pairing = (
        FrontEnd(SMALLEST.front_end),
        target_net(SMALLEST, LABELS),
        correspondence_net(SMALLEST, "l3"),
    )

    def answered(batch_size: int, rank: int = 0, world_size: int = 1) -> Predictions:
        with ClipLoader(
            dataset, "test", batch_size=batch_size, negatives=None, rank=rank, world_size=world_size, targets=NAMES
        ) as loader:
            return target_predictions(front_end, network, loader, CPU)

    def in_order(predictions: Predictions) -> Predictions:
        return by_utterance(predictions, predictions.clip)

    whole = answered(64)
    assert len(whole.clip) > 10
    # Five at a time leave a rank without clips in the last step.
    for parts in ([answered(3)], [answered(5, rank, 3) for rank in range(3)]):
        assert_same(in_order(join_predictions(parts)), in_order(whole), atol=1e-5)

    def paired(batch_size: int, rank: int = 0, world_size: int = 1) -> MatchPredictions:
        with ClipLoader(dataset, "test", batch_size=batch_size, rank=rank, world_size=world_size) as loader:
            return match_predictions(front_end, pairing, loader, CPU)

    once = paired(7)
    assert sorted(once.clip) == sorted(whole.clip)
    assert (once.match == (once.clip == once.audio_clip)).all()
    for parts in ([paired(3)], [paired(5, rank, 3) for rank in range(3)]):
        joined = join_matches(parts)
        order, known = np.argsort(joined.clip), np.argsort(once.clip)
        for name in ("clip", "audio_clip", "match"):
            np.testing.assert_array_equal(getattr(joined, name)[order], getattr(once, name)[known])
        np.testing.assert_allclose(joined.probability[order], once.probability[known], rtol=0, atol=1e-5)

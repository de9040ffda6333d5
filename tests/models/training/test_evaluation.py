"""Answers do not depend on how a split is cut into batches and ranks; an utterance's is the mean of its clips'."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from loaders import ClipLoader
from models.frontend.front_end import FrontEnd
from models.systems.presets import correspondence_net, emotion_net
from models.training.evaluation import (
    EmotionPredictions,
    by_utterance,
    emotion_predictions,
    join_predictions,
    match_confusion,
)
from tests.presets import SMALLEST

CPU = torch.device("cpu")


def drawn(utterances: list[int], seed: int) -> EmotionPredictions:
    draw = np.random.default_rng(seed)
    chances = draw.dirichlet(np.ones(7), (3, len(utterances))).astype(np.float32)
    return EmotionPredictions(
        clip=np.arange(len(utterances)),
        emotion=np.array([number % 8 - 1 for number in utterances], np.int64),
        audio=chances[0],
        visual=chances[1],
        joint=chances[2],
    )


def part(predictions: EmotionPredictions, rows: slice) -> EmotionPredictions:
    return EmotionPredictions(
        **{field.name: getattr(predictions, field.name)[rows] for field in dataclasses.fields(predictions)}
    )


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 1 << 30))
def test_an_utterances_answer_is_the_mean_of_its_clips(utterances: list[int], seed: int) -> None:
    predictions = drawn(utterances, seed)
    of_utterance: dict[int, list[int]] = defaultdict(list)
    for clip, number in enumerate(utterances):
        of_utterance[number].append(clip)
    joined = by_utterance(predictions, np.array(utterances))
    for row, (number, clips) in enumerate(sorted(of_utterance.items())):
        assert joined.emotion[row] == number % 8 - 1
        for name in ("audio", "visual", "joint"):
            np.testing.assert_allclose(getattr(joined, name)[row], getattr(predictions, name)[clips].mean(0), rtol=1e-5)
    assert len(joined.clip) == len(of_utterance)


@given(st.integers(0, 20), st.integers(0, 20))
def test_the_answers_of_ranks_are_joined_in_their_order(one: int, other: int) -> None:
    predictions = drawn([*range(one + other)], 0)
    joined = join_predictions([part(predictions, slice(one)), part(predictions, slice(one, None))])
    for field in dataclasses.fields(predictions):
        np.testing.assert_array_equal(getattr(joined, field.name), getattr(predictions, field.name))


def test_answers_do_not_depend_on_batches_and_ranks(dataset: Path) -> None:
    torch.manual_seed(0)
    front_end, network, pairing = (
        FrontEnd(SMALLEST.front_end),
        emotion_net(SMALLEST),
        correspondence_net(SMALLEST, "l3"),
    )

    def answered(batch_size: int, rank: int = 0, world_size: int = 1) -> EmotionPredictions:
        with ClipLoader(
            dataset, "test", batch_size=batch_size, negatives=None, rank=rank, world_size=world_size
        ) as loader:
            return emotion_predictions(front_end, network, loader, CPU)

    whole = answered(64)
    assert len(whole.clip) > 10
    # Five at a time leave a rank without clips in the last step.
    for parts in ([answered(3)], [answered(5, rank, 3) for rank in range(3)]):
        joined = join_predictions(parts)
        order = np.argsort(joined.clip)
        np.testing.assert_array_equal(joined.clip[order], np.sort(whole.clip))
        np.testing.assert_array_equal(joined.emotion[order], whole.emotion[np.argsort(whole.clip)])
        np.testing.assert_allclose(joined.joint[order], whole.joint[np.argsort(whole.clip)], atol=1e-5)

    with ClipLoader(dataset, "test", batch_size=7) as loader:
        counts = match_confusion(front_end, pairing, loader, CPU)
    assert counts.sum() == len(whole.clip)

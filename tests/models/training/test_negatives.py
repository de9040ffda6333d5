"""What the command line says of negatives is what the loader draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.errors import InputError
from loaders.sampling.negatives import KINDS
from models.training.config import PairsConfig, PretrainConfig, RunConfig, ScheduleConfig, TrainingDataConfig, check
from models.training.negatives import scoring_negatives, told, training_negatives

SHARES = st.dictionaries(st.sampled_from(list(KINDS)), st.floats(0.01, 10), min_size=1)


@given(st.dictionaries(st.integers(0, 99), SHARES), SHARES, st.randoms())
def test_a_schedule_is_read_from_its_words_in_any_order(
    later: dict[int, dict[str, float]], first: dict[str, float], order: Random
) -> None:
    schedule = {**later, 0: first}
    words = [f"{epoch}:{kind}={weight!r}" for epoch, of in schedule.items() for kind, weight in of.items()]
    order.shuffle(words)
    read = training_negatives(words)
    assert read == schedule
    # The order of kinds, which decides what is drawn, is always the same.
    assert [list(of) for of in read.values()] == [[kind for kind in KINDS if kind in of] for of in read.values()]


def test_epoch_0_and_weight_1_need_not_be_said() -> None:
    assert training_negatives(["other_video"]) == {0: {"other_video": 1.0}}
    assert training_negatives(["shifted=3", "2:shifted", "2:other_video=1e-1"]) == {
        0: {"shifted": 3.0},
        2: {"other_video": 0.1, "shifted": 1.0},
    }


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "is empty"),
        (["other_planet"], "--negatives other_planet: write"),
        (["1.5:shifted", "other_video"], "--negatives 1.5:shifted: write"),
        (["-1:shifted"], "--negatives -1:shifted: write"),
        (["other_video=0.5,same_speaker=0.5"], "is no weight"),
        (["other_video=much"], "'much' is no weight"),
        (["other_video=nan"], "--negatives: other_video has weight nan"),
        (["other_video=0"], "no kind has a weight above 0"),
        (["other_video", "0:other_video=2"], "is named for this epoch already"),
        (["3:other_video"], "begins at epoch 3"),
    ],
)
def test_words_that_say_nothing_are_refused(words: list[str], what: str) -> None:
    with pytest.raises(InputError, match=r"^--negatives") as refused:
        training_negatives(words)
    assert what in str(refused.value)


def test_what_holds_after_the_last_epoch_is_refused() -> None:
    config = PretrainConfig(
        data=TrainingDataConfig(data=("vox",)),
        run=RunConfig(output=Path("run")),
        pairs=PairsConfig(negatives=("other_video", "3:same_speaker")),
    )
    check(replace(config, schedule=ScheduleConfig(epochs=4)))
    with pytest.raises(InputError, match="from epoch 3 on has no effect with --epochs 3"):
        check(replace(config, schedule=ScheduleConfig(epochs=3)))


def test_each_kind_is_scored_by_itself_for_as_many_rounds() -> None:
    assert scoring_negatives(["shifted", "other_video"], 3) == {0: {"shifted": 1.0}, 3: {"other_video": 1.0}}
    for kinds, what in (([], "is empty"), (["shifted", "shifted"], "twice"), (["shifted=1"], "shifted=1: use")):
        with pytest.raises(InputError, match=f"^--evaluation-negatives.*{what}"):
            scoring_negatives(kinds, 1)


def test_shares_are_told_in_a_few_words() -> None:
    assert told({"other_video": 2.0, "shifted": 0.0}) == "other_video"
    assert told({"other_video": 0.7, "same_speaker": 0.3}) == "other_video=0.7 same_speaker=0.3"

"""Intervals hold what they promise: networks that know nothing are called other than chance as often as 1 in 20."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from loaders.intervals import wilson
from models.training.intervals import Interval, interval, paired_difference
from models.training.measures import of_classes, of_numbers, of_pairs
from tests.models.training.know_nothing import (
    ANSWERS,
    CLASSES,
    MATCHERS,
    TRUE,
    Draw,
    Drawn,
    Utterances,
    answers,
    one_hot,
    pairs,
    utterances,
)

SPEAKERS = 60
FEW, MANY = 60, 1000


def assert_as_promised(called: Counter[str], simulations: int) -> None:
    """Between 3 and 7 % of many simulations; of few, not further from it than chance would have it once in 1,000."""
    slack = 0.0 if simulations >= MANY else 3.1 * math.sqrt(0.05 * 0.95 / simulations)
    for name, times in called.items():
        assert 0.03 - slack <= times / simulations <= 0.07 + slack, f"{name}: {times} of {simulations}"


def excludes(found: Interval, value: float) -> bool:
    return not found.low <= value <= found.high


@pytest.mark.parametrize("matcher", MATCHERS)
def test_pairs_matched_without_knowledge_are_called_so(matcher: str, full: bool) -> None:
    called, naive = Counter(accuracy=0), 0
    simulations = MANY if full else FEW
    for number in range(simulations):
        draw = np.random.default_rng([SPEAKERS, number])
        drawn = pairs(draw, SPEAKERS, each=3, rounds=8)
        said = (MATCHERS[matcher](draw, drawn) > 0).astype(np.float32)
        called["accuracy"] += excludes(interval(of_pairs(), said, drawn.match, drawn.units), 0.5)
        low, high = wilson(float(np.mean(said == drawn.match)), len(said))
        naive += not low <= 0.5 <= high
    assert_as_promised(called, simulations)
    if matcher == "an embedding a speaker":  # had pairs been independent, as they are not
        assert naive / simulations > 0.3


@pytest.mark.parametrize("kind", ANSWERS)
def test_answers_without_knowledge_are_called_so(kind: str, full: bool) -> None:
    called: Counter[str] = Counter(dict.fromkeys(TRUE, 0))
    simulations = MANY if full else FEW
    for number in range(simulations):
        draw = np.random.default_rng([SPEAKERS, number])
        of = utterances(draw, SPEAKERS, each=5)
        codes, numbers = answers(draw, of, ANSWERS[kind])
        for name, measure in of_classes(CLASSES).items():
            called[name] += excludes(interval(measure, one_hot(codes), of.stated, of.speaker), TRUE[name])
        for name, measure in of_numbers().items():
            called[name] += excludes(interval(measure, numbers, of.number, of.speaker), TRUE[name])
    assert_as_promised(called, simulations)


def runs_of(draw: Draw, of: Utterances, seeds: int, spread: float) -> list[np.ndarray]:
    """Of one recipe: each seed finds its own share of the answers, up to ``spread``."""
    found = []
    for _ in range(seeds):
        codes, _ = answers(draw, of, 0.5)
        found.append(one_hot(np.where(draw.random(len(codes)) < spread * draw.random(), of.stated, codes)))
    return found


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.0), (3, 0.6)])
def test_two_recipes_that_are_alike_are_called_so(seeds: int, spread: float, full: bool) -> None:
    """Of several seeds at most as often as promised: that seeds differ is not taken back where they seem not to."""
    called: Counter[str] = Counter(dict.fromkeys(of_classes(CLASSES), 0))
    simulations = MANY if full else FEW
    for number in range(simulations):
        draw = np.random.default_rng([SPEAKERS, number])
        of = utterances(draw, SPEAKERS, each=5)
        sides = [runs_of(draw, of, seeds, spread) for _ in range(2)]
        for name, measure in of_classes(CLASSES).items():
            called[name] += excludes(paired_difference(measure, *sides, of.stated, of.speaker), 0.0)
    slack = 0.0 if full else 3.1 * math.sqrt(0.05 * 0.95 / simulations)
    for name, times in called.items():
        assert times / simulations <= 0.07 + slack, name
        assert times / simulations >= (0.03 if seeds == 1 else 0.01) - slack, name


def test_a_better_recipe_is_found() -> None:
    draw = np.random.default_rng(0)
    of = utterances(draw, SPEAKERS, each=5)
    good, bad = (
        [one_hot(np.where(draw.random(len(of.stated)) < share, of.stated, 0)) for _ in range(3)] for share in (0.7, 0.5)
    )
    found = paired_difference(of_classes(CLASSES)["micro_f1"], good, bad, of.stated, of.speaker)
    assert 0 < found.low < found.value < found.high < 0.5
    assert found.value == pytest.approx(found.one - found.other)
    assert (found.seeds, found.units) == ((3, 3), SPEAKERS)
    turned = paired_difference(of_classes(CLASSES)["micro_f1"], bad, good, of.stated, of.speaker)
    assert (turned.value, turned.low) == (pytest.approx(-found.value), pytest.approx(-found.high))


def test_two_seeds_that_disagree_have_an_interval_that_can_be_printed() -> None:
    """Of two runs one difference is free: an approximation that says less gave ends of 1e150."""
    draw = np.random.default_rng(1778)
    of = utterances(draw, speakers=6, each=3)
    base = np.where(draw.random(len(of.stated)) < 0.5, of.stated, 0)

    def wrong_about(speakers: int) -> NDArray[np.float64]:
        who = draw.integers(0, 6, speakers)
        return one_hot(np.where(np.isin(of.speaker, who), (of.stated + 1) % CLASSES, base))

    sides = [wrong_about(1), wrong_about(2)], [wrong_about(1), wrong_about(1)]
    found = paired_difference(of_classes(CLASSES)["micro_f1"], *sides, of.stated, of.speaker)
    assert -10 < found.low < found.value < found.high < 10


def test_paired_runs_tell_more_than_each_by_itself() -> None:
    """Runs that fail at the same speakers differ by little, however uncertain each of their scores is."""
    draw = np.random.default_rng(0)
    of = utterances(draw, SPEAKERS, each=5)
    hard = draw.random(SPEAKERS)[of.speaker] < 0.5
    one = np.where(hard, (of.stated + 1) % CLASSES, of.stated)
    other = np.where(draw.random(len(one)) < 0.05, (of.stated + 1) % CLASSES, one)
    measure = of_classes(CLASSES)["micro_f1"]
    alone = interval(measure, one_hot(one), of.stated, of.speaker)
    paired = paired_difference(measure, [one_hot(one)], [one_hot(other)], of.stated, of.speaker)
    assert paired.high - paired.low < (alone.high - alone.low) / 3
    same = paired_difference(measure, [one_hot(one)], [one_hot(one)], of.stated, of.speaker)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_what_pairs_of_two_speakers_add_to_the_variance_is_that_of_dyads() -> None:
    """Sums of products of residuals over all pairs of pairs that share a speaker, taken one by one."""
    draw = np.random.default_rng(1)
    drawn = pairs(draw, 80, each=3, rounds=2)
    said = draw.random(len(drawn.match))
    right = (said > 0.5) == drawn.match
    share = [right[drawn.match == match].mean() for match in (0, 1)]
    each = [0.5 * (right[row] - share[match]) / (drawn.match == match).sum() for row, match in enumerate(drawn.match)]
    ends = [set(unit) for unit in drawn.units.tolist()]
    total = sum(value**2 for value in each) + 2 * sum(
        each[a] * each[b] for a, b in combinations(range(len(each)), 2) if ends[a] & ends[b]
    )
    found = interval(of_pairs(), said, drawn.match, drawn.units)
    # Of as many speakers Wilson's interval and the jackknife's small corrections are within a few per cent of this.
    assert (found.high - found.low) / 2 == pytest.approx(2 * math.sqrt(total), rel=0.06)
    swapped = Drawn(drawn.audio, drawn.video, drawn.match, drawn.speaker)
    assert interval(of_pairs(), said, swapped.match, swapped.units) == found


def test_clips_scored_again_tell_nothing_new() -> None:
    draw = np.random.default_rng(2)
    of = utterances(draw, SPEAKERS, each=3)
    codes, numbers = answers(draw, of, 0.5)
    for measures, said, stated in (
        (of_classes(CLASSES), one_hot(codes), of.stated),
        (of_numbers(), numbers, of.number),
    ):
        for measure in measures.values():
            once = interval(measure, said, stated, of.speaker)
            again = interval(
                measure, np.concatenate([said] * 8), np.concatenate([stated] * 8), np.concatenate([of.speaker] * 8)
            )
            assert (again.low, again.high) == (pytest.approx(once.low), pytest.approx(once.high))


def test_an_interval_stays_where_scores_are() -> None:
    stated = np.repeat([0, 1], 6)
    speaker = np.arange(12) // 2
    for said in (stated, 1 - stated):
        for measure in of_classes(2).values():
            found = interval(measure, np.eye(2)[said], stated, speaker)
            assert 0 <= found.low <= found.value <= found.high <= 1
            assert found.high - found.low > 0.2  # six speakers are not certainty
    numbers = stated.astype(float)
    perfect = {name: interval(measure, numbers, numbers, speaker) for name, measure in of_numbers().items()}
    assert perfect["ccc"].value == pytest.approx(1)
    assert perfect["ccc"].high <= 1
    assert (perfect["rmse"].low, perfect["rmse"].high) == (0, 0)


def test_of_one_speaker_or_of_nothing_nothing_is_known() -> None:
    for speaker, stated in (([0, 0, 0], [0, 1, 1]), ([0, 1, 2], [-1, -1, -1])):
        for measure in of_classes(2).values():
            found = interval(measure, np.eye(2)[[0, 1, 0]], np.array(stated), np.array(speaker))
            assert math.isnan(found.low)
            assert math.isnan(found.high)
            apart = paired_difference(measure, *([np.eye(2)[[0, 1, 0]]],) * 2, np.array(stated), np.array(speaker))
            assert math.isnan(apart.low)
    with pytest.raises(ValueError, match="no runs"):
        paired_difference(of_pairs(), [], [np.zeros(1)], np.zeros(1, np.int64), np.zeros(1, np.int64))

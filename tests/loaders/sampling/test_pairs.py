"""Half match, nobody can tell which half, and a negative is exactly what its kind promises."""

import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import xxhash
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loaders.errors import InputError
from loaders.sampling.dealing import Dealing
from loaders.sampling.negatives import KINDS
from loaders.sampling.pairs import Clips, Pairs, matches

Allowed = Callable[[Clips, NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]

# Which audio is allowed with which frames, said anew. Clips begin at multiples of half a clip, so half a clip's room
# for rounding decides nothing that is not clear.
ALLOWED: dict[str, Allowed] = {
    "other_video": lambda c, frames, audio: c.video[audio] != c.video[frames],
    "other_speaker": lambda c, frames, audio: c.speaker[audio] != c.speaker[frames],
    "same_speaker": lambda c, frames, audio: (
        (c.speaker[audio] == c.speaker[frames]) & (c.video[audio] != c.video[frames])
    ),
    "shifted": lambda c, frames, audio: (
        (c.video[audio] == c.video[frames])
        & (
            (c.speaker[audio] != c.speaker[frames])  # two people in one video: their utterances may have one name
            | (c.utterance[audio] != c.utterance[frames])
            | (np.abs(c.start[audio] - c.start[frames]) > 0.75 * c.seconds)
        )
    ),
}


def corpus(speakers: int, videos: int, utterances: int, clips: int, seed: int = 0, seconds: float = 2.0) -> Clips:
    """Speakers with as many videos each, of utterances of 1 … ``clips`` clips, half a clip apart, in random order."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, clips, size=speakers * videos * utterances, endpoint=True)
    utterance = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    number = np.concatenate([np.arange(length) for length in lengths])
    shuffled = draw.permutation(len(utterance))
    utterance, number = utterance[shuffled], number[shuffled]
    video = utterance // utterances
    # As in a catalog, an utterance's name is one within its video, not within the corpus.
    return Clips(video // videos, video, utterance % utterances, number * seconds / 2, seconds)


def negatives_of(
    pairs: Pairs, clips: NDArray[np.int64], positions: NDArray[np.int64], epoch: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames' and audio's clips of the pairs that do not match."""
    audio, match = pairs.draw(epoch, positions, clips)
    return clips[~match], audio[~match]


@st.composite
def small_corpora(draw: st.DrawFn) -> Clips:
    """Up to nine clips, related in every way that there is, also in ways in which no good corpus has them."""
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 1), st.integers(0, 5)),
            min_size=1,
            max_size=9,
        )
    )
    seconds = draw(st.sampled_from([2.0, 0.7, 1 / 3]))
    speaker, video, utterance, number = np.array(rows).T
    return Clips(speaker, video, utterance, number * seconds / 2, seconds)


def drawn_by(pairs: Pairs, clips: int, epochs: int) -> NDArray[np.int64]:
    """How often each clip's frames came with each audio in a negative, over epochs of every clip: (clips, clips)."""
    counts = np.zeros((clips, clips), np.int64)
    every = np.arange(clips)
    for epoch in range(epochs):
        frames, audio = negatives_of(pairs, every, every, epoch)
        np.add.at(counts, (frames, audio), 1)
    return counts


def can_be_dealt_out(kind: str, clips: Clips) -> bool:
    """Whether no run of clips that may not be paired has more than half of those to choose from."""
    if kind == "shifted":
        return False
    group = clips.speaker if kind == "same_speaker" else np.zeros(len(clips), np.int64)
    run = clips.speaker if kind == "other_speaker" else clips.video
    return all(2 * np.unique(run[group == g], return_counts=True)[1].max() <= (group == g).sum() for g in group)


@pytest.mark.parametrize("kind", KINDS)
@given(corpus=small_corpora())
@settings(max_examples=60)
def test_the_candidates_are_exactly_those_that_the_kind_allows(kind: str, corpus: Clips) -> None:
    every = np.arange(len(corpus))
    allowed = ALLOWED[kind](corpus, every[:, None], every[None, :])
    if not allowed.any(axis=1).all():
        with pytest.raises(InputError, match=kind):
            Pairs(corpus, {kind: 1.0}, seed=0)
        return
    pairs = Pairs(corpus, {kind: 1.0}, seed=0)
    drawn = drawn_by(pairs, len(corpus), 30)
    assert not drawn[~allowed].any()
    if not can_be_dealt_out(kind, corpus):
        frames, audio = negatives_of(pairs, np.repeat(every, 400), np.arange(400 * len(every)))
        drawn[frames, audio] += 1
        assert not drawn[~allowed].any()
        if kind != "same_speaker":  # where some speakers' clips may be dealt out
            assert (drawn > 0).tolist() == allowed.tolist()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("other_video", "e9f9dee4532e2173"),
        ("other_speaker", "d48040a23d3e55ff"),
        ("same_speaker", "1a5712b620949686"),
        ("shifted", "4d4d8f3ab726a223"),
    ],
)
def test_what_is_drawn_stays_what_it_was(kind: str, expected: str) -> None:
    """Where it does not, `DRAWS` is to be raised: a run that goes on would go on with other pairs."""
    clips = corpus(10, 3, 2, 4)
    own = np.random.default_rng(0).integers(len(clips), size=2000)
    audio, match = Pairs(clips, {kind: 1.0}, seed=9).draw(4, np.arange(2000), own)
    assert xxhash.xxh3_64_hexdigest(audio.astype("<i8").tobytes() + match.tobytes()) == expected


@pytest.mark.parametrize("kind", ["other_video", "other_speaker", "same_speaker"])
def test_every_candidate_is_about_equally_likely_where_videos_are_alike(kind: str) -> None:
    speaker, video, number = (index.ravel() for index in np.indices((4, 5, 6)))
    clips = Clips(speaker, speaker * 5 + video, np.zeros(120, np.int64), number * 2.0, 2.0)
    every = np.arange(120)
    counts = drawn_by(Pairs(clips, {kind: 1.0}, seed=1), 120, 6000)
    allowed = ALLOWED[kind](clips, every[:, None], every[None, :])
    assert not counts[~allowed].any()
    expected = counts.sum() / allowed.sum()
    assert ((counts[allowed] - expected) ** 2 / expected).mean() == pytest.approx(
        1, abs=0.15
    )  # as of independent draws


def test_every_other_time_of_a_video_is_equally_likely() -> None:
    clips = corpus(4, 3, 2, 5)
    for own in (0, len(clips) // 2, len(clips) - 1):
        frames, audio = negatives_of(
            Pairs(clips, {"shifted": 1.0}, seed=1), np.full(100_000, own), np.arange(100_000), epoch=2
        )
        allowed = ALLOWED["shifted"](clips, frames[:1], np.arange(len(clips)))
        counts = np.bincount(audio, minlength=len(clips))[allowed]
        assert counts.sum() == len(audio)
        expected = len(audio) / len(counts)
        statistic = ((counts - expected) ** 2 / expected).sum()
        assert statistic < len(counts) + 4 * np.sqrt(2 * len(counts)) + 4


def best_guess(kind: str, clips: Clips, epochs: int = 400) -> float:
    """Share of pairs that who knows the sound's video alone can tell, at best."""
    pairs, every = Pairs(clips, {kind: 1.0}, seed=1), np.arange(len(clips))
    own, other = np.zeros(len(clips)), np.zeros(len(clips))
    for epoch in range(epochs):
        audio, match = pairs.draw(epoch, every, np.roll(every, epoch))
        own += np.bincount(audio[match], minlength=len(clips))
        other += np.bincount(audio[~match], minlength=len(clips))
    own, other = np.bincount(clips.video, own), np.bincount(clips.video, other)
    return float(np.maximum(own, other).sum() / (own + other).sum())


def of_videos(counts: Sequence[int], videos_a_speaker: int = 1) -> Clips:
    """Videos of so many clips each."""
    video = np.repeat(np.arange(len(counts)), counts)
    start = np.concatenate([2.0 * np.arange(count) for count in counts])
    return Clips(video // videos_a_speaker, video, np.zeros(len(video), np.int64), start, 2.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("counts", "speakers"),
    [([190] + [10] * 19, 1), ([50, 50], 1), ([9, 5, 4, 7, 7, 3, 12, 6, 6], 3), (list(range(2, 13)) * 5, 5)],
    ids=["one has half", "two", "three a speaker", "uneven"],
)
def test_a_sounds_video_tells_nothing_where_no_video_has_more_than_half(
    kind: str, counts: list[int], speakers: int, caplog: pytest.LogCaptureFixture
) -> None:
    clips = of_videos(counts, len(counts) if kind == "same_speaker" and speakers == 1 else speakers)
    assert best_guess(kind, clips) < 0.52
    assert not caplog.records


@pytest.mark.parametrize("kind", ["other_video", "other_speaker", "same_speaker"])
def test_where_a_video_has_more_than_half_that_is_said_and_how_well_it_tells(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    clips = of_videos([70, 18, 12], 3 if kind == "same_speaker" else 1)
    found = best_guess(kind, clips)
    assert found > 0.6
    assert f"alone tells {100 * Dealing(*groups_of(kind, clips)).guess()[0]:.0f} %" in caplog.text
    assert Dealing(*groups_of(kind, clips)).guess()[0] == pytest.approx(found, abs=0.01)


def groups_of(kind: str, clips: Clips) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if kind == "same_speaker":
        return clips.speaker.astype(np.int64), clips.video.astype(np.int64)
    return np.zeros(len(clips), np.int64), clips.video.astype(np.int64)


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_no_false_negative_in_a_large_corpus(kind: str) -> None:
    clips = corpus(500, 10, 3, 4)  # 37,000 clips; the four kinds together draw 1,200,000 negatives
    pairs = Pairs(clips, {kind: 1.0}, seed=5)
    own = np.random.default_rng(0).integers(len(clips), size=100_000)
    for epoch in range(6):
        audio, match = pairs.draw(epoch, np.arange(len(own)), own)
        assert (audio[match] == own[match]).all()
        assert ALLOWED[kind](clips, own[~match], audio[~match]).all()
        assert (~match).sum() == len(own) // 2


def test_no_mixture_of_kinds_gives_a_false_negative() -> None:
    clips = corpus(50, 3, 2, 3)
    pairs = Pairs(clips, dict.fromkeys(KINDS, 1.0), seed=5)
    own = np.random.default_rng(0).integers(len(clips), size=200_000)
    frames, audio = negatives_of(pairs, own, np.arange(len(own)))
    assert np.any([allowed(clips, frames, audio) for allowed in ALLOWED.values()], axis=0).all()


@given(st.integers(0, 1 << 40), st.integers(1, 300), st.integers(0, 1 << 62), st.integers(0, 1000))
def test_exactly_half_of_every_even_run_matches(start: int, length: int, seed: int, epoch: int) -> None:
    assert matches(seed, epoch, np.arange(2 * start, 2 * (start + length))).sum() == length


def test_which_half_matches_cannot_be_guessed() -> None:
    positions = np.arange(200_000)
    first = matches(3, 0, positions)[::2].astype(float)  # of each pair of positions; the second is its opposite
    others = {
        "none": np.full_like(first, 0.5),
        "the pair before": np.roll(first, 1),
        "the pair before that": np.roll(first, 2),
        "the next epoch": matches(3, 1, positions)[::2].astype(float),
        "the next seed": matches(4, 0, positions)[::2].astype(float),
    }
    assert first.mean() == pytest.approx(0.5, abs=0.01)
    for name, other in others.items():
        assert ((first - 0.5) * (other - 0.5)).mean() == pytest.approx(0, abs=0.005), name


def test_a_pair_is_the_same_whatever_else_is_drawn() -> None:
    clips = corpus(10, 3, 2, 3)
    weights = {"other_video": 1.0, "shifted": 1.0}
    own = np.random.default_rng(0).integers(len(clips), size=1000)
    audio, match = Pairs(clips, weights, seed=9).draw(4, np.arange(1000), own)
    some = np.random.default_rng(1).permutation(1000)[:100]
    audio_again, match_again = Pairs(clips, weights, seed=9).draw(4, some, own[some])
    assert audio_again.tolist() == audio[some].tolist()
    assert match_again.tolist() == match[some].tolist()


def test_another_attempt_draws_other_audio_for_the_same_answer() -> None:
    clips = corpus(50, 3, 2, 3)
    pairs = Pairs(clips, {"other_video": 1.0}, seed=9)
    own = np.random.default_rng(0).integers(len(clips), size=1000)
    draws = [pairs.draw(4, np.arange(1000), own, attempt) for attempt in range(3)]
    for (audio, match), (other_audio, other_match) in pairwise(draws):
        assert match.tolist() == other_match.tolist()
        assert (audio[~match] != other_audio[~match]).mean() > 0.9


def kind_of(clips: Clips, frames: NDArray[np.int64], audio: NDArray[np.int64]) -> NDArray[np.str_]:
    """One of the three kinds that exclude each other."""
    kinds = ["other_speaker", "same_speaker", "shifted"]
    return np.select([ALLOWED[kind](clips, frames, audio) for kind in kinds], kinds, "none")


@given(st.tuples(st.floats(0, 10), st.floats(0, 10), st.floats(0, 10)))
@settings(max_examples=20)
def test_kinds_come_as_often_as_their_weights_say(weights: tuple[float, float, float]) -> None:
    assume(sum(weights) > 0.01)
    clips = corpus(5, 3, 3, 3)
    named = dict(zip(["shifted", "other_speaker", "same_speaker"], weights, strict=True))
    own = np.random.default_rng(0).integers(len(clips), size=40_000)
    drawn = kind_of(clips, *negatives_of(Pairs(clips, named, seed=2), own, np.arange(len(own))))
    for kind, weight in named.items():
        assert (drawn == kind).mean() == pytest.approx(weight / sum(weights), abs=0.02)
        assert weight > 0 or not (drawn == kind).any()


def test_a_clip_that_a_kind_cannot_serve_takes_the_others_in_their_proportions() -> None:
    # Speaker 0 has one video only, of one clip: neither another video of the same speaker nor another time.
    clips = Clips(
        np.array([0, 1, 1, 1, 2]), np.array([0, 1, 1, 2, 3]), np.zeros(5, int), np.array([0.0, 0, 2, 0, 0]), 2.0
    )
    pairs = Pairs(clips, {"same_speaker": 5, "other_speaker": 1, "shifted": 3, "other_video": 1}, seed=0)
    frames, audio = negatives_of(pairs, np.zeros(20_000, np.int64), np.arange(20_000))
    assert (clips.speaker[audio] != 0).all()
    frames, audio = negatives_of(pairs, np.ones(20_000, np.int64), np.arange(20_000))
    assert (kind_of(clips, frames, audio) == "shifted").mean() == pytest.approx(0.3, abs=0.02)


@given(st.integers(0, 9), st.integers(0, 3))
def test_an_epoch_of_a_schedule_has_the_pairs_that_its_own_shares_give(epoch: int, attempt: int) -> None:
    clips = corpus(4, 3, 2, 3)
    stages = {
        0: {"other_video": 1.0},
        2: {"shifted": 1.0, "same_speaker": 2.0, "other_speaker": 0.0},
        5: {"other_speaker": 0.5, "same_speaker": 0.25, "other_video": 0.25},
    }
    positions = np.arange(len(clips))
    scheduled = Pairs(clips, stages, seed=3).draw(epoch, positions, positions, attempt)
    alone = Pairs(clips, stages[max(first for first in stages if first <= epoch)], seed=3)
    for one, other in zip(scheduled, alone.draw(epoch, positions, positions, attempt), strict=True):
        assert one.tolist() == other.tolist()


def test_a_kind_of_weight_nought_need_not_be_on_offer() -> None:
    clips = corpus(3, 1, 1, 1)
    frames, audio = negatives_of(
        Pairs(clips, {"same_speaker": 0, "other_video": 1, "shifted": 0.0}, seed=0), np.arange(3), np.arange(3)
    )
    assert (frames != audio).all()


@pytest.mark.parametrize(
    ("negatives", "named"),
    [
        ({"other_planet": 1.0}, "other_planet"),
        ({"other_video": -1.0}, "other_video"),
        ({"other_video": float("nan")}, "other_video"),
        ({"other_video": float("inf")}, "other_video"),
        ({"other_video": 0.0}, "weight"),
        ({}, "weight"),
        ({"same_speaker": 1.0}, "same_speaker"),
        ({"shifted": 1.0, "same_speaker": 1.0}, "shifted or same_speaker"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(negatives: dict[str, float], named: str) -> None:
    with pytest.raises(InputError, match=named) as refused:
        Pairs(corpus(3, 1, 1, 1), negatives, seed=0)
    assert "\n" not in str(refused.value)


def test_the_refusal_counts_the_clips_that_have_no_candidate() -> None:
    clips = Clips(np.array([0, 0, 1]), np.array([0, 1, 2]), np.zeros(3, int), np.zeros(3), 2.0)
    with pytest.raises(InputError, match="1 of 3 clips"):
        Pairs(clips, {"same_speaker": 1.0}, seed=0)


def test_no_position_and_no_clip_give_no_pair() -> None:
    none = np.zeros(0, np.int64)
    audio, match = Pairs(corpus(4, 2, 2, 2), dict.fromkeys(KINDS, 1.0), seed=0).draw(0, none, none)
    assert (len(audio), len(match)) == (0, 0)


def test_drawing_pairs_is_no_bottleneck() -> None:
    clips = corpus(300, 10, 3, 4)
    pairs = Pairs(clips, dict.fromkeys(KINDS, 1.0), seed=5)
    own = np.random.default_rng(0).integers(len(clips), size=400_000)
    start = time.process_time()
    pairs.draw(0, np.arange(len(own)), own)
    assert len(own) / (time.process_time() - start) > 200_000  # a tenth of what a core does when it is left in peace

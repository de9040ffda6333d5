"""No speaker and no video on both sides, unless that was asked for."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.errors import InputError
from sharding.corpora.leaks import emptied, settle_leaks
from sharding.utterance import Apart, Corpus, Utterance, VideoNames

SPLITS = ("train", "validation", "test")


def corpus(*rows: tuple[str, str, str], apart: Apart = "speaker", video_names: VideoNames = "corpus") -> Corpus:
    utterances = tuple(
        Utterance(
            corpus="c",
            split=split,
            speaker=speaker,
            video=video,
            utterance=f"{number}",
            video_path=Path(f"{number}.mp4"),
        )
        for number, (split, speaker, video) in enumerate(rows)
    )
    return Corpus(name="c", utterances=utterances, apart=apart, video_names=video_names)


@pytest.mark.parametrize(
    ("rows", "apart", "told"),
    [
        ((("train", "ann", "x"), ("test", "ann", "y")), "speaker", "speaker 'ann' is in the splits train and test"),
        ((("train", "ann", "x"), ("test", "bob", "x")), "speaker", "video 'x' is in the splits train and test"),
        ((("train", "ann", "x"), ("test", "ann", "x")), "video", "video 'x'"),
    ],
)
def test_a_leak_is_refused_by_name(rows: tuple[tuple[str, str, str], ...], apart: Apart, told: str) -> None:
    with pytest.raises(InputError, match=told) as raised:
        settle_leaks(corpus(*rows, apart=apart), "refuse")
    assert "\n" not in str(raised.value)
    assert "--on-leak reject" in str(raised.value)


def test_a_refusal_says_what_rejecting_would_leave() -> None:
    rows = [
        ("train", "ann", "x"),
        ("train", "ann", "y"),
        ("test", "bob", "x"),
        ("test", "bob", "y"),
        ("test", "b", "z"),
    ]
    with pytest.raises(InputError, match=r"reject .* which leaves 0 of 2 in train, 3 of 3 in test$"):
        settle_leaks(corpus(*rows), "refuse")
    settled = settle_leaks(corpus(*rows), "reject")
    assert settled.notes == ("--on-leak reject leaves out 2 utterances: left are 0 of 2 in train, 3 of 3 in test",)
    assert emptied(corpus(*rows), settled) == ["train"]
    assert emptied(corpus(*rows), corpus(*rows)) == []


def test_a_name_of_several_speakers_is_a_video_of_each_unless_the_corpus_says_otherwise() -> None:
    rows = [("train", "actor_1", "interview"), ("test", "actor_2", "interview")]
    for apart in ("speaker", "video", "utterance"):
        each = corpus(*rows, apart=apart, video_names="speaker")  # type: ignore[arg-type]
        assert settle_leaks(each, "refuse") == each
    with pytest.raises(InputError, match="give --video-names speaker if each of its 2 speakers has a video"):
        settle_leaks(corpus(*rows), "refuse")
    with pytest.raises(
        InputError, match="video 'actor_1/interview' is in the splits train and test: mend the lists, or"
    ):
        settle_leaks(corpus(*rows, ("test", *rows[0][1:]), apart="video", video_names="speaker"), "refuse")


def test_only_what_was_promised_is_checked() -> None:
    same_speaker = corpus(("train", "ann", "x"), ("test", "ann", "y"), apart="video")
    assert settle_leaks(same_speaker, "refuse") == same_speaker
    same_video = corpus(("train", "ann", "x"), ("test", "ann", "x"), apart="utterance")
    assert settle_leaks(same_video, "refuse") == same_video


ROWS = st.lists(st.tuples(st.sampled_from(SPLITS), st.sampled_from("abcde"), st.sampled_from("vwxyz")), max_size=12)


@given(ROWS, st.sampled_from(["speaker", "video", "utterance"]), st.sampled_from(["corpus", "speaker"]))
def test_rejecting_loses_nothing_and_leaves_no_leak(
    rows: list[tuple[str, str, str]], apart: Apart, video_names: VideoNames
) -> None:
    before = corpus(*rows, apart=apart, video_names=video_names)
    after = settle_leaks(before, "reject")
    kept, rejected = [u.utterance for u in after.utterances], [r.utterance for r in after.rejected]
    assert sorted(kept + rejected) == sorted(u.utterance for u in before.utterances)
    assert {rejection.reason for rejection in after.rejected} <= {"leak"}
    assert settle_leaks(after, "refuse") == after
    if apart != "utterance":
        names = {(u.speaker, u.video): u.split for u in after.utterances}
        assert all(names[u.speaker, u.video] == u.split for u in after.utterances)


@given(ROWS)
def test_the_test_split_stays_whole(rows: list[tuple[str, str, str]]) -> None:
    after = settle_leaks(corpus(*rows), "reject")
    assert "test" not in {rejection.split for rejection in after.rejected}

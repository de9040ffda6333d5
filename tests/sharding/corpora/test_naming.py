"""YouTube ids are one video each, other names are each speaker's own, and where it counts that is said."""

from pathlib import Path

import pytest

from sharding.corpora.naming import settle_names
from sharding.utterance import Utterance


def utterances(*names: tuple[str, str], path: str = "") -> list[Utterance]:
    return [
        Utterance(
            corpus="c",
            split="train",
            speaker=speaker,
            video=video,
            utterance="1",
            video_path=Path(path or f"{speaker}/{video}.mp4"),
        )
        for speaker, video in names
    ]


IDS = [("id1", "21Uxsk56VDQ"), ("id2", "-_5uxPHHJrA")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (utterances(*IDS), "corpus"),
        (utterances(*IDS, ("id3", "interview")), "speaker"),
        (utterances(("actor_1", "interview"), ("actor_2", "interview")), "speaker"),
        (utterances(("actor_1", "interview"), ("actor_2", "interview"), path="interview.mp4"), "corpus"),
        (utterances(("actor_1", "interview"), path="interview.mp4"), "speaker"),
        (utterances(("a", "elf Zeichen")), "speaker"),
        (utterances(("a", "elf_Zeichen\n")), "speaker"),
    ],
)
def test_what_might_be_a_youtube_id_is_one_video(given: list[Utterance], expected: str) -> None:
    assert settle_names(given, "auto")[0] == expected


@pytest.mark.parametrize("naming", ["corpus", "speaker"])
def test_what_is_told_holds(naming: str) -> None:
    assert settle_names(utterances(*IDS), naming)[0] == naming  # type: ignore[arg-type]


@pytest.mark.parametrize("naming", ["auto", "corpus", "speaker"])
def test_names_of_one_speaker_each_are_not_worth_a_word(naming: str) -> None:
    assert settle_names(utterances(*IDS, ("id3", "interview")), naming)[1] == []  # type: ignore[arg-type]


def test_shared_names_are_told_with_the_other_way() -> None:
    alike = utterances(("a", "x"), ("b", "x"), ("b", "y"), ("a", "w"), ("c", "w"))
    (note,) = settle_names(alike, "auto")[1]
    assert note.startswith("2 names of videos are in use by several speakers, the first w: each is taken for one of e")
    assert "--video-names corpus" in note
    (note,) = settle_names(alike[:3], "corpus")[1]
    assert note.startswith("1 name of videos is in use by several speakers, the first x: each is taken for one video ")
    assert "--video-names speaker" in note
    assert settle_names(alike, "speaker", "video")[1][0].endswith(
        "all of a name are on one side of the split, by its hash"
    )
    assert settle_names(alike, "corpus", "video")[1][0].endswith("for one of each speaker)")

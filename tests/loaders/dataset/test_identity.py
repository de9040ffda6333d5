"""One name for an utterance: of the corpus' utterances, of rejections, of a catalog's rows."""

from pathlib import Path

from loaders.dataset.columns import COLUMNS
from loaders.dataset.identity import UtteranceName
from sharding.utterance import Rejection, Utterance

NAME = UtteranceName("actor", "interview", "0.1")


def test_whatever_is_an_utterances_has_its_name() -> None:
    utterance = Utterance(corpus="c", split="train", **NAME._asdict(), video_path=Path("film.mp4"))
    rejection = Rejection.of(utterance, "missing", "")
    assert utterance.name == rejection.name == UtteranceName.of({"split": "train", **NAME._asdict()}) == NAME
    assert str(NAME) == "actor/interview/0.1"


def test_its_fields_are_columns_in_their_order() -> None:
    assert [column.name for column in COLUMNS if column.name in NAME._fields] == list(NAME._fields)


def test_names_sort_by_speaker_then_video() -> None:
    names = [UtteranceName("b", "a", "a"), UtteranceName("a", "b", "a"), UtteranceName("a", "a", "b")]
    assert sorted(names) == names[::-1]

"""Names of utterances, and the side of a split they fall on."""

import os
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sharding.corpora.split import hashed_split
from sharding.utterance import Utterance, readable

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=60)


def utterance(*names: str) -> Utterance:
    speaker, video, name = names
    return Utterance(corpus="c", split="train", speaker=speaker, video=video, utterance=name, video_path=Path("v.mp4"))


@given(st.tuples(NAMES, NAMES, NAMES))
def test_a_key_is_a_safe_name_for_a_file_and_a_sample(names: tuple[str, str, str]) -> None:
    key = utterance(*names).key
    assert re.fullmatch(r"[A-Za-z0-9_~+-]+", key)
    assert len(f"{key}+000.gaze_frames.npy") <= 100


ALIKE = st.sampled_from(["a", "b", "a+b", "~2b~", "+", "a" * 90])


@given(st.tuples(ALIKE, ALIKE, ALIKE), st.tuples(ALIKE, ALIKE, ALIKE))
def test_utterances_of_different_names_have_different_keys(a: tuple[str, str, str], b: tuple[str, str, str]) -> None:
    assert (utterance(*a).key == utterance(*b).key) == (a == b)


def test_bytes_that_are_no_text_become_text() -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    assert readable(Path("a", name)) == "a/caf\\xe9.mp4"
    assert readable("café 東京") == "café 東京"


@given(NAMES, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_test_split_holds_the_smaller_one(name: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    if hashed_split(name, small) == "test":
        assert hashed_split(name, large) == "test"


def test_the_share_of_the_test_split_is_about_what_was_asked_for() -> None:
    splits = [hashed_split(f"id{number:05d}", 0.2) for number in range(10_000, 15_000)]
    assert abs(splits.count("test") / len(splits) - 0.2) < 0.02
    assert {hashed_split(f"id{number}", 0.0) for number in range(100)} == {"train"}


def test_the_split_of_an_id_is_what_it_has_always_been() -> None:
    # A dataset that is built again from a larger corpus must not move a speaker.
    names = [f"id{number:05d}" for number in range(10_001, 10_021)]
    assert "".join(hashed_split(name, 0.2)[1] for name in names) == "rreerrrrrrrrreerrere"

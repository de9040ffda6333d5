"""How long a file says that it lasts."""

from pathlib import Path

import pytest

from sharding.corpora.utterance import BoxesFile, Utterance
from sharding.probe import probe_seconds
from tests.films import write_film


def of(path: Path, boxes: Path | None = None) -> float:
    return probe_seconds(
        Utterance(
            corpus="c", split="train", speaker="s", video="v", utterance="u", video_path=path,
            boxes=None if boxes is None else BoxesFile(path=boxes),
        )
    )  # fmt: skip


def test_what_the_container_states(tmp_path: Path) -> None:
    assert of(write_film(tmp_path / "a.mp4", 2.5)) == pytest.approx(2.5, abs=0.1)


def test_what_the_boxes_state(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("FRAME X Y W H\n100 1 1 9 9\n149 1 1 9 9\n")
    assert of(tmp_path / "gone.mp4", tmp_path / "1.txt") == pytest.approx(2.0)


def test_what_states_nothing_is_left_to_the_build(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "1.txt").write_text("no boxes")
    assert of(tmp_path / "text.mp4") == of(tmp_path / "gone.mp4") == of(tmp_path / "gone.mp4", tmp_path / "1.txt") == 0

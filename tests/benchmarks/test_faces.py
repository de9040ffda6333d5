"""The benchmark of face crops, on boxes that are known; the detector and the crops have tests of their own."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.faces import Boxes, Frames, Seen, as_jpeg, choose, draw, films, look, markdown, ratios, summarise
from loaders.errors import InputError
from sharding.crops.faces import Detections
from tests.films import write_film

ROOT = Path(__file__).parents[2]
SIDE = 64


def seen(boxes: Boxes, utterance: str = "a/b/c", start: float = 0.0, shade: int = 100) -> Seen:
    return Seen(utterance=utterance, start=start, middle=np.full((SIDE, SIDE, 3), shade, np.uint8), boxes=boxes)


def found(*boxes: tuple[float, float, float, float]) -> Detections:
    count = len(boxes)
    return Detections(
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        scores=np.linspace(1, 0.5, count),
        landmarks=np.zeros((count, 5, 2)),
    )


def test_the_largest_face_of_a_frame_counts_and_none_is_nan() -> None:
    answers = iter([found((1, 2, 3, 4), (5, 6, 7, 8)), found()])

    def detect(_: Frames) -> Detections:
        return next(answers)

    boxes = look(np.zeros((2, SIDE, SIDE, 3), np.uint8), detect)
    assert boxes[0].tolist() == [5, 6, 7, 8]
    assert np.isnan(boxes[1]).all()


@given(
    share=st.floats(0.05, 1.0),
    left=st.floats(0.0, 1.0),
    top=st.floats(0.0, 1.0),
    missing=st.integers(0, 5),
    clips=st.integers(1, 3),
)
def test_faces_that_are_alike_give_their_own_share_and_place(
    share: float, left: float, top: float, missing: int, clips: int
) -> None:
    height, width = share * SIDE, share * SIDE / 2
    box = (left * SIDE - width / 2, top * SIDE - height / 2, width, height)
    boxes = np.array([box] * 3 + [(np.nan,) * 4] * missing)
    summary = summarise([seen(boxes)] * clips)
    assert (summary.clips, summary.frames) == (clips, clips * len(boxes))
    assert summary.with_face == pytest.approx(3 / (3 + missing))
    assert summary.share_low == pytest.approx(summary.share_high) == pytest.approx(summary.share)
    assert (summary.share, summary.left, summary.top) == pytest.approx((share, left, top), abs=1e-9)


def test_where_no_face_is_there_is_no_share() -> None:
    summary = summarise([seen(np.full((4, 4), np.nan))])
    assert summary.with_face == 0
    assert np.isnan(summary.share)


def test_the_range_holds_nine_frames_of_ten() -> None:
    sides = np.linspace(10, 50, 200)
    summary = summarise([seen(np.stack([0 * sides, 0 * sides, sides, sides], 1))])
    within = (sides / SIDE >= summary.share_low) & (sides / SIDE <= summary.share_high)
    assert within.mean() == pytest.approx(0.9, abs=0.01)


def test_shares_are_held_against_voxceleb_where_it_was_looked_at() -> None:
    half, third = (summarise([seen(np.array([[0, 0, side, side]], float))]) for side in (SIDE / 2, SIDE / 4))
    rows = {"VoxCeleb2, as published": half, "GRID, the middle square": third}
    assert list(ratios(rows).values()) == pytest.approx([0.5])
    assert ratios({"GRID, the middle square": third}) == {}


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(1, 10))
def test_every_utterance_is_shown_before_any_is_shown_again(lengths: list[int], count: int) -> None:
    clips = [seen(np.zeros((1, 4)), f"u{u}", 2.0 * n) for u, length in enumerate(lengths) for n in range(length)]
    chosen = choose(clips, count)
    times = [sum(utterance == f"u{u}" for utterance, _ in chosen) for u in range(len(lengths))]
    assert len(set(chosen)) == len(chosen) == min(count, len(clips))
    most = max(times)
    assert all(shown >= min(most - 1, length) for shown, length in zip(times, lengths, strict=True))


def test_a_picture_shows_the_same_clips_before_and_after_and_the_faces_box() -> None:
    boxes = np.array([[16.0, 16, 32, 32]])
    before = [seen(boxes, f"u{n}", shade=40 * n + 40) for n in range(3)]
    after = [seen(boxes, f"u{n}", shade=40 * n + 60) for n in range(1, 3)]  # the first had no face
    clips = {"GRID, the middle square": before, "GRID, `--crop face`": after}
    picture = np.asarray(draw(clips, {label: summarise(found) for label, found in clips.items()}))
    shades = set(picture[..., 2].flatten().tolist())
    assert {80, 120, 100, 140} <= shades  # the clips that both have
    assert not {40} & set(picture[picture.shape[0] // 4].flatten().tolist())
    yellow = (picture == np.array([0xFF, 0xE1, 0x4D])).all(axis=2)
    assert yellow.any(axis=1).sum() > 2 * picture.shape[0] // 8  # in both rows of tiles


def test_a_jpeg_is_as_good_as_its_size_allows() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    roomy, tight = as_jpeg(noise, 100_000), as_jpeg(noise, 4000)
    assert len(tight) <= 4000 < len(roomy)
    assert Image.open(io.BytesIO(tight)).size == (64, 64)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        as_jpeg(noise, 100)


def test_the_table_says_what_the_record_says() -> None:
    row = {"with_face": 0.985, "share": 0.664, "share_low": 0.6, "share_high": 0.7, "left": 0.5, "top": 0.364}
    lines = markdown({"GRID, `--crop face`": row}).splitlines()
    assert lines[1] == "|---|---|---|---|---|"
    assert lines[2] == "| GRID, `--crop face` | 98 % | 0.66 (0.60–0.70) | 0.50 | 0.36 |"
    assert len({line.count("|") for line in lines}) == 1


def test_a_folder_of_films_is_a_corpus_of_as_many_speakers(tmp_path: Path) -> None:
    for name in ("one.mp4", "two.mp4", "deeper/one.mp4"):
        write_film(tmp_path / name, 0.2)
    (tmp_path / "notes.txt").write_text("no film")
    corpus = films(tmp_path, "--grid")
    assert [utterance.key for utterance in corpus.utterances] == ["deeper-one+deeper-one", "one+one", "two+two"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no video file"):
        films(tmp_path / "empty", "--grid")


def test_a_missing_folder_ends_in_one_line_and_status_2(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/faces.py", "--grid", str(tmp_path / "absent")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--grid" in done.stderr
    assert "no such folder" in done.stderr

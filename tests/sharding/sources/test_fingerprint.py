"""A source's fingerprint changes with any of its files, and not with where they lie."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sharding.sources.fingerprint import fingerprint
from sharding.utterance import BoxesFile, Utterance


def utterance(folder: Path) -> Utterance:
    return Utterance(
        corpus="c", split="train", speaker="s", video="v", utterance="u", video_path=folder / "film",
        audio_path=folder / "sound", gaze_path=folder / "gaze", boxes=BoxesFile(path=folder / "boxes"),
    )  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Utterance:
    folder = tmp_path / "here"
    folder.mkdir()
    for name, size in (("film", 500_000), ("sound", 70_000), ("gaze", 900), ("boxes", 0)):
        (folder / name).write_bytes(bytes(n % 251 for n in range(size)))
    return utterance(folder)


def test_where_the_files_lie_does_not_count(source: Utterance, tmp_path: Path) -> None:
    moved = utterance(Path(shutil.copytree(tmp_path / "here", tmp_path / "there")))
    assert fingerprint(moved) == fingerprint(source)


@pytest.mark.parametrize(
    ("name", "place"),
    [("film", 0), ("film", 65_535), ("film", -65_536), ("film", -1), ("sound", 66_000), ("gaze", 450)],
)
def test_a_byte_counts(source: Utterance, tmp_path: Path, name: str, place: int) -> None:
    before = fingerprint(source)
    data = bytearray((tmp_path / "here" / name).read_bytes())
    data[place] ^= 1
    (tmp_path / "here" / name).write_bytes(data)
    assert fingerprint(source) != before


@pytest.mark.parametrize("name", ["film", "sound", "gaze", "boxes"])
def test_size_and_absence_count(source: Utterance, tmp_path: Path, name: str) -> None:
    path = tmp_path / "here" / name
    seen = {fingerprint(source)}
    path.write_bytes(path.read_bytes() + b"\0")
    seen.add(fingerprint(source))
    path.unlink()
    seen.add(fingerprint(source))
    assert len(seen) == 3


def test_which_files_there_are_and_how_boxes_are_taken_count(source: Utterance) -> None:
    assert source.boxes is not None
    others = [
        source,
        replace(source, gaze_path=None),
        replace(source, audio_path=None),
        replace(source, audio_path=source.gaze_path, gaze_path=source.audio_path),
        replace(source, boxes=None),
        replace(source, boxes=replace(source.boxes, margin=1.3)),
        replace(source, boxes=replace(source.boxes, height=360)),
    ]
    assert len({fingerprint(other) for other in others}) == len(others)

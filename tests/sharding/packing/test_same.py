"""What is built already is only left alone where a build would make the same of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from loaders.errors import InputError
from sharding.corpora.table import TableSources, read_table
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.packing.building import build
from sharding.settings import BuildSettings
from sharding.utterance import Rejection
from tests.films import write_film

SETTINGS = BuildSettings(size=16, fps=4.0, clip_seconds=0.5)


def test_what_is_left_out_now_or_was_is_a_difference(tmp_path: Path) -> None:
    for speaker in range(3):
        write_film(tmp_path / f"mp4/s{speaker}/v/1.mp4", 0.6 + 0.1 * speaker, fps=8)
    whole = read_voxceleb(VoxcelebSources(source=tmp_path / "mp4", test_fraction=0.0))
    first, *others = whole.utterances
    part = replace(whole, utterances=tuple(others), rejected=(Rejection.of(first, "duplicate", "as another"),))
    for made, asked, message in ((whole, part, "would be left out now"), (part, whole, r"left out \(duplicate\)")):
        output = tmp_path / message[:5]
        build(made, output, SETTINGS, 1)
        before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
        build(made, output, SETTINGS, 1)  # nothing to do
        with pytest.raises(InputError, match=message):
            build(asked, output, SETTINGS, 1)
        assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_classes_and_ranges_that_a_finished_dataset_does_not_declare_are_refused(tmp_path: Path) -> None:
    write_film(tmp_path / "1.mp4", 0.6, fps=8)
    (tmp_path / "list.csv").write_text("video,felt,level\n1.mp4,sad,1\n")
    options = TableSources(table=tmp_path / "list.csv", labels=("felt",), numbers=("level",))
    build(read_table(options), tmp_path / "out", SETTINGS, 1)
    before = (tmp_path / "out/dataset.json").read_bytes()
    for extend in (False, True):
        build(read_table(options), tmp_path / "out", SETTINGS, 1, extend=extend)  # nothing to do
        for more, told in (
            (
                replace(options, classes=("felt=sad,glad",)),
                "felt of the classes sad, not felt of the classes sad, glad",
            ),
            (replace(options, ranges=("level=0,5",)), "level from 1 to 1, not level from 0 to 5"),
        ):
            with pytest.raises(InputError, match=told):
                build(read_table(more), tmp_path / "out", SETTINGS, 1, extend=extend)
    assert (tmp_path / "out/dataset.json").read_bytes() == before


def test_another_declaration_of_the_same_labels_is_refused_and_nothing_read(tmp_path: Path) -> None:
    """Another order of classes, fewer of them, a narrower range: dataset.json would have kept the old in silence."""
    write_film(tmp_path / "1.mp4", 0.6, fps=8)
    (tmp_path / "list.csv").write_text("video,felt,level\n1.mp4,sad,1\n")
    options = TableSources(
        table=tmp_path / "list.csv",
        labels=("felt",),
        numbers=("level",),
        classes=("felt=sad,glad",),
        ranges=("level=0,5",),
    )
    build(read_table(options), tmp_path / "out", SETTINGS, 1)
    before = (tmp_path / "out/dataset.json").read_bytes()
    others = (
        (
            replace(options, classes=("felt=glad,sad",)),
            "felt of the classes sad, glad, not felt of the classes glad, sad",
        ),
        (replace(options, classes=("felt=sad",)), "felt of the classes sad, glad, not felt of the classes sad"),
        (replace(options, ranges=("level=0,2",)), "level from 0 to 5, not level from 0 to 2"),
    )
    corpora = [(read_table(other), told) for other, told in others]
    (tmp_path / "1.mp4").rename(tmp_path / "away.mp4")  # nobody asks for it
    for corpus, told in corpora:
        with pytest.raises(InputError, match=f"{told}: give the same, or build into another --output"):
            build(corpus, tmp_path / "out", SETTINGS, 1)
    (tmp_path / "away.mp4").rename(tmp_path / "1.mp4")
    for corpus, told in corpora:
        with pytest.raises(InputError, match=f"{told}: give the same, or build the dataset again"):
            build(corpus, tmp_path / "out", SETTINGS, 1, extend=True)
    derived = read_table(replace(options, classes=(), ranges=()))
    with pytest.raises(InputError, match="not felt of the classes sad: give the same"):
        build(derived, tmp_path / "out", SETTINGS, 1)
    build(derived, tmp_path / "out", SETTINGS, 1, extend=True)  # who declares nothing gets what the dataset has
    assert (tmp_path / "out/dataset.json").read_bytes() == before


def test_an_extension_gets_the_classes_that_are_declared_or_is_refused(tmp_path: Path) -> None:
    for name in "ab":
        write_film(tmp_path / f"{name}.mp4", 0.6, fps=8)
    rows = ("video,felt", "a.mp4,sad", "b.mp4,angry")
    (tmp_path / "few.csv").write_text("\n".join(rows[:2]))
    (tmp_path / "all.csv").write_text("\n".join(rows))
    few = TableSources(table=tmp_path / "few.csv", labels=("felt",), name="c", test_fraction=0.0)
    whole = replace(few, table=tmp_path / "all.csv")
    build(read_table(few), tmp_path / "out", SETTINGS, 1)
    with pytest.raises(
        InputError, match="has felt of the classes sad, angry, not felt of the classes angry, sad: decl"
    ):
        build(read_table(replace(whole, classes=("felt=angry,sad",))), tmp_path / "out", SETTINGS, 1, extend=True)
    declared = replace(whole, classes=("felt=sad,angry",))
    build(read_table(declared), tmp_path / "out", SETTINGS, 1, extend=True)
    for again in (declared, whole):  # what nobody declares is sorted, and the dataset's is not for that
        assert build(read_table(again), tmp_path / "out", SETTINGS, 1).made is None

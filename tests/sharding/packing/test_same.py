"""What is built already is only left alone where a build would make the same of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from loaders.dataset.manifest import write_manifest
from loaders.errors import InputError
from sharding.corpora.table import TableSources, read_table
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.packing.building import Built, build
from sharding.packing.parts import parts_sha256
from sharding.settings import BuildSettings
from sharding.sources.fingerprint import fingerprint
from sharding.utterance import Rejection, Utterance
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
        with pytest.raises(InputError, match=f"{told}: give the same .*, or build the dataset again"):
            build(corpus, tmp_path / "out", SETTINGS, 1, extend=True)
    assert {path.name for path in tmp_path.iterdir()} == {"1.mp4", "list.csv", "out"}
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
        InputError, match="has felt of the classes sad, angry, not felt of the classes angry, sad: give "
    ):
        build(read_table(replace(whole, classes=("felt=angry,sad",))), tmp_path / "out", SETTINGS, 1, extend=True)
    declared = replace(whole, classes=("felt=sad,angry",))
    build(read_table(declared), tmp_path / "out", SETTINGS, 1, extend=True)
    for again in (declared, whole):  # what nobody declares is sorted, and the dataset's is not for that
        assert build(read_table(again), tmp_path / "out", SETTINGS, 1).made is None


def test_another_part_of_a_film_is_noticed_and_that_a_corpus_was_moved_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and labels stay: without a digest of the parts, only --extend compared what the clips are cut from."""
    write_film(tmp_path / "one/films/a.mp4", 2.0, fps=8)
    write_film(tmp_path / "one/films/b.mp4", 1.5, fps=8)
    rows = "films/a.mp4,v,1,0.0,1.0,sad\nfilms/a.mp4,v,2,1.0,,glad\nfilms/b.mp4,v,3,,,sad\n"
    (tmp_path / "two/films").mkdir(parents=True)
    options = TableSources(table=tmp_path / "list.csv", root=tmp_path / "one", labels=("felt",))

    def build_again(text: str, *, root: str = "one", extends: bool = False) -> Built:
        (tmp_path / "list.csv").write_text("video,video_id,utterance,start,end,felt\n" + text)
        corpus = read_table(replace(options, root=tmp_path / root))
        return build(corpus, tmp_path / "out", SETTINGS, 1, extend=extends)

    assert build_again(rows).manifest.parts_sha256 is not None
    for old, new, path in (
        ("0.0,1.0", "0.5,1.5", r"films/a\.mp4: .* part of the film \(0.5 s to 1.5 s now\), have"),
        ("0.0,1.0", "0.0,1.1", r"films/a\.mp4: "),
        ("1.0,,glad", ",,glad", r"films/a\.mp4: "),
    ):
        with pytest.raises(InputError, match=path + ".*changed since the dataset was built: build into another --outp"):
            build_again(rows.replace(old, new))
        with pytest.raises(InputError, match=path + ".*changed since the dataset was built: build the dataset again"):
            build_again(rows.replace(old, new), extends=True)
    looked_at: list[Utterance] = []

    def counted(utterance: Utterance) -> int:
        looked_at.append(utterance)
        return fingerprint(utterance)

    monkeypatch.setattr("sharding.packing.extend.fingerprint", counted)
    (tmp_path / "one/films").rename(tmp_path / "two/films")
    assert build_again(rows, root="two").made is None
    assert looked_at == []


def test_of_a_dataset_without_a_digest_of_parts_the_parts_are_looked_at(tmp_path: Path) -> None:
    """An earlier version has built it."""
    write_film(tmp_path / "a.mp4", 2.0, fps=8)
    (tmp_path / "list.csv").write_text("video,utterance,start,end\na.mp4,1,0,1\n")
    options = TableSources(table=tmp_path / "list.csv")
    built = build(read_table(options), tmp_path / "out", SETTINGS, 1)
    write_manifest(tmp_path / "out", replace(built.manifest, parts_sha256=None))
    assert "parts_sha256" not in (tmp_path / "out/dataset.json").read_text()
    build(read_table(options), tmp_path / "out", SETTINGS, 1)
    (tmp_path / "list.csv").write_text("video,utterance,start,end\na.mp4,1,0,1.5\n")
    with pytest.raises(InputError, match=r"a\.mp4: .*\(0 s to 1.5 s now\), have changed since"):
        build(read_table(options), tmp_path / "out", SETTINGS, 1)


def test_datasets_of_whole_files_in_folders_say_nothing_of_parts(tmp_path: Path) -> None:
    write_film(tmp_path / "mp4/s/v/1.mp4", 0.6, fps=8)
    corpus = read_voxceleb(VoxcelebSources(source=tmp_path / "mp4", test_fraction=0.0))
    assert parts_sha256(corpus) is None
    assert parts_sha256(replace(corpus, utterances=(replace(corpus.utterances[0], start=0.0),))) is not None

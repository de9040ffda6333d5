"""A build removes what it has made and nothing else: not by name, not through a link, not where nothing came of it."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from loaders.errors import InputError
from sharding.checks.repair import repair
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.engines.local import LocalEngine
from sharding.packing import exchange as exchanging
from sharding.packing.building import build
from sharding.packing.finish import NothingBuiltError
from sharding.packing.plan import ShardJob, plan_shards
from sharding.packing.shard import build_shard
from sharding.packing.survey import survey
from sharding.packing.workfolder import clean_work_folder, remove_work_folder, sole_builder, undo
from sharding.settings import BuildSettings
from sharding.utterance import Corpus
from sharding.verify import verify
from tests.films import shades, write_film

SETTINGS = BuildSettings(size=16, fps=4.0, clip_seconds=0.5)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Films for two shards."""
    folder = tmp_path_factory.mktemp("films")
    for number in range(34):
        write_film(folder / f"s{number % 5}/v{number}/1.mp4", 0.5, fps=8, picture=shades(16, 16))
    return read_voxceleb(VoxcelebSources(source=folder, test_fraction=0.0))


@pytest.fixture(scope="module")
def hopeless(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Nothing comes of it."""
    folder = tmp_path_factory.mktemp("none")
    (folder / "s/v").mkdir(parents=True)
    (folder / "s/v/1.mp4").write_text("no film")
    return read_voxceleb(VoxcelebSources(source=folder, test_fraction=0.0))


def plan(corpus: Corpus, output: Path, settings: BuildSettings = SETTINGS) -> list[ShardJob]:
    found = survey(corpus, output / "nowhere", LocalEngine(workers=1))  # keeps no lengths
    return plan_shards(found.utterances, found.seconds, settings, output)


def broken_off(corpus: Corpus, output: Path) -> list[ShardJob]:
    """A build that was killed when it had built its first shard of two."""
    jobs = plan(corpus, output)
    assert len(jobs) == 2
    with sole_builder(output):
        clean_work_folder(output, jobs)
        build_shard(jobs[0])
    return jobs


def everything(folder: Path) -> dict[str, bytes | str]:
    """Path and content of whatever is in a folder, hidden or not; of a link where it leads."""
    return {
        path.relative_to(folder).as_posix(): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    } | {
        f"{path.relative_to(folder).as_posix()}/": ""
        for path in folder.rglob("*")
        if path.is_dir() and not path.is_symlink()
    }


# Whose folder it is ---------------------------------------------------------------------------------------------------


def swift(folder: Path) -> None:
    (folder / ".build/debug").mkdir(parents=True)
    (folder / ".build/debug/a.o").write_text("object")


def empty_one_among_files(folder: Path) -> None:
    (folder / ".build").mkdir(parents=True)
    (folder / "thesis").mkdir()


def locked_among_files(folder: Path) -> None:
    empty_one_among_files(folder)
    (folder / ".build/lock").touch()


def link_to_a_builds(folder: Path) -> None:
    folder.mkdir()
    with sole_builder(folder.parent / "other"):
        (folder / ".build").symlink_to("../other/.build")


def marker_of_another(folder: Path) -> None:
    (folder / ".build").mkdir(parents=True)
    (folder / ".build/build.json").write_text('{"made_by": "ninja", "shards": {}}')


def receipts_by_name_alone(folder: Path) -> None:
    (folder / ".build").mkdir(parents=True)
    (folder / ".build/train-000000.parquet").write_bytes(b"a table of mine")


def files_and_no_work_folder(folder: Path) -> None:
    (folder / "train").mkdir(parents=True)
    (folder / "train/000000.tar").write_bytes(b"mine")


@pytest.mark.parametrize("end", ["it would succeed", "nothing would come of it"])
@pytest.mark.parametrize(
    "make",
    [
        swift,
        empty_one_among_files,
        locked_among_files,
        link_to_a_builds,
        marker_of_another,
        receipts_by_name_alone,
        files_and_no_work_folder,
    ],
)
def test_a_folder_that_is_no_builds_is_refused_and_not_touched(
    corpus: Corpus, hopeless: Corpus, tmp_path: Path, make: Callable[[Path], None], end: str
) -> None:
    output = tmp_path / "output"
    make(output)
    for name in ("data/old.tar", "data/.gitkeep", "README.md"):
        path = output / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("precious")
    before = everything(tmp_path)
    with pytest.raises(InputError, match=r"no build of this program made it|holds other files"):
        build(corpus if end == "it would succeed" else hopeless, output, SETTINGS, 1)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("left", ["folder", "work folder", "lock", "half a marker", "marker"])
def test_a_build_that_was_killed_while_it_began_goes_on(corpus: Corpus, tmp_path: Path, left: str) -> None:
    output = tmp_path / "output"
    output.mkdir()
    work = output / ".build"
    if left != "folder":
        work.mkdir()
    if left in ("lock", "half a marker", "marker"):
        (work / "lock").touch()
    if left == "half a marker":
        (work / ".build.json.77.0123abcd").write_text("{")
    if left == "marker":
        with sole_builder(output):
            pass
    build(corpus, output, SETTINGS, 1)
    assert verify(output).is_whole


def test_a_build_of_an_earlier_version_goes_on(corpus: Corpus, tmp_path: Path) -> None:
    """It has receipts, and nothing else tells whose it is."""
    jobs = broken_off(corpus, tmp_path / "output")
    (tmp_path / "output/.build/build.json").unlink()
    written = (jobs[0].output / "train/000000.tar").stat().st_mtime_ns
    build(corpus, tmp_path / "output", SETTINGS, 1)
    assert verify(tmp_path / "output").is_whole
    assert (jobs[0].output / "train/000000.tar").stat().st_mtime_ns == written


def test_an_output_that_is_a_link_to_a_folder_serves_as_the_folder(
    corpus: Corpus, hopeless: Corpus, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    with pytest.raises(NothingBuiltError, match="undecodable"):
        build(hopeless, tmp_path / "link", SETTINGS, 1)
    assert everything(tmp_path) == {"link": "there", "there/": ""}
    build(corpus, tmp_path / "link", SETTINGS, 1)
    assert (tmp_path / "link").is_symlink()
    assert verify(tmp_path / "there").is_whole
    part = Corpus(name=corpus.name, utterances=corpus.utterances[::2])
    shutil.rmtree(tmp_path / "there")
    (tmp_path / "there").mkdir()
    build(part, tmp_path / "link", SETTINGS, 1)
    build(corpus, tmp_path / "link", SETTINGS, 1, extend=True)
    assert verify(tmp_path / "there").is_whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "there"]


# What is removed of it ------------------------------------------------------------------------------------------------


def test_what_killed_builds_leave_is_cleared_and_the_rest_is_kept(corpus: Corpus, tmp_path: Path) -> None:
    output = tmp_path / "output"
    jobs = broken_off(corpus, output)
    build_shard(jobs[1])
    kept = everything(output)
    for name in (
        *("train/.000000.tar.99.0123abcd", "train/.000001.idx.99.0123abcd", "train/.clips.parquet.9.01234567"),
        *(".dataset.json.99.0123abcd", ".rejected.parquet.99.0123abcd"),
        *(".build/.train-000001.parquet.99.0123abcd", ".build/.build.json.99.0123abcd"),
    ):
        (output / name).write_bytes(b"left")
    clean_work_folder(output, jobs)
    assert everything(output) == kept


def test_shards_that_the_plan_no_longer_holds_go_and_nothing_beside_them(corpus: Corpus, tmp_path: Path) -> None:
    """What others put there meanwhile stays, whatever its name; so does what a link leads to."""
    output, precious = tmp_path / "output", tmp_path / "precious"
    broken_off(corpus, output)
    precious.mkdir()
    (precious / "backup.tar").write_text("precious")
    (precious / ".hidden").write_text("precious")
    (output / "link").symlink_to("../precious")
    (output / "mine").mkdir()
    mine = ("mine/old.tar", "mine/000001.tar", "train/notes.txt", "train/.gitkeep", "train/000007.tar", ".note")
    for name in mine:
        (output / name).write_text("precious")
    (output / "train/.ipynb_checkpoints").mkdir()
    (output / "train/000001.tar").symlink_to("../../precious/backup.tar")
    before = everything(tmp_path)
    (job,) = plan(Corpus(name=corpus.name, utterances=corpus.utterances[:3]), output)
    clean_work_folder(output, [job])
    after = everything(tmp_path)
    ours = {"output/train/000001.tar", "output/.build/build.json"}
    assert {name: text for name, text in after.items() if name not in ours} == {
        name: text for name, text in before.items() if name not in ours
    }
    assert "output/train/000001.tar" not in after


def test_a_split_that_is_a_link_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    output = tmp_path / "output"
    with sole_builder(output):
        pass
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/000009.tar").write_text("precious")
    (output / "train").symlink_to("../precious")
    before = everything(tmp_path / "precious")
    with pytest.raises(InputError, match=r"train: a link, or no folder"):
        build(corpus, output, SETTINGS, 1)
    assert everything(tmp_path / "precious") == before


def test_a_lock_that_is_a_link_is_not_followed(corpus: Corpus, tmp_path: Path) -> None:
    output = tmp_path / "output"
    with sole_builder(output):
        pass
    (tmp_path / "precious").write_text("precious")
    (output / ".build/lock").unlink()
    (output / ".build/lock").symlink_to("../../precious")
    with pytest.raises(InputError, match="symbolic links"):
        build(corpus, output, SETTINGS, 1)
    assert (tmp_path / "precious").read_text() == "precious"


def test_where_nothing_came_of_it_only_what_it_made_is_removed(hopeless: Corpus, tmp_path: Path) -> None:
    with pytest.raises(NothingBuiltError):
        build(hopeless, tmp_path / "made/by/the build", SETTINGS, 1)
    assert everything(tmp_path) == {"made/": "", "made/by/": ""}
    (tmp_path / "mine").mkdir()
    with pytest.raises(NothingBuiltError):
        build(hopeless, tmp_path / "mine", SETTINGS, 1)
    assert everything(tmp_path / "mine") == {}
    assert (tmp_path / "mine").is_dir()
    output = tmp_path / "shared"
    with sole_builder(output):
        (output / "notes.txt").write_text("put there while it was building")
        (output / "train").mkdir()
        (output / "train/mine.tar").write_text("so was this")
        clean_work_folder(output, plan(hopeless, output))
        undo(output)
    assert set(everything(output)) == {"notes.txt", "train/", "train/mine.tar"}


def test_what_is_not_the_builds_among_its_receipts_is_named(corpus: Corpus, tmp_path: Path) -> None:
    output = tmp_path / "output"
    jobs = broken_off(corpus, output)
    (output / ".build/diary.txt").write_text("precious")
    with pytest.raises(InputError, match=r"diary.txt: is not the build's"):
        remove_work_folder(output)
    assert (output / ".build/diary.txt").read_text() == "precious"
    (output / ".build/diary.txt").unlink()
    build(corpus, output, SETTINGS, 1)  # it is known still, and goes on
    assert verify(output).is_whole
    assert jobs


@pytest.mark.parametrize("steps", range(6))
def test_killed_anywhere_while_it_clears_up_it_is_gone_on_with(
    corpus: Corpus, tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many of the files that it removes."""
    output, left = tmp_path / "output", steps

    def unlink(path: Path, missing_ok: bool = False) -> None:
        nonlocal left
        if path.parent.name == ".build" and not path.name.startswith("."):
            if not left:
                raise KeyboardInterrupt
            left -= 1
        real(path, missing_ok)

    real = Path.unlink
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        try:
            build(corpus, output, SETTINGS, 1)
        except KeyboardInterrupt:
            assert (output / ".build").exists()
    build(corpus, output, SETTINGS, 1)
    assert not (output / ".build").exists()
    assert verify(output).is_whole


# Beside a finished dataset --------------------------------------------------------------------------------------------


def test_a_work_folder_of_another_tool_in_a_dataset_is_no_build(corpus: Corpus, tmp_path: Path) -> None:
    """It is refused by a build, and put aside by a repair, which a build's own would stop."""
    output = tmp_path / "output"
    build(corpus, output, SETTINGS, 1)
    before = everything(output)
    swift(output)
    with pytest.raises(InputError, match="no build of this program made it"):
        build(corpus, output, SETTINGS, 1)
    report = verify(output)
    assert [(fault.kind, fault.path) for fault in report.faults] == [("extra", ".build")]
    repair(report)
    assert (output / ".quarantine/1/.build/debug/a.o").read_text() == "object"
    shutil.rmtree(output / ".quarantine")
    assert everything(output) == before
    with sole_builder(output / "../other"):
        shutil.copytree(output / "../other/.build", output / ".build")
    with pytest.raises(InputError, match="a build is at work here"):
        repair(verify(output))


def extension_of(corpus: Corpus, output: Path) -> Path:
    """A dataset of half of the corpus; where its extension is made."""
    build(Corpus(name=corpus.name, utterances=corpus.utterances[::2]), output, SETTINGS, 1)
    return output.with_name(f".{output.name}.extension")


def test_an_extensions_folder_that_is_somebody_elses_is_refused_and_not_touched(corpus: Corpus, tmp_path: Path) -> None:
    folder = extension_of(corpus, tmp_path / "output")
    swift(folder)
    (folder / ".dataset").mkdir()
    (folder / ".dataset/precious").write_text("precious")
    (folder / ".former").mkdir()
    before = everything(tmp_path)
    with pytest.raises(InputError, match="no build of this program made it"):
        build(corpus, tmp_path / "output", SETTINGS, 1, extend=True)
    shutil.rmtree(folder / ".build")
    before = everything(tmp_path)
    with pytest.raises(InputError, match="holds other files"):
        build(corpus, tmp_path / "output", SETTINGS, 1, extend=True)
    assert everything(tmp_path) == before
    (tmp_path / "output").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="no such folder"):
        build(corpus, tmp_path / "output", SETTINGS, 1, extend=True)
    assert (folder / ".former").is_dir()  # it is not taken for a dataset that was about to be replaced


def test_an_extension_that_was_killed_clearing_up_is_gone_on_with(corpus: Corpus, tmp_path: Path) -> None:
    """By a version that removed first what told whose the folder was: the dataset holds all that is left in it."""
    output = tmp_path / "output"
    folder = extension_of(corpus, output)
    shutil.copytree(output, tmp_path / "existing")
    build(corpus, output, SETTINGS, 1, extend=True)
    extended = everything(output)
    (folder / ".dataset/train").mkdir(parents=True)
    shutil.copy(tmp_path / "existing/train/000000.tar", folder / ".dataset/train")
    shutil.copy(tmp_path / "existing/train/clips.parquet", folder / ".dataset/train")
    build(corpus, output, SETTINGS, 1, extend=True)
    assert not folder.exists()
    assert everything(output) == extended
    (folder / ".dataset/train").mkdir(parents=True)
    (folder / ".dataset/train/000000.tar").write_text("another shard")
    with pytest.raises(InputError, match="holds other files"):
        build(corpus, output, SETTINGS, 1, extend=True)
    assert (folder / ".dataset/train/000000.tar").read_text() == "another shard"


@pytest.mark.parametrize("steps", [0, 3, 6, 9])
def test_an_extension_killed_anywhere_while_it_clears_up_is_gone_on_with(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    output, left = tmp_path / "output", steps
    folder = extension_of(corpus, output)
    names = ("unlink", "rmdir")
    real = {name: getattr(os, name) for name in names}

    def stopping(name: str) -> Callable[..., None]:
        def step(*arguments: Any, **options: Any) -> None:
            nonlocal left
            if exchanged:
                if not left:
                    raise KeyboardInterrupt
                left -= 1
            real[name](*arguments, **options)

        return step

    exchanged: list[bool] = []

    def exchange(one: Path, other: Path) -> bool:
        exchanged.append(exchanging.exchange(one, other))
        return True

    with monkeypatch.context() as patch:
        patch.setattr("sharding.packing.folder_output.exchange", exchange)
        for name in names:
            patch.setattr(os, name, stopping(name))
        with suppress(KeyboardInterrupt):
            build(corpus, output, SETTINGS, 1, extend=True)
    extended = everything(output)
    build(corpus, output, SETTINGS, 1, extend=True)
    assert not folder.exists()
    assert everything(output) == extended
    assert verify(output).is_whole

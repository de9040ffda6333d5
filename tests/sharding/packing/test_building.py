"""A build goes one way, whether its dataset lies in a folder or in a store."""

import hashlib
import io
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from loaders.errors import InputError
from loaders.storage.urls import url_of
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.packing.building import Built, build, output_at
from sharding.packing.folder_output import FolderOutput
from sharding.packing.remote import RemoteOptions, RemoteOutput
from sharding.settings import BuildSettings
from sharding.sources.store import Store
from sharding.utterance import Corpus
from tests.films import write_film
from tests.s3 import S3

SETTINGS = BuildSettings(size=16, fps=2.0, clip_seconds=1.0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("films")
    film = write_film(folder / "film.mp4", 1, fps=5).read_bytes()
    for number in range(4):
        path = folder / f"mp4/s{number}/v{number}/1.mp4"
        path.parent.mkdir(parents=True)
        path.write_bytes(film)
    return read_voxceleb(VoxcelebSources(source=folder / "mp4", test_fraction=0.0))


@pytest.fixture(params=["folder", "store"])
def output(request: pytest.FixtureRequest, tmp_path: Path, s3: S3) -> Path:
    return tmp_path / "dataset" if request.param == "folder" else Path(f"s3://bucket/{request.node.name}")


@pytest.fixture
def unclear(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Builds are killed when only clearing up is left to do, until this is undone."""

    def killed(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sharding.packing.folder_output._NewDataset.clear_up", killed)
    monkeypatch.setattr("sharding.packing.remote.HeldUrl.clear_up", killed)
    return monkeypatch


def run(corpus: Corpus, output: Path, scratch: Path) -> tuple[Built, str]:
    """A build, and what it tells."""
    console = Console(file=io.StringIO(), width=40)
    done = build(corpus, output, SETTINGS, 1, remote=RemoteOptions(scratch=scratch), console=console)
    assert isinstance(console.file, io.StringIO)
    return done, console.file.getvalue()


def digests(output: Path) -> dict[str, str]:
    url = url_of(output)
    if url is not None:
        store = Store(url=url)
        return {name: hashlib.sha256(store.get(name) or b"").hexdigest() for name in store.sizes()}
    files = [path for path in output.rglob("*") if path.is_file()]
    return {path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_what_is_there_is_told_alike(corpus: Corpus, output: Path, tmp_path: Path, unclear: pytest.MonkeyPatch) -> None:
    """Killed while it cleared up, a build is cleared up after by the next one, where that is the same build."""
    name = output_at(output, RemoteOptions()).name
    with pytest.raises(KeyboardInterrupt):
        run(corpus, output, tmp_path / "scratch")
    unclear.undo()
    left = digests(output)
    part = replace(corpus, utterances=corpus.utterances[1:])
    for other, message in (
        (part, "1 of its utterances are not in the sources now"),
        (replace(corpus, name="other"), "was built from voxceleb, not from other"),
    ):
        with pytest.raises(InputError, match=f"{re.escape(name)}: .*{message}"):
            run(other, output, tmp_path / "scratch")
        assert digests(output) == left
    done, told = run(corpus, output, tmp_path / "scratch")
    assert told.splitlines()[-1] == f"{name}: was built already but for clearing up"
    assert done.made is None
    kept = {file: digest for file, digest in left.items() if not file.startswith(".build/")}
    assert digests(output) == kept != left
    again, told = run(corpus, output, tmp_path / "scratch")
    assert told.splitlines()[-1] == f"{name}: is built already, nothing to do"
    assert again == done


def test_what_another_build_has_finished_meanwhile_is_held_against_the_corpus(
    corpus: Corpus, output: Path, tmp_path: Path, unclear: pytest.MonkeyPatch
) -> None:
    """Between looking and holding."""
    first = replace(corpus, utterances=corpus.utterances[1:])
    with pytest.raises(KeyboardInterrupt):
        run(first, output, tmp_path / "scratch")
    unclear.undo()
    for kind in (FolderOutput, RemoteOutput):
        unclear.setattr(kind, "finished", lambda _: nullcontext())
    with pytest.raises(InputError, match=r"a finished dataset is there, without 1 utterances .*: --extend it"):
        run(corpus, output, tmp_path / "scratch")
    done, told = run(first, output, tmp_path / "scratch")
    assert told.splitlines()[-1].endswith(": holds all of these utterances already")
    assert done.made is None
    assert not any(name.startswith(".build/") for name in digests(output))


def test_a_shard_without_its_index_is_built_again(
    corpus: Corpus, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sharding.packing.building.finish_dataset", killed)
    with pytest.raises(KeyboardInterrupt):
        run(corpus, output, tmp_path / "scratch")
    monkeypatch.undo()
    url = url_of(output)
    if url is None:
        (output / "train/000000.idx").unlink()
    else:
        Store(url=url).remove(["train/000000.idx"])
    done, told = run(corpus, output, tmp_path / "scratch")
    assert done.made is not None
    assert done.made.speed.clips == 4
    assert "shards are there already" not in told
    build(corpus, tmp_path / "whole", SETTINGS, 1)
    assert digests(output) == digests(tmp_path / "whole")

"""A dataset's documents: written and declared by a build, verified, repaired, extended; what its owner says of it."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loaders import ClipLoader
from loaders.dataset.about import About
from loaders.dataset.dataset import Dataset
from loaders.dataset.manifest import from_json, read_manifest, to_json
from loaders.errors import InputError
from loaders.storage.atomic import sha256_of
from sharding.card import state
from sharding.cards.documents import DOCUMENTS, write_documents
from sharding.checks.repair import QUARANTINE, repair
from sharding.packing.building import Built, build
from sharding.packing.remote import RemoteOptions
from sharding.packing.workfolder import undo
from sharding.packing.writer import WORK_FOLDER
from sharding.settings import BuildSettings
from sharding.utterance import Corpus, Utterance
from sharding.verify import verify
from tests.datasets import Contents, make_dataset
from tests.films import write_film
from tests.programs import ROOT

SETTINGS = BuildSettings(size=16, fps=2.0, clip_seconds=1.0)
ABOUT = About(title="Heads", license="CC-BY-4.0", citation="Me (2026).")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("datasets") / "tiny"
    speakers = {"train": 4, "test": 1}
    make_dataset(folder, Contents(speakers=speakers, shards={"train": 2, "test": 1}, videos=1, utterances=1))
    return folder


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / "data"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    film = write_film(tmp_path_factory.mktemp("films") / "film.mp4", 1.2, fps=5)
    utterances = (
        Utterance(corpus="c", split=split, speaker=f"{split}{n}", video=f"{split}{n}", utterance="u", video_path=film)
        for split in ("train", "test")
        for n in range(3)
    )
    return Corpus(name="c", utterances=tuple(utterances), apart="utterance")


def part(corpus: Corpus) -> Corpus:
    return replace(corpus, utterances=corpus.utterances[:-1])


def make(corpus: Corpus, output: Path, about: About | None = None, **options: Any) -> Built:
    return build(corpus, output, SETTINGS, 1, about=about, on_duplicate="allow", **options)


def test_a_build_declares_its_documents(dataset: Path) -> None:
    manifest = read_manifest(dataset)
    assert manifest.documents == {name: sha256_of(dataset / name) for name in DOCUMENTS}
    assert not verify(dataset).faults
    for name, text in DOCUMENTS.items():
        assert (dataset / name).read_text() == text(manifest) == text(replace(manifest, documents={}))


def test_a_reader_does_not_need_them(copy: Path) -> None:
    for name in DOCUMENTS:
        (copy / name).unlink()
    assert Dataset.open(copy).manifest.documents.keys() == DOCUMENTS.keys()
    with ClipLoader(copy, batch_size=4) as loader:
        assert len(next(iter(loader))) == 4


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_one_that_was_changed_or_is_gone_is_told_and_written_again(dataset: Path, copy: Path, name: str) -> None:
    (copy / name).write_text((copy / name).read_text() + "mine\n")
    (fault,) = verify(copy).faults
    assert (fault.kind, fault.path) == ("damaged", name)
    repair(verify(copy))
    assert (copy / name).read_bytes() == (dataset / name).read_bytes()
    assert (copy / QUARANTINE / "1" / name).read_text().endswith("mine\n")
    (copy / name).unlink()
    (fault,) = verify(copy).faults
    assert (fault.kind, fault.path) == ("missing", name)
    repair(verify(copy))
    assert not verify(copy).faults
    assert (copy / "dataset.json").read_bytes() == (dataset / "dataset.json").read_bytes()


def test_a_repair_that_drops_a_shard_tells_so_in_them(copy: Path) -> None:
    before = read_manifest(copy)
    (copy / "train" / before.splits["train"].shards[0].name).write_bytes(b"none")
    repair(verify(copy))
    after = read_manifest(copy)
    assert after.splits["train"].clips < before.splits["train"].clips
    assert not verify(copy).faults
    assert all((copy / name).read_text() == text(after) for name, text in DOCUMENTS.items())


@pytest.mark.parametrize("place", ["folder", "file://"])
def test_an_extension_writes_them_again_and_keeps_what_was_said(corpus: Corpus, tmp_path: Path, place: str) -> None:
    """In a folder, and in a store."""
    folder = tmp_path / "data"
    output = folder if place == "folder" else Path(f"file:{folder}")
    remote = RemoteOptions(scratch=tmp_path / "scratch")
    first = make(part(corpus), output, ABOUT, remote=remote).manifest
    assert first.about == ABOUT
    assert "license: cc-by-4.0" in (folder / "README.md").read_text()
    last = make(corpus, output, About(url="https://x.org/y"), extend=True, remote=remote).manifest
    assert last.about == replace(ABOUT, url="https://x.org/y")
    assert last.documents != first.documents
    assert not verify(output).faults
    assert all((folder / name).read_text() == text(last) for name, text in DOCUMENTS.items())


def test_the_bytes_are_of_what_is_there_not_of_how_it_came_there(corpus: Corpus, tmp_path: Path) -> None:
    make(corpus, tmp_path / "a", ABOUT)
    make(corpus, tmp_path / "b", ABOUT)
    for name in ("dataset.json", *DOCUMENTS):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_what_would_have_no_effect_is_refused_by_name(corpus: Corpus, tmp_path: Path) -> None:
    make(corpus, tmp_path / "data", ABOUT)
    before = (tmp_path / "data" / "dataset.json").read_bytes()
    assert make(corpus, tmp_path / "data", ABOUT).made is None
    assert make(corpus, tmp_path / "data").made is None
    for extend in (False, True):
        with pytest.raises(InputError, match=r"with 'CC-BY-4\.0' for --license, not 'MIT': sharding/card.py"):
            make(corpus, tmp_path / "data", About(license="MIT"), extend=extend)
    with pytest.raises(InputError, match="with nothing for --url"):
        make(corpus, tmp_path / "data", About(url="https://x.org"))
    assert (tmp_path / "data" / "dataset.json").read_bytes() == before


@pytest.mark.parametrize(
    ("about", "what"),
    [
        (About(url="x.org"), "--url is 'x.org', which is no"),
        (About(license="do what you want"), "--license is"),
        (About(title=" "), "--title is empty"),
        (About(title="Heads\nand tails"), "--title is .* of more than one line"),
        (About(citation="M\udcff (2026)"), "--citation is .*, which is no UTF-8"),
    ],
)
def test_what_is_no_statement_of_its_kind_is_refused(corpus: Corpus, copy: Path, about: About, what: str) -> None:
    with pytest.raises(InputError, match=what):
        make(corpus, copy.parent / "other", about)
    with pytest.raises(InputError, match=what):
        state(copy, about)
    assert not (copy.parent / "other").exists()


def test_more_is_said_of_a_finished_dataset_and_no_clip_changes(dataset: Path, copy: Path) -> None:
    manifest = state(copy, ABOUT)
    manifest = state(copy, About(license="MIT"))
    assert manifest.about == replace(ABOUT, license="MIT")
    assert read_manifest(copy) == manifest == from_json(to_json(manifest), "it")
    assert not verify(copy).faults
    assert {
        path for path in copy.rglob("*.tar") if path.read_bytes() != (dataset / path.relative_to(copy)).read_bytes()
    } == set()
    with ClipLoader(dataset, batch_size=4) as one, ClipLoader(copy, batch_size=4) as other:
        next(iter(one))
        other.load_state_dict(one.state_dict())  # the same dataset still
    with pytest.raises(InputError, match="nothing is to be said"):
        state(copy, About())


def test_the_command_writes_and_refuses_in_a_line(copy: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, ROOT / "sharding" / "card.py", copy, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    done = run("--license", "MIT", "--url", "https://x.org/y")
    assert done.returncode == 0, done.stderr
    assert read_manifest(copy).about == About(license="MIT", url="https://x.org/y")
    with pytest.raises(InputError, match=r"^s3://bucket/vox: is in a store"):
        state(Path("s3://bucket/vox"), About(license="MIT"))
    refused = run("--url", "nowhere")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1


def test_a_file_that_no_build_has_made_is_not_written_over(copy: Path) -> None:
    manifest = replace(read_manifest(copy), documents={})
    (copy / "README.md").write_text("# My own words\n")
    with pytest.raises(InputError, match="no build has made it"):
        write_documents(copy, manifest)
    assert (copy / "README.md").read_text() == "# My own words\n"


def test_a_document_that_was_changed_since_is_not_written_over(copy: Path) -> None:
    before = (copy / "dataset.json").read_bytes()
    with (copy / "README.md").open("a") as card:
        card.write("My own words\n")
    with pytest.raises(InputError, match=r"README\.md: was changed since .*--repair"):
        state(copy, ABOUT)
    assert (copy / "README.md").read_text().endswith("My own words\n")
    assert (copy / "dataset.json").read_bytes() == before
    repair(verify(copy))
    assert state(copy, ABOUT).about == ABOUT
    assert not verify(copy).faults


def test_what_was_killed_before_it_was_declared_is_said_again(copy: Path) -> None:
    manifest = replace(read_manifest(copy), about=ABOUT)
    write_documents(copy, manifest)
    assert state(copy, ABOUT) == replace(manifest, documents=read_manifest(copy).documents)
    assert not verify(copy).faults


def test_a_build_that_is_undone_takes_its_documents_along_and_no_others(dataset: Path, tmp_path: Path) -> None:
    """As of one that was killed between them and dataset.json."""
    for name, mine in (("a", False), ("b", True)):
        folder = tmp_path / name
        (folder / WORK_FOLDER).mkdir(parents=True)
        for document in DOCUMENTS:
            shutil.copy(dataset / document, folder)
        if mine:
            (folder / "README.md").write_text("# My own words\n")
        undo(folder)
        assert [path.name for path in folder.iterdir()] == (["README.md"] if mine else [])

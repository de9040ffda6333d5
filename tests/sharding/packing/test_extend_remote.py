"""A dataset in a store that grows: as one in a folder, and whoever opens it at any moment finds one that is whole."""

import hashlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from loaders.dataset.dataset import Dataset
from loaders.dataset.manifest import MANIFEST, Manifest, read_manifest
from loaders.errors import InputError
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.packing.building import build
from sharding.packing.buildlock import LOCK
from sharding.packing.description import copied_description
from sharding.packing.remote import RemoteOptions
from sharding.settings import BuildSettings
from sharding.sources.store import Store
from sharding.utterance import Corpus
from sharding.verify import verify
from tests import forked
from tests.films import write_film
from tests.s3 import S3, Misdeed

SETTINGS = BuildSettings(size=16, fps=2.0, clip_seconds=1.0)
FIRST, ALL = 20, 30  # utterances that the existing dataset is built of, and the extended one


def read(films: Path) -> Corpus:
    return read_voxceleb(VoxcelebSources(source=films, test_fraction=0.2))


def part(corpus: Corpus, count: int) -> Corpus:
    """The videos below a number."""
    return replace(corpus, utterances=tuple(u for u in corpus.utterances if int(u.video[1:]) < count))


def files_of(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def objects_of(url: str) -> dict[str, str]:
    store = Store(url=url)
    return {name: hashlib.sha256(store.get(name) or b"").hexdigest() for name in store.sizes()}


@dataclass(frozen=True)
class Grown:
    """Sources, the dataset of some of them, and the same extended in a folder. For reading only."""

    films: Path
    corpus: Corpus
    existing: Path
    extended: Path

    @property
    def manifests(self) -> tuple[Manifest, Manifest]:
        return read_manifest(self.existing), read_manifest(self.extended)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Grown:
    folder = tmp_path_factory.mktemp("grown")
    short = write_film(folder / "short.mp4", 0.4, fps=5).read_bytes()
    film = write_film(folder / "film.mp4", 1, fps=5).read_bytes()
    for number in range(ALL):
        path = folder / f"mp4/s{number % 5}/v{number}/1.mp4"
        path.parent.mkdir(parents=True)
        path.write_bytes(short if number % 9 == 0 else film)
    corpus = read(folder / "mp4")
    build(part(corpus, FIRST), folder / "existing", SETTINGS, 1)
    shutil.copytree(folder / "existing", folder / "extended")
    build(corpus, folder / "extended", SETTINGS, 1, extend=True)
    return Grown(folder / "mp4", corpus, folder / "existing", folder / "extended")


@pytest.fixture
def url(request: pytest.FixtureRequest, grown: Grown, s3: S3) -> str:
    """Of the existing dataset in a store."""
    url = f"s3://bucket/{request.node.name}/Größe 1"
    upload(grown.existing, url)
    s3.requests.clear()
    return url


def upload(folder: Path, url: str) -> None:
    store = Store(url=url)
    for name in files_of(folder):
        store.put(folder / name, name)


def extend(grown: Grown, url: str, scratch: Path, corpus: Corpus | None = None, **options: Any) -> Manifest:
    place = Path(url)
    options = {"extend": True, **options}
    return build(corpus or grown.corpus, place, SETTINGS, 1, remote=RemoteOptions(scratch=scratch), **options).manifest


def opened(url: str, cache: Path, splits: tuple[str, ...] = ("test", "train")) -> Manifest:
    """The dataset as a reader without a cache finds it: every split's catalog is the one that it declares."""
    manifests = set()
    for split in splits:
        shutil.rmtree(cache, ignore_errors=True)
        found = Dataset.open(url, cache=cache, splits=[split])
        manifest = found.manifest
        assert len(found.catalog(split, ["filmstrip"])) == manifest.splits[split].clips
        manifests.add(manifest.splits["train"].catalog_sha256)
    assert len(manifests) == 1
    return manifest


def test_it_becomes_what_one_in_a_folder_becomes(grown: Grown, url: str, s3: S3, tmp_path: Path) -> None:
    manifest = extend(grown, url, tmp_path / "scratch")
    assert manifest == grown.manifests[1]
    assert objects_of(url) == files_of(grown.extended)
    assert list((tmp_path / "scratch").iterdir()) == []
    assert verify(Path(url)).faults == verify(grown.extended).faults  # that all films are the same
    assert [s3.puts(rf"/{shard}\.") for shard in ("train/000000", "test/000000", "train/000001", "test/000001")] == [
        *(0, 0),
        *(2, 2),  # the tar and its index
    ]
    # Once more, there is nothing to do.
    s3.requests.clear()
    extend(grown, url, tmp_path / "scratch")
    assert s3.puts("") == s3.puts(LOCK) == 1


def test_nothing_of_the_existing_is_written_before_all_that_is_new_is_there(
    grown: Grown, url: str, s3: S3, tmp_path: Path
) -> None:
    extend(grown, url, tmp_path)
    root = f"{url.removeprefix('s3:/')}/"
    puts = [path.removeprefix(root) for method, path in s3.requests if method == "PUT"]
    exchange = puts.index(MANIFEST)
    before = set(puts[:exchange])
    assert before.isdisjoint(files_of(grown.existing))
    assert set(files_of(grown.extended)) - set(files_of(grown.existing)) <= before
    assert set(puts[exchange + 1 :]) == {*grown.manifests[1].beside}


@contextmanager
def before_each_change(act: Callable[[list[str]], None]) -> Iterator[None]:
    """Call ``act`` with the names of the objects before each put, and each removal, but for the lock's."""
    put, remove = Store.put, Store.remove

    def putting(store: Store, file: Path, name: str, **options: Any) -> None:
        act([name])
        put(store, file, name, **options)

    def removing(store: Store, names: Iterable[str]) -> None:
        names = list(names)
        if names not in ([], [LOCK]):
            act(names)
        remove(store, names)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "put", putting)
        patch.setattr(Store, "remove", removing)
        yield


def test_before_any_change_of_the_store_it_is_the_one_or_the_other(
    grown: Grown, url: str, s3: S3, tmp_path: Path
) -> None:
    """So it is whenever it is killed, and stays so until it is run again."""
    is_extended: list[bool] = []

    def look(names: list[str]) -> None:
        manifest = opened(url, tmp_path / "cache", ("test" if len(is_extended) % 2 else "train",))
        assert manifest in grown.manifests
        is_extended.append(manifest == grown.manifests[1])

    with before_each_change(look):
        extend(grown, url, tmp_path / "scratch")
    assert is_extended == sorted(is_extended)
    # The lengths, a claim, two shards of three objects over what was there, three tables, two documents,
    # dataset.json twice.
    assert is_extended.count(False) == 17
    assert is_extended.count(True) == 6  # tables and documents to put in their places, and what was staged to remove


def test_broken_off_anywhere_it_ends_the_same(grown: Grown, url: str, s3: S3, tmp_path: Path, full: bool) -> None:
    for number in range(18) if full else (16,):  # changes that are made; with 16 of them one table is in its place
        left = number

        def stop(names: list[str]) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1

        with before_each_change(stop), pytest.raises(KeyboardInterrupt):
            extend(grown, url, tmp_path / "scratch")
        extend(grown, url, tmp_path / "scratch")
        assert objects_of(url) == files_of(grown.extended)
        Store(url=url).remove(set(files_of(grown.extended)) - set(files_of(grown.existing)))
        upload(grown.existing, url)


def command(films: Path, url: str, scratch: Path) -> list[str]:
    arguments = ["voxceleb", "--source", films, "--output", url, "--scratch", scratch, "--workers", 1, "--extend",
                 "--test-fraction", "0.2", "--size", "16", "--fps", "2", "--clip-seconds", "1"]  # fmt: skip
    return ["sharding/build.py", *map(str, arguments)]


def test_killed_at_any_moment_it_goes_on_where_it_was(
    grown: Grown, url: str, s3: S3, tmp_path: Path, full: bool
) -> None:
    """kill -9, of all its processes, in the middle of a put; what is on its way still arrives."""
    existing, extended = grown.manifests
    moments = {
        r"train/000001\.tar": (existing,),
        r"\.build/tables/": (existing,),
        r"Größe 1/dataset\.json": (existing, extended),  # as its bytes have left the process or not
        r"train/clips\.parquet": (extended,),
    }
    chosen = list(moments.items())[0 if full else 2 : None if full else 3]
    for number, (moment, expected) in enumerate(chosen):
        s3.misdeeds.append(Misdeed("PUT", moment, "slow", times=1))
        process = forked.script(command(grown.films, url, tmp_path / "scratch"), os.environ, session=True)
        while s3.done == number and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"it was over before {moment} came"
        time.sleep(1.1)
        assert opened(url, tmp_path / "cache") in expected
    extend(grown, url, tmp_path / "scratch")
    assert objects_of(url) == files_of(grown.extended)
    assert list((tmp_path / "scratch").iterdir()) == []
    assert s3.puts(r"test/000001\.tar") == 1


def test_whoever_reads_while_it_is_extended_finds_one_or_the_other(
    grown: Grown, url: str, s3: S3, tmp_path: Path
) -> None:
    """Without a single attempt that has to wait: the pauses of `loaders.storage.retry` are no part of it."""
    s3.misdeeds += [Misdeed("PUT", name, "slow", times=1) for name in (r"1/dataset\.json", r"\w/clips\.parquet")]

    def waits(*_: Any, **__: Any) -> None:
        raise AssertionError("a reader had to wait")

    found = []
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(extend, grown, url, tmp_path / "scratch")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("loaders.storage.retry.pause", waits)
            while not running.done():
                # One split a look: between two of them the dataset may become the other.
                split = "test" if len(found) % 2 else "train"
                found.append(opened(url, tmp_path / "cache", (split,)) == grown.manifests[1])
        running.result()
    assert found == sorted(found)
    assert {True, False} == set(found)


def test_who_read_the_existing_description_is_sent_back_to_the_new_one(
    grown: Grown, url: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole extension happens between a reader's dataset.json and its catalog."""
    import loaders.dataset.remote as reading

    fetch, calls = reading._fetch_manifest, 0

    def slowly(*arguments: Any) -> Any:
        nonlocal calls
        found = fetch(*arguments)
        calls += 1
        if calls == 1:
            extend(grown, url, tmp_path / "scratch")
        return found

    monkeypatch.setattr(reading, "_fetch_manifest", slowly)
    found = Dataset.open(url, cache=tmp_path / "cache", splits=["train"])
    assert calls == 2
    assert found.manifest == read_manifest(found.folder) == grown.manifests[1]
    assert len(found.catalog("train")) == grown.manifests[1].splits["train"].clips


def test_who_asks_for_a_catalog_after_the_extension_is_told_to_open_the_dataset_again(
    grown: Grown, url: str, s3: S3, tmp_path: Path
) -> None:
    found = Dataset.open(url, cache=tmp_path / "cache", splits=["train"])
    extend(grown, url, tmp_path / "scratch")
    assert len(found.catalog("train")) == grown.manifests[0].splits["train"].clips  # it has that one
    with pytest.raises(InputError, match="was exchanged after the dataset was opened: open it again"):
        found.catalog("test")


def test_a_verification_meanwhile_is_of_one_description(
    grown: Grown, url: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get, calls = Store.get, 0

    def slowly(store: Store, name: str) -> bytes | None:
        nonlocal calls
        data = get(store, name)
        calls += name == MANIFEST
        if name == MANIFEST and calls == 1:
            with monkeypatch.context() as patch:
                patch.setattr(Store, "get", get)
                extend(grown, url, tmp_path / "scratch")
        return data

    monkeypatch.setattr(Store, "get", slowly)
    with copied_description(Store(url=url)) as copy:
        assert copy.manifest == read_manifest(copy.folder) == grown.manifests[1]
        assert files_of(copy.folder) == {
            name: digest for name, digest in files_of(grown.extended).items() if not name.endswith((".tar", ".idx"))
        }


def test_a_verification_that_was_overtaken_says_so(grown: Grown, url: str, s3: S3, tmp_path: Path) -> None:
    def overtake(_: Any) -> None:
        extend(grown, url, tmp_path)

    with pytest.raises(InputError, match=f"{url}: was changed while it was verified"):
        verify(Path(url), progress=overtake)


def test_other_sources_after_one_that_was_killed(grown: Grown, url: str, s3: S3, tmp_path: Path) -> None:
    """Shards that the plan no longer holds go, those of the dataset and of others stay."""

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    (tmp_path / "notes").write_text("ours")
    for name in ("NOTES.txt", "train/else.tar"):
        Store(url=url).put(tmp_path / "notes", name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sharding.packing.building.finish_dataset", stop)
        with pytest.raises(KeyboardInterrupt):
            extend(grown, url, tmp_path / "scratch")
    assert "test/000001.tar" in Store(url=url).sizes()
    known = part(grown.corpus, FIRST).utterances
    utterances = tuple(u for u in grown.corpus.utterances if u.split == "train" or u in known)
    fewer = replace(grown.corpus, utterances=utterances)
    extend(grown, url, tmp_path / "scratch", fewer)
    shutil.copytree(grown.existing, tmp_path / "folder")
    build(fewer, tmp_path / "folder", SETTINGS, 1, extend=True)
    for name in ("NOTES.txt", "train/else.tar"):
        shutil.copy(tmp_path / "notes", tmp_path / "folder" / name)
    assert objects_of(url) == files_of(tmp_path / "folder")


def test_a_dataset_json_that_the_store_did_not_keep_is_put_again(
    grown: Grown, url: str, s3: S3, tmp_path: Path
) -> None:
    s3.misdeeds.append(Misdeed("PUT", r"1/dataset\.json", "flip", times=1))

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loaders.storage.retry.pause", stop)  # between the damaged put and the next one
        with pytest.raises(KeyboardInterrupt):
            extend(grown, url, tmp_path / "scratch")
    assert MANIFEST in Store(url=url).sizes()
    with pytest.raises(InputError, match=f"{url}/{MANIFEST}: not (as it was written|a dataset description)"):
        opened(url, tmp_path / "cache")
    extend(grown, url, tmp_path / "scratch")
    assert objects_of(url) == files_of(grown.extended)
    assert ("DELETE", f"{url.removeprefix('s3:/')}/{MANIFEST}") not in s3.requests


def test_shards_of_an_extension_that_came_to_nothing_go(grown: Grown, url: str, s3: S3, tmp_path: Path) -> None:
    """It was killed, and what it was to add is not wanted any more; later it is."""

    class BrokenOffError(Exception):
        pass

    def stop(*_: Any, **__: Any) -> None:
        raise BrokenOffError

    before = objects_of(url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sharding.packing.building.finish_dataset", stop)
        with pytest.raises(BrokenOffError):
            extend(grown, url, tmp_path / "scratch")
    assert {name for name in objects_of(url) if name.endswith(".tar")} > {n for n in before if n.endswith(".tar")}
    extend(grown, url, tmp_path / "scratch", part(grown.corpus, FIRST))
    assert objects_of(url) == before
    extend(grown, url, tmp_path / "scratch")
    assert objects_of(url) == files_of(grown.extended)


# Refused --------------------------------------------------------------------------------------------------------------


def refused(message: str, grown: Grown, url: str, scratch: Path, corpus: Corpus | None = None, **options: Any) -> None:
    before = objects_of(url)
    with pytest.raises(InputError, match=message) as told:
        extend(grown, url, scratch, corpus, **options)
    assert "\n" not in str(told.value)
    assert str(scratch) not in str(told.value)
    assert objects_of(url) == before


def test_what_a_folder_refuses_is_refused(grown: Grown, url: str, s3: S3, tmp_path: Path) -> None:
    names = f"{url}: is built already, but {ALL - FIRST} utterances of the sources are not in it .*: --extend it"
    refused(names, grown, url, tmp_path, extend=False)
    refused(f"{url}: was built from voxceleb, not from omg", grown, url, tmp_path, replace(grown.corpus, name="omg"))
    gone = replace(grown.corpus, utterances=tuple(u for u in grown.corpus.utterances if u.video != "v1"))
    refused(f"{url}: its utterance .* is not in the sources now", grown, url, tmp_path, gone)
    refused("no dataset there", grown, f"{url}/nothing", tmp_path)
    (tmp_path / "theirs").write_text("theirs")
    Store(url=url).put(tmp_path / "theirs", "train/000001.tar")
    refused(f"{url}/train/000001.tar: is not of the dataset", grown, url, tmp_path)
    Store(url=url).put(tmp_path / "theirs", "train/000000.tar")
    refused(f"{url}/train/000000.tar: is not as dataset.json says", grown, url, tmp_path)


def test_of_two_at_once_one_is_refused(grown: Grown, url: str, s3: S3, tmp_path: Path) -> None:
    s3.misdeeds.append(Misdeed("PUT", r"train/000001\.tar", "slow", times=1))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(extend, grown, url, tmp_path / "1")
        while s3.done == 0:
            time.sleep(0.005)
        with pytest.raises(InputError, match="is at work there"):
            extend(grown, url, tmp_path / "2")
        first.result()
    assert objects_of(url) == files_of(grown.extended)


def test_one_that_was_changed_meanwhile_is_left_alone(grown: Grown, url: str, s3: S3, tmp_path: Path) -> None:
    from sharding.packing.building import finish_dataset

    def meddle(*arguments: Any, **options: Any) -> Any:
        done = finish_dataset(*arguments, **options)
        Store(url=url).put(grown.extended / MANIFEST, MANIFEST)
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sharding.packing.building.finish_dataset", meddle)
        with pytest.raises(InputError, match=f"{url}: was changed while it was extended"):
            extend(grown, url, tmp_path)

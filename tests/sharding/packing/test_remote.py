"""A build into an object store is the local build, object by object, whatever comes between."""

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loaders.errors import InputError
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.packing.building import build
from sharding.packing.buildlock import LOCK, acquire
from sharding.packing.remote import RemoteOptions
from sharding.settings import BuildSettings
from sharding.sources.store import Store
from sharding.utterance import Corpus
from tests import forked
from tests.films import write_film
from tests.s3 import S3, Misdeed

SETTINGS = BuildSettings(size=16, fps=2.0, clip_seconds=1.0)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 utterances: two shards of train, some utterances rejected, and one of test."""
    folder = tmp_path_factory.mktemp("films")
    short = write_film(folder / "short.mp4", 0.4, fps=5).read_bytes()
    film = write_film(folder / "film.mp4", 1, fps=5).read_bytes()
    for number in range(40):
        path = folder / f"mp4/s{number % 5}/v{number}/1.mp4"
        path.parent.mkdir(parents=True)
        path.write_bytes(short if number % 9 == 0 else film)
    return folder / "mp4"


def corpus_of(films: Path) -> Corpus:
    return read_voxceleb(VoxcelebSources(source=films, test_fraction=0.2))


@pytest.fixture(scope="module")
def local(films: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """SHA-256 of every file of the local build."""
    folder = tmp_path_factory.mktemp("local") / "vox"
    build(corpus_of(films), folder, SETTINGS, 1)
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def digests(url: str) -> dict[str, str]:
    store = Store(url=url)
    return {name: hashlib.sha256(store.get(name) or b"").hexdigest() for name in store.sizes()}


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    return f"s3://bucket/{request.node.name}/Größe 1"


def command(films: Path, url: str, scratch: Path, workers: int = 1, *more: str) -> list[str]:
    arguments = ["voxceleb", "--source", films, "--output", url, "--scratch", scratch, "--workers", workers,
                 "--test-fraction", "0.2", "--size", "16", "--fps", "2",
                 "--clip-seconds", "1", *more]  # fmt: skip
    return ["sharding/build.py", *map(str, arguments)]


def test_its_objects_are_the_local_builds_files(
    films: Path, local: Mapping[str, str], url: str, s3: S3, tmp_path: Path
) -> None:
    process = forked.script(command(films, url, tmp_path / "scratch", 2), os.environ)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "upload" in out
    assert digests(url) == local
    assert list((tmp_path / "scratch").iterdir()) == []
    assert s3.puts(r"\.tar$") == sum(name.endswith(".tar") for name in local) >= 3
    assert s3.requests.index(("PUT", f"{url.removeprefix('s3:/')}/dataset.json")) == max(
        number for number, (method, _) in enumerate(s3.requests) if method == "PUT"
    )


def test_what_is_built_already_is_not_built_again(
    films: Path, local: Mapping[str, str], url: str, s3: S3, tmp_path: Path
) -> None:
    """Also where the build was killed between dataset.json and clearing up."""
    options = RemoteOptions(scratch=tmp_path)
    manifest = build(corpus_of(films), Path(url), SETTINGS, 1, remote=options).manifest
    (tmp_path / "left").write_bytes(b"a receipt")
    Store(url=url).put(tmp_path / "left", ".build/train-000000.parquet")
    s3.requests.clear()
    assert build(corpus_of(films), Path(url), SETTINGS, 1, remote=options).manifest == manifest
    assert digests(url) == local
    assert {path for method, path in s3.requests if method == "PUT"} == {f"{url.removeprefix('s3:/')}/{LOCK}"}
    with pytest.raises(InputError, match=f"{url}: was built with --quality 90, not 80"):
        build(corpus_of(films), Path(url), replace(SETTINGS, quality=80), 1, remote=RemoteOptions(scratch=tmp_path))
    # A job that is started again finds nothing to do; where something differs it is named, and nothing is touched.
    writes = s3.puts(".")
    process = forked.script(command(films, url, tmp_path / "scratch"), os.environ)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert "is built already, nothing to do" in out
    other = BuildSettings(size=32, fps=2.0, clip_seconds=1.0)
    with pytest.raises(InputError, match=f"{url}: was built with --size 16, not 32"):
        build(corpus_of(films), Path(url), other, 1, remote=RemoteOptions(scratch=tmp_path))
    part = corpus_of(films)
    part = replace(part, utterances=part.utterances[1:])
    with pytest.raises(InputError, match=f"{url}: is built already, but 1 of its utterances are not in the sources"):
        build(part, Path(url), SETTINGS, 1, remote=RemoteOptions(scratch=tmp_path))
    assert s3.puts(".") == writes
    assert digests(url) == local


def test_what_a_build_has_left_beside_the_finished_dataset_goes(
    films: Path, local: Mapping[str, str], url: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed after dataset.json was there."""
    monkeypatch.setattr("sharding.packing.remote.HeldUrl.clear_up", lambda self: None)
    options = RemoteOptions(scratch=tmp_path / "scratch")
    build(corpus_of(films), Path(url), SETTINGS, 1, remote=options)
    monkeypatch.undo()
    assert any(name.startswith(".build/") for name in Store(url=url).sizes())
    build(corpus_of(films), Path(url), SETTINGS, 1, remote=options)
    assert digests(url) == local


def wait_for(condition: Callable[[], Any]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come to that")


def test_killed_at_any_moment_it_goes_on_where_it_was(
    films: Path, local: Mapping[str, str], url: str, s3: S3, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    moments = (
        Misdeed("PUT", r"train/000000\.tar", "slow", times=1),
        Misdeed("PUT", r"\.build/train-000001\.parquet", "slow", times=1),
        Misdeed("PUT", r"dataset\.json", "slow", times=1),
    )
    for number, moment in enumerate(moments):
        s3.misdeeds.append(moment)
        process = forked.script(command(films, url, scratch), os.environ, session=True)
        while s3.done == number and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it was over before the moment came"
        time.sleep(1.1)  # what is on its way still arrives
        if number < 2:
            assert "dataset.json" not in Store(url=url).sizes()
    Store(url=url).remove(["dataset.json"])  # the last put arrived though its sender was dead
    build(corpus_of(films), Path(url), SETTINGS, 1, remote=RemoteOptions(scratch=scratch))
    assert digests(url) == local
    assert list(scratch.iterdir()) == []
    # Each was uploaded once, but for what was on its way when the build was killed; a receipt that had arrived counts.
    uploads = [s3.puts(rf"{name}\.tar") for name in ("test/000000", "train/000000", "train/000001")]
    assert uploads in ([1, 2, 1], [1, 2, 2])


def test_what_a_killed_build_left_is_finished_by_another_machine(
    films: Path, local: Mapping[str, str], url: str, s3: S3, tmp_path: Path
) -> None:
    def break_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sharding.packing.building.finish_dataset", break_off)
        with pytest.raises(KeyboardInterrupt):
            build(corpus_of(films), Path(url), SETTINGS, 1, remote=RemoteOptions(scratch=tmp_path / "here"))
    store = Store(url=url)
    assert LOCK not in store.sizes()
    assert list((tmp_path / "here").iterdir()) == []
    before = s3.puts(r"\.tar")
    # One shard went, one was cut short, and one is of other settings' making.
    store.remove(["train/000000.tar"])
    (tmp_path / "half").write_bytes((store.get("train/000001.tar") or b"")[:512])
    store.put(tmp_path / "half", "train/000001.tar")
    store.put(tmp_path / "half", "train/000009.tar")
    s3.requests.clear()
    build(corpus_of(films), Path(url), SETTINGS, 1, remote=RemoteOptions(scratch=tmp_path / "there"))
    assert digests(url) == local
    assert (before, s3.puts(r"\.tar")) == (3, 2)


def test_uploads_that_fail_for_a_while_change_nothing(
    films: Path, local: Mapping[str, str], url: str, s3: S3, tmp_path: Path
) -> None:
    s3.misdeeds += [
        Misdeed("PUT", r"000000\.tar", "flip", times=1),
        Misdeed("PUT", r"000001\.idx", "truncate", times=1),
        Misdeed("PUT", r"\.parquet", "503", times=2),
        Misdeed("GET", r"train/000001\.tar", "503", times=1),
        Misdeed("PUT", r"dataset\.json", "flip", times=1),
    ]
    build(corpus_of(films), Path(url), SETTINGS, 1, remote=RemoteOptions(scratch=tmp_path))
    assert s3.done == 6
    assert digests(url) == local


def test_one_that_fails_for_good_is_a_line_and_can_be_gone_on_with(
    films: Path, local: Mapping[str, str], url: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sharding.packing.remote.Store", lambda url: Store(url=url, attempts=2, pause=0.01))
    s3.misdeeds.append(Misdeed("PUT", r"train/000001\.tar", "flip"))
    with pytest.raises(InputError, match=r"train/000001\.tar: failed 2 times") as failed:
        build(corpus_of(films), Path(url), SETTINGS, 1, remote=RemoteOptions(scratch=tmp_path))
    assert "\n" not in str(failed.value)
    assert {"train/000001.tar", "dataset.json", LOCK}.isdisjoint(Store(url=url).sizes())
    assert list(tmp_path.iterdir()) == []
    s3.misdeeds.clear()
    build(corpus_of(films), Path(url), SETTINGS, 1, remote=RemoteOptions(scratch=tmp_path))
    assert digests(url) == local


def test_of_two_builds_at_once_one_is_refused(
    films: Path, local: Mapping[str, str], url: str, s3: S3, tmp_path: Path
) -> None:
    s3.misdeeds.append(Misdeed("PUT", r"train/000000\.tar", "slow", times=1))

    def attempt(number: int) -> str:
        try:
            build(corpus_of(films), Path(url), SETTINGS, 1, remote=RemoteOptions(scratch=tmp_path / str(number)))
        except InputError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(attempt, 1)
        wait_for(lambda: s3.done == 1)
        second = attempt(2)
        assert "is at work there" in second
        assert first.result() == ""
    assert digests(url) == local


def test_a_build_whose_lock_is_broken_stops(films: Path, url: str, s3: S3, tmp_path: Path) -> None:
    s3.misdeeds.append(Misdeed("PUT", r"train/000000\.tar", "slow", times=1))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            build, corpus_of(films), Path(url), SETTINGS, 1, remote=RemoteOptions(scratch=tmp_path / "1")
        )
        wait_for(lambda: s3.done == 1)
        store = Store(url=url)
        with pytest.raises(InputError) as refused:
            acquire(store)
        name = str(refused.value).rpartition("--break-lock ")[2]
        own, _ = acquire(store, name)
        with pytest.raises(InputError, match=f"taken by {own.name}"):
            running.result()
    assert "dataset.json" not in store.sizes()
    assert json.loads(store.get(LOCK) or b"")["token"] == own.token


def test_something_else_at_the_url_is_left_alone(films: Path, url: str, s3: S3, tmp_path: Path) -> None:
    (tmp_path / "thesis.pdf").write_bytes(b"mine")
    Store(url=url).put(tmp_path / "thesis.pdf", "thesis.pdf")
    with pytest.raises(InputError, match="holds other files"):
        build(corpus_of(films), Path(url), SETTINGS, 1, remote=RemoteOptions(scratch=tmp_path / "scratch"))
    assert Store(url=url).sizes() == {"thesis.pdf": 4}
    # What another tool calls .build makes none of it a build's.
    Store(url=url).put(tmp_path / "thesis.pdf", ".build/debug/a.o")
    Store(url=url).put(tmp_path / "thesis.pdf", "data/000000.tar")
    before = Store(url=url).sizes()
    with pytest.raises(InputError, match="no build of this program made it"):
        build(corpus_of(films), Path(url), SETTINGS, 1, remote=RemoteOptions(scratch=tmp_path / "scratch"))
    assert Store(url=url).sizes() == before


def test_a_build_that_goes_on_removes_only_what_it_could_have_made(
    films: Path, local: Mapping[str, str], url: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    (tmp_path / "mine").write_bytes(b"mine")
    options = RemoteOptions(scratch=tmp_path / "scratch")
    monkeypatch.setattr("sharding.packing.building.finish_dataset", killed)
    with pytest.raises(KeyboardInterrupt):
        build(corpus_of(films), Path(url), SETTINGS, 1, remote=options)
    monkeypatch.undo()
    for name in ("data/000000.tar", "train/mine.tar", "train/000099.tar"):
        Store(url=url).put(tmp_path / "mine", name)
    build(corpus_of(films), Path(url), SETTINGS, 1, remote=options)
    mine = hashlib.sha256(b"mine").hexdigest()
    assert digests(url) == {**local, "data/000000.tar": mine, "train/mine.tar": mine}


def test_a_corpus_that_gives_nothing_leaves_nothing_there(url: str, s3: S3, tmp_path: Path) -> None:
    write_film(tmp_path / "mp4/s/v/1.mp4", 0.5)
    with pytest.raises(InputError, match="no clip came") as refused:
        build(corpus_of(tmp_path / "mp4"), Path(url), SETTINGS, 1, remote=RemoteOptions(scratch=tmp_path / "scratch"))
    assert str(refused.value).startswith(url)
    assert Store(url=url).sizes() == {}
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_disk_that_cannot_be_written_is_told(films: Path, url: str, s3: S3, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--scratch"):
        build(corpus_of(films), Path(url), SETTINGS, 1, remote=RemoteOptions(scratch=tmp_path / "file"))
    assert Store(url=url).sizes() == {}


def test_a_store_that_goes_away_is_told_by_what_failed(
    films: Path, url: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sharding.packing.remote.Store", lambda url: Store(url=url, attempts=2, pause=0.01))
    s3.misdeeds += [Misdeed("PUT", r"train/000000\.tar", "503"), Misdeed("DELETE", "lock", "503")]
    with pytest.raises(InputError, match=r"train/000000\.tar: failed 2 times"):
        build(corpus_of(films), Path(url), SETTINGS, 1, remote=RemoteOptions(scratch=tmp_path))
    assert LOCK in Store(url=url).sizes()

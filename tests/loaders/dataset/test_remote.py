"""Batches of a remote dataset are those of the local one, whatever the store does."""

import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from loaders import ClipLoader, InputError
from loaders.dataset.manifest import read_manifest
from loaders.dataset.remote import _default_cache
from loaders.storage.urls import file_system_of
from tests import forked
from tests.batches import digests
from tests.damage import edit_catalog
from tests.datasets import Contents, make_dataset
from tests.s3_adversary import options_for, s3_adversary

pytest.importorskip("s3fs", reason="the extra s3 is not installed")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one bucket with a dataset of 12 shards."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / "bucket").mkdir()
    contents = Contents(speakers={"train": 8, "test": 2}, shards={"train": 12, "test": 2}, seed=9)
    make_dataset(folder / "bucket" / "vox", contents)
    return folder


SETTINGS: dict[str, Any] = {"batch_size": 4, "seed": 3, "threads": 1, "frames": 2, "shard_window": 2}


def batches(dataset: str | Path, epochs: int = 2, **changes: Any) -> tuple[list[str], Any]:
    with ClipLoader(dataset, **{**SETTINGS, **changes}) as loader:
        found = [digest for _ in range(epochs) for digest in digests(list(loader))]
        return found, loader.stats()


def largest_two_windows(bucket: Path) -> int:
    sizes = sorted(shard.bytes for shard in read_manifest(bucket / "bucket" / "vox").splits["train"].shards)
    return sum(sizes[-4:])


def size_of(folder: Path) -> int:
    total = 0
    for path in folder.glob("shards/*"):
        with suppress(FileNotFoundError):  # evicted as we look
            total += path.stat().st_size if path.is_file() else 0
    return total


def test_a_store_that_misbehaves_changes_nothing(bucket: Path, tmp_path: Path, full: bool) -> None:
    """Two epochs of a hundred clips; with ``--full`` of 5,000, so that 10,000 are read."""
    if full:
        contents = Contents(speakers={"train": 425}, shards={"train": 64}, seed=9)
        bucket = tmp_path / "s3"
        (bucket / "bucket").mkdir(parents=True)
        assert make_dataset(bucket / "bucket" / "vox", contents).splits["train"].clips > 5_000
    local, _ = batches(bucket / "bucket" / "vox")
    cap = largest_two_windows(bucket)
    cache = tmp_path / "cache"
    most = 0
    stop = threading.Event()

    def watch() -> None:
        nonlocal most
        while not stop.is_set():
            most = max(most, size_of(cache))
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with s3_adversary(bucket, every=2, stall_seconds=1.5) as server:
        remote, stats = batches("s3://bucket/vox", cache=cache, cache_bytes=cap, storage_options=options_for(server))
        misdeeds = dict(server.done)
    stop.set()
    watcher.join()
    # The local run reads every clip of an epoch once and checks its hash: equal batches are no clip lost or doubled.
    assert remote == local
    assert stats.bad_clips == 0
    assert set(misdeeds) == {"503", "reset", "truncate", "stall", "lie"}
    assert stats.fetch_retries > 0
    assert 0 < most <= cap


def test_what_is_cached_is_not_fetched_again(bucket: Path, tmp_path: Path) -> None:
    with s3_adversary(bucket, every=0) as server:
        first, stats = batches("s3://bucket/vox", cache=tmp_path, storage_options=options_for(server))
        assert stats.fetched_shards == 12
        again, stats = batches("s3://bucket/vox", cache=tmp_path, storage_options=options_for(server))
        assert stats.fetched_shards == 0
        assert stats.cache_hits >= 24  # and those of the third epoch that reading ahead came to
        assert first == again
        assert [server.served[key] for key in server.served if key.endswith(".tar")] == [1] * 12


_RANK = """
import sys
import tempfile
from loaders import ClipLoader
from tests.batches import digests
from tests.s3_adversary import options_for
class Server: url = sys.argv[2]
with ClipLoader("s3://bucket/vox", batch_size=2, seed=3, threads=1, frames=2, shard_window=2, rank=int(sys.argv[3]),
                world_size=2, cache=sys.argv[1], storage_options=options_for(Server)) as loader:
    for batch in loader: pass
"""


def test_the_processes_of_a_machine_fetch_a_shard_once(bucket: Path, tmp_path: Path) -> None:
    with s3_adversary(bucket, every=0) as server:
        ranks = [forked.execute(_RANK, tmp_path, server.url, rank) for rank in range(2)]
        for each in ranks:
            _, err = each.communicate(timeout=60)
            assert each.returncode == 0, err
        tars = {key: count for key, count in server.served.items() if key.endswith(".tar")}
    assert len(tars) == 12
    assert set(tars.values()) == {1}


def spoil(path: Path, at: int, *, cut: bool) -> None:
    """Cut a cached file short, or change a byte of it, where it lies: as a disk would."""
    if cut:
        os.truncate(path, at)
        return
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def test_what_is_damaged_in_the_cache_is_fetched_again(bucket: Path, tmp_path: Path, full: bool) -> None:
    """Damage between epochs and while they are read; with ``--full`` two hundred times."""
    local, _ = batches(bucket / "bucket" / "vox", epochs=1)
    draw = np.random.default_rng(5)
    done = damaged = 0

    def damage(count: int, *, cut: bool) -> None:
        nonlocal done
        for path in draw.permutation(sorted((tmp_path / "shards").glob("*.tar")))[:count]:
            with suppress(FileNotFoundError):
                spoil(path, int(draw.integers(path.stat().st_size)), cut=cut)
                done += 1

    with s3_adversary(bucket, every=0) as server:
        options = options_for(server)
        while done < (200 if full else 20):
            settings = {"cache": tmp_path, "storage_options": options, "max_bad_fraction": 0.0}
            with ClipLoader("s3://bucket/vox", **SETTINGS, **settings) as loader:
                found = []
                for number, batch in enumerate(loader):
                    found += digests([batch])
                    if number % 5 == 0:
                        damage(2, cut=bool(draw.integers(2)))
                assert found == local
                assert loader.stats().bad_clips == 0
                damaged += loader.stats().damaged_shards
    assert damaged > 0


def test_a_shard_that_rotted_between_two_runs_is_fetched_again(bucket: Path, tmp_path: Path) -> None:
    with s3_adversary(bucket, every=0) as server:
        first, _ = batches("s3://bucket/vox", cache=tmp_path, storage_options=options_for(server))
        path = sorted((tmp_path / "shards").glob("*.tar"))[0]
        path.write_bytes(bytes(path.stat().st_size))
        again, stats = batches("s3://bucket/vox", cache=tmp_path, storage_options=options_for(server))
    assert again == first
    assert (stats.damaged_shards, stats.fetched_shards, stats.bad_clips) == (1, 1, 0)


def test_a_clip_that_is_wrong_in_the_store_is_replaced_and_nothing_is_fetched_again(
    bucket: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "s3" / "bucket" / "vox"
    shutil.copytree(bucket / "bucket" / "vox", copy)

    def wrong(table: pa.Table) -> pa.Table:
        values = table["filmstrip_xxh3"].to_pylist()
        values[5] ^= 1
        column = table.schema.get_field_index("filmstrip_xxh3")
        return table.set_column(column, "filmstrip_xxh3", pa.array(values, pa.uint64()))

    edit_catalog(copy, "train", wrong)
    with s3_adversary(tmp_path / "s3", every=0) as server:
        _, stats = batches(
            "s3://bucket/vox", cache=tmp_path / "cache", storage_options=options_for(server), max_bad_fraction=0.5
        )
    assert (stats.bad_clips, stats.damaged_shards, stats.fetched_shards) == (1, 0, 12)


def test_a_copied_catalog_that_rotted_is_fetched_again(bucket: Path, tmp_path: Path) -> None:
    with s3_adversary(bucket, every=0) as server:
        first, _ = batches("s3://bucket/vox", cache=tmp_path, storage_options=options_for(server))
        [catalog] = tmp_path.glob("described/*/train/clips.parquet")
        spoil(catalog, 1000, cut=False)
        assert batches("s3://bucket/vox", cache=tmp_path, storage_options=options_for(server))[0] == first


@pytest.mark.parametrize("reading_threads", [1, 2])
def test_training_and_validation_share_a_cache_with_room_for_two_windows(
    bucket: Path, tmp_path: Path, reading_threads: int
) -> None:
    """The one rests with its window in its hands while the other runs, in the same process."""
    settings: dict[str, Any] = {**SETTINGS, "batch_size": 8, "reading_threads": reading_threads}
    local = {}
    for training in (True, False):
        with ClipLoader(bucket / "bucket" / "vox", **settings, training=training) as loader:
            local[training] = [digests(list(loader)) for _ in range(2)]
    with s3_adversary(bucket, every=0) as server:
        settings |= {"cache": tmp_path, "cache_bytes": largest_two_windows(bucket), "cache_patience": 20.0}
        settings |= {"storage_options": options_for(server)}
        with (
            ClipLoader("s3://bucket/vox", **settings, training=True) as train,
            ClipLoader("s3://bucket/vox", **settings, training=False) as validation,
        ):
            for epoch in range(2):
                assert digests(list(train)) == local[True][epoch]
                assert digests(list(validation)) == local[False][epoch]


def test_the_users_own_files_in_the_cache_stay(bucket: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    own = {f"imagenet-{number:06}.tar": bytes(3_000_000) for number in range(3)}
    own |= {"upload.part": bytes(1000), "cache.lock": b"mine", f"{'a' * 64}.tar": bytes(3_000_000)}
    for name, content in own.items():
        (shards / name).write_bytes(content)
    with s3_adversary(bucket, every=0) as server:
        cap = largest_two_windows(bucket)
        batches("s3://bucket/vox", cache=tmp_path, cache_bytes=cap, storage_options=options_for(server))
    assert {name: (shards / name).read_bytes() for name in own} == own


# -- what cannot be


def test_a_store_that_always_fails_ends_the_run_in_one_line(bucket: Path, tmp_path: Path) -> None:
    copy = tmp_path / "s3" / "bucket" / "vox"
    shutil.copytree(bucket / "bucket" / "vox", copy)
    for path in (copy / "train").glob("*.tar"):
        path.unlink()
    with (
        s3_adversary(tmp_path / "s3", every=0) as server,
        pytest.raises(InputError, match="cannot be fetched") as error,
    ):
        batches("s3://bucket/vox", cache=tmp_path / "cache", storage_options=options_for(server))
    assert "\n" not in str(error.value)
    assert "bucket/vox/train/0" in str(error.value)  # the shard's name


def test_a_cache_too_small_is_refused_with_what_to_do(bucket: Path, tmp_path: Path) -> None:
    with s3_adversary(bucket, every=0) as server, pytest.raises(InputError, match="raise it, or lower shard_window"):
        batches("s3://bucket/vox", cache=tmp_path, cache_bytes=10_000, storage_options=options_for(server))


@pytest.mark.parametrize("name", ["dataset.json", "train/clips.parquet"])
@pytest.mark.parametrize("what", [b"{}", b"\xff\xfe", None])
def test_a_description_that_came_wrong_is_asked_for_again(
    bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, what: bytes | None
) -> None:
    """Once: refused, or other bytes."""
    monkeypatch.setattr("loaders.storage.retry.pause", lambda *_: 0.01)
    asked: Counter[str] = Counter()
    with s3_adversary(bucket, every=0) as server:
        system, path = file_system_of("s3://bucket/vox", options_for(server))
        fetch = system.cat_file

        def once(path: str, **range_: Any) -> bytes:
            asked[path] += 1
            if path.endswith(name) and asked[path] == 1:
                if what is None:
                    raise OSError("Please reduce your request rate.")
                return what
            return bytes(fetch(path, **range_))

        monkeypatch.setattr(system, "cat_file", once)
        monkeypatch.setattr("loaders.dataset.remote.file_system_of", lambda *_: (system, path))
        with ClipLoader("s3://bucket/vox", cache=tmp_path, **SETTINGS) as loader:
            assert len(loader.catalogs[0]) == read_manifest(bucket / "bucket" / "vox").splits["train"].clips
    assert asked[f"{path}/{name}"] == 2


def test_a_description_that_is_wrong_in_the_store_is_told_at_once(
    bucket: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "s3" / "bucket" / "vox"
    shutil.copytree(bucket / "bucket" / "vox", copy)
    (copy / "dataset.json").write_bytes((copy / "dataset.json").read_bytes()[:-20])
    with s3_adversary(tmp_path / "s3", every=0) as server, pytest.raises(InputError, match=r"dataset\.json"):
        ClipLoader("s3://bucket/vox", cache=tmp_path / "cache", storage_options=options_for(server))
    assert caplog.text.count("asked for again") == 1


def test_closing_does_not_wait_for_a_store_that_stalls(bucket: Path, tmp_path: Path) -> None:
    with s3_adversary(bucket, every=1, stall_seconds=2.0, suffix=".tar") as server:
        loader = ClipLoader(
            "s3://bucket/vox",
            batch_size=4,
            frames=2,
            shard_window=2,
            cache=tmp_path,
            storage_options=options_for(server),
        )
        ends: list[BaseException] = []

        def consume() -> None:
            try:
                next(iter(loader))
            except RuntimeError as error:
                ends.append(error)

        thread = threading.Thread(target=consume)
        thread.start()
        time.sleep(0.3)
        start = time.monotonic()
        loader.close()
        assert time.monotonic() - start < 8
        thread.join()
    assert "closed" in str(ends[0])
    # A request that the store has not answered yet ends its thread when it is.
    until = time.monotonic() + 30
    while any(t.name.startswith("filmstrip") for t in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize(("url", "named"), [("s3://bucket/none", "no dataset there"), ("nope://x/y", "nope")])
def test_a_wrong_url_is_one_line(bucket: Path, tmp_path: Path, url: str, named: str) -> None:
    with s3_adversary(bucket, every=0) as server:
        options = options_for(server) if url.startswith("s3") else None
        with pytest.raises(InputError, match=named) as error:
            ClipLoader(url, cache=tmp_path, storage_options=options)
    assert "\n" not in str(error.value)


def test_a_user_without_a_home_has_a_cache_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert _default_cache() == Path(tempfile.gettempdir(), f"filmstrip-{os.getuid()}")


def test_a_cache_that_cannot_be_written_is_one_line(bucket: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with s3_adversary(bucket, every=0) as server, pytest.raises(InputError, match="can be written") as refused:
        ClipLoader("s3://bucket/vox", cache=tmp_path / "file" / "cache", storage_options=options_for(server))
    assert "\n" not in str(refused.value)

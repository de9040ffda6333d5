"""A cache's folder, with real files: what several caches do to it at once, as processes of one machine would."""

import dataclasses
import fcntl
import hashlib
import os
import random
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import fsspec
import pytest

from loaders.errors import InputError
from loaders.storage.cache import RemoteShard, ShardCache
from tests.limits import open_files


@pytest.fixture
def store(tmp_path: Path) -> list[RemoteShard]:
    """Two hundred shards of a few bytes: so little to fetch that the cache is nearly always at its folder."""
    (tmp_path / "store").mkdir()
    shards = []
    for number in range(200):
        content = number.to_bytes(2, "big") * 32
        path = tmp_path / "store" / f"{number:06}.tar"
        path.write_bytes(content)
        shards.append(RemoteShard(str(path), len(content), hashlib.sha256(content).hexdigest()))
    return shards


@pytest.mark.parametrize("shards_that_fit", [200, 8])
def test_files_that_come_and_go_while_others_look_for_room_fail_nobody(
    store: list[RemoteShard], tmp_path: Path, shards_that_fit: int
) -> None:
    size = store[0].bytes
    folder = tmp_path / "cache"
    caches = [ShardCache(fsspec.filesystem("file"), folder, shards_that_fit * size) for _ in range(2)]
    used, done = [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            with (folder / "filmstrip.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # no room is given away meanwhile
                used.append(sum(path.suffix in (".tar", ".part") for path in folder.iterdir()))
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for start in range(0, len(store), 4):
            for number, cache in enumerate(caches):
                cache.want(str(number), store[start : start + 4], store[start + 4 :])
            for shard in store[start : start + 4]:
                for cache in caches:
                    file = cache.open(shard)
                    assert hashlib.sha256(os.pread(file.fileno(), shard.bytes, 0)).hexdigest() == shard.sha256
    finally:
        done.set()
        watcher.join()
        for cache in caches:
            cache.close()
    assert 0 < max(used) <= shards_that_fit
    assert sum(cache.counts.retries for cache in caches) == 0
    assert not list(folder.glob("*.part"))


def cache_of(folder: Path, capacity: int, **settings: Any) -> ShardCache:
    return ShardCache(fsspec.filesystem("file"), folder, capacity, **settings)


def content(cache: ShardCache, shard: RemoteShard) -> str:
    return hashlib.sha256(os.pread(cache.open(shard).fileno(), 2 * shard.bytes, 0)).hexdigest()


def held_by(folder: Path) -> int:
    """Bytes of the shards in a cache's folder; those who rest may fetch and evict while it is looked at."""
    total = 0
    for path in folder.glob("*.tar"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


# -- several that share a folder


def test_loaders_in_any_interleaving_get_on_with_room_for_two_windows(
    store: list[RemoteShard], tmp_path: Path, full: bool
) -> None:
    """Four of them over two folders. A step takes the shards of one window, or of two at the border between them."""
    window = 4
    capacity = 2 * window * store[0].bytes
    patience = 5.0
    failures: list[BaseException] = []

    def load(number: int, seed: int) -> None:
        draw = random.Random(f"{seed} {number}")
        shards = store[:]
        draw.shuffle(shards)
        try:
            cache = cache_of(tmp_path / f"cache{number % 2}", capacity, patience=patience)
            for start in range(0, 3 * window, window):
                now = shards[start : start + window * draw.choice([1, 1, 2])]
                with cache.step():
                    cache.want("here", now, shards[start + window : start + 2 * window])
                    for shard in draw.sample(now, draw.randint(1, len(now))):
                        assert content(cache, shard) == shard.sha256
                if draw.random() < 0.3:  # between steps, or for the consumer
                    time.sleep(draw.random() * 0.05)
            if draw.random() < 0.7:
                cache.close()
            else:
                paused.append(cache)
        except BaseException as error:
            failures.append(error)

    paused: list[ShardCache] = []
    for seed in range(2000 if full else 15):
        threads = [threading.Thread(target=load, args=(number, seed)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert not failures
        for folder in ("cache0", "cache1"):
            assert held_by(tmp_path / folder) <= capacity
        for cache in paused[:-2]:  # the last ones rest on, with their windows in their hands
            cache.close()
        del paused[:-2]
    for cache in paused:
        cache.close()


def test_who_rests_holds_up_nobody_and_reads_on_afterwards(store: list[RemoteShard], tmp_path: Path) -> None:
    size = store[0].bytes
    resting, other = cache_of(tmp_path / "c", 3 * size), cache_of(tmp_path / "c", 3 * size)
    resting.want("a", store[:3], store[3:6])
    assert [content(resting, shard) for shard in store[:3]] == [shard.sha256 for shard in store[:3]]
    other.want("b", store[10:13], store[13:16])
    assert [content(other, shard) for shard in store[10:13]] == [shard.sha256 for shard in store[10:13]]
    assert [content(resting, shard) for shard in store[:3]] == [shard.sha256 for shard in store[:3]]
    resting.close()
    other.close()


def test_files_whose_room_another_took_are_closed(store: list[RemoteShard], tmp_path: Path) -> None:
    """They would take up the disk without being seen in the folder."""
    size = store[0].bytes
    resting, other = cache_of(tmp_path / "c", 3 * size), cache_of(tmp_path / "c", 3 * size)
    resting.want("a", store[:3])
    for shard in store[:3]:
        resting.open(shard)
    other.want("b", store[10:13])
    for shard in store[10:13]:
        other.open(shard)
    until = time.monotonic() + 10
    while [path for path in open_files() if "(deleted)" in path.name and path.is_relative_to(tmp_path)]:
        assert time.monotonic() < until
        time.sleep(0.05)
    resting.close()
    other.close()


def test_what_is_fetched_ahead_takes_no_ones_room(store: list[RemoteShard], tmp_path: Path) -> None:
    size = store[0].bytes
    one, other = cache_of(tmp_path / "c", 5 * size), cache_of(tmp_path / "c", 5 * size)
    one.want("a", store[:2], store[2:4])
    for shard in store[:2]:
        one.open(shard)
    settle(one)
    other.want("b", store[10:12], store[12:14])
    for shard in store[10:12]:
        other.open(shard)
    settle(other)
    fetched = one.counts.fetched, other.counts.fetched
    time.sleep(1)
    assert (one.counts.fetched, other.counts.fetched) == fetched  # they do not push out each other's
    assert all((tmp_path / "c" / f"{shard.sha256}.filmstrip.tar").exists() for shard in (*store[:2], *store[10:12]))
    one.close()
    other.close()


def settle(cache: ShardCache) -> None:
    before = -1
    while cache.counts.fetched != before:
        before = cache.counts.fetched
        time.sleep(0.4)


def test_a_step_of_more_windows_than_fit_is_read_one_after_the_other(store: list[RemoteShard], tmp_path: Path) -> None:
    size = store[0].bytes
    cache = cache_of(tmp_path / "c", 4 * size)
    with cache.step():
        cache.want("a", store[:8])
        for _ in range(3):  # frames, sounds, gaze
            for first in range(0, 8, 2):
                for shard in (*store[first : first + 2], *store[first : first + 2]):
                    assert content(cache, shard) == shard.sha256

        def in_turn() -> None:
            for number in range(100):
                cache.open(store[number % 8])

        with pytest.raises(InputError, match="raise it, or lower shard_window"):
            in_turn()
    with pytest.raises(InputError, match="raise it, or lower shard_window"):
        cache_of(tmp_path / "small", size - 1).want("a", store[:1])
    cache.close()


def test_a_wait_for_room_is_said_and_ends(
    store: list[RemoteShard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("loaders.storage.cache._FIRST_WORD", 0.2)
    size = store[0].bytes
    reading, other = cache_of(tmp_path / "c", 2 * size), cache_of(tmp_path / "c", 2 * size, patience=0.6)
    with reading.step():
        reading.want("a", store[:2])
        reading.open(store[0])
        other.want("b", store[2:3])
        with pytest.raises(InputError, match=f"process {os.getpid()} .*: 2 shards, {2 * size} bytes") as refused:
            other.open(store[2])
        assert "\n" not in str(refused.value)
        assert refused.value.try_again
        assert "waiting since" in caplog.text
        assert f"process {os.getpid()}" in caplog.text
    assert content(other, store[2]) == store[2].sha256
    reading.close()
    other.close()


def test_a_small_capacity_beside_a_large_one_is_served_and_said(
    store: list[RemoteShard], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    size = store[0].bytes
    large, small = cache_of(tmp_path / "c", 100 * size), cache_of(tmp_path / "c", 3 * size)
    large.want("a", store[:3])
    for shard in store[:3]:
        large.open(shard)
    small.want("b", store[3:4])
    assert content(small, store[3]) == store[3].sha256
    assert "give all the same cache_bytes" in caplog.text
    assert content(large, store[0]) == store[0].sha256
    large.close()
    small.close()


# -- a store that is out, or silent


class Unreliable:
    """A store of files that is out for a while, or answers nothing."""

    def __init__(self) -> None:
        self.out, self.silent = False, threading.Event()
        self.silent.set()
        self.asked = 0

    def cat_file(self, path: str, *, start: int | None = None, end: int | None = None) -> bytes:
        self.asked += 1
        self.silent.wait()
        if self.out:
            raise ConnectionError("store is out")
        return bytes(fsspec.filesystem("file").cat_file(path, start=start, end=end))


def test_an_outage_while_nothing_is_waited_for_is_forgotten(store: list[RemoteShard], tmp_path: Path) -> None:
    source = Unreliable()
    cache = ShardCache(source, tmp_path / "c", 1 << 20, sleep=lambda seconds: time.sleep(min(seconds, 0.01)))
    cache.want("a", store[:1])
    assert content(cache, store[0]) == store[0].sha256
    source.out = True
    cache.want("a", store[:1], store[1:4])
    until = time.monotonic() + 20
    while source.asked < 1 + 3 * 9:  # each as often as it is before giving up, and once more
        assert time.monotonic() < until
        time.sleep(0.01)
    source.out = False
    cache.want("a", store[1:2], store[2:4])
    assert content(cache, store[1]) == store[1].sha256
    cache.close()


def test_a_store_that_is_out_for_good_ends_the_wait_with_its_reason(store: list[RemoteShard], tmp_path: Path) -> None:
    source = Unreliable()
    source.out = True
    cache = ShardCache(source, tmp_path / "c", 1 << 20, attempts=3, backoff=0.01)
    cache.want("a", store[:1])
    with pytest.raises(InputError, match=r"cannot be fetched.*store is out"):
        cache.open(store[0])
    assert source.asked >= 3
    cache.close()


def test_a_wait_that_ends_before_the_attempts_do_says_why_they_failed(store: list[RemoteShard], tmp_path: Path) -> None:
    """As of an object that has rotted: who waits is told that other bytes came, not only that some attempts failed."""
    rotten = dataclasses.replace(store[0], sha256="0" * 64)
    with closing(ShardCache(Unreliable(), tmp_path / "c", 1 << 20, patience=0.5, backoff=60)) as cache:
        cache.want("a", [rotten])
        with pytest.raises(InputError, match=r"1 attempts failed, at last with: other bytes came than dataset.json"):
            cache.open(rotten)


def test_a_store_that_never_answers_ends_the_wait(
    store: list[RemoteShard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("loaders.storage.cache._FIRST_WORD_OF_FETCHING", 0.1)
    source = Unreliable()
    source.silent.clear()
    cache = ShardCache(source, tmp_path / "c", 1 << 20, patience=0.5)
    cache.want("a", store[:1])
    with pytest.raises(InputError, match=r"without any progress.*on its way") as refused:
        cache.open(store[0])
    assert "\n" not in str(refused.value)
    assert refused.value.try_again
    assert "waiting since" in caplog.text
    source.silent.set()
    cache.close()


# -- a disk that is not to be trusted


@pytest.mark.parametrize("left", [0, 63])
def test_a_file_that_was_cut_short_is_fetched_again(store: list[RemoteShard], tmp_path: Path, left: int) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    path = folder / f"{store[0].sha256}.filmstrip.tar"
    path.write_bytes(Path(store[0].path).read_bytes()[:left])
    cache = cache_of(folder, 1 << 20, patience=10)
    cache.want("a", store[:1])
    assert content(cache, store[0]) == store[0].sha256
    assert (cache.counts.damaged, cache.counts.fetched) == (1, 1)
    cache.close()


def test_a_file_that_rotted_is_fetched_again_and_a_whole_one_is_not(store: list[RemoteShard], tmp_path: Path) -> None:
    cache = cache_of(tmp_path / "c", 1 << 20)
    cache.want("a", store[:1])
    cache.open(store[0])
    assert not cache.recheck(store[0])
    assert cache.counts.damaged == 0
    cache.want("a", store[:0])
    cache.want("a", store[:1])
    path = tmp_path / "c" / f"{store[0].sha256}.filmstrip.tar"
    with path.open("r+b") as file:
        file.write(b"rot")
    assert content(cache, store[0]) != store[0].sha256
    assert cache.recheck(store[0])
    assert content(cache, store[0]) == store[0].sha256
    assert (cache.counts.damaged, cache.counts.fetched) == (1, 2)
    cache.close()


def test_a_disk_that_cuts_everything_short_is_named(
    store: list[RemoteShard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = ShardCache._download

    def cut(cache: ShardCache, shard: RemoteShard) -> bool:
        done = fetch(cache, shard)
        os.truncate(cache._path(shard.sha256, "tar"), 3)
        return done

    monkeypatch.setattr(ShardCache, "_download", cut)
    cache = cache_of(tmp_path / "c", 1 << 20)
    cache.want("a", store[:1])
    with pytest.raises(InputError, match="see to the disk"):
        cache.open(store[0])
    cache.close()


def test_only_files_of_its_own_naming_are_counted_and_removed(store: list[RemoteShard], tmp_path: Path) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    names = ["imagenet.tar", "upload.part", f"{'0' * 64}.tar", f"x{'0' * 64}.filmstrip.tar", "cache.lock"]
    for name in names:
        (folder / name).write_bytes(bytes(1000))
    size = store[0].bytes
    cache = cache_of(folder, 2 * size)
    for first in range(0, 20, 2):
        cache.want("a", store[first : first + 2])
        for shard in store[first : first + 2]:
            assert content(cache, shard) == shard.sha256
    cache.close()
    assert all((folder / name).read_bytes() == bytes(1000) for name in names)
    assert sum(path.stat().st_size for path in folder.glob("*.filmstrip.tar") if path.name not in names) <= 2 * size

"""A cache's folder, with real files: what several caches do to it at once, as processes of one machine would."""

import fcntl
import hashlib
import os
import threading
import time
from pathlib import Path

import fsspec
import pytest

from loaders.cache import RemoteShard, ShardCache


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
            with (folder / "cache.lock").open("w") as lock:
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

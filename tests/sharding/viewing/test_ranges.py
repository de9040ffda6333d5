"""Of a dataset in a store, the members of a clip come as its folder would give them, and hardly a byte beside them."""

from pathlib import Path

import numpy as np
import pytest

from loaders.dataset.catalog import Catalog, open_catalog
from loaders.dataset.shards import CorruptMemberError, Shards
from loaders.errors import InputError
from sharding.sources.store import Store
from sharding.viewing.ranges import fetch_members
from tests.damage import copy_of, flip_byte, shard_of
from tests.s3 import S3, Misdeed

MEMBERS = ("filmstrip", "audio", "gaze")


@pytest.fixture
def store(s3: S3, request: pytest.FixtureRequest) -> Store:
    return Store(url=f"s3://bucket/{request.node.name}", pause=0.01, attempts=2)


def upload(dataset: Path, store: Store) -> Catalog:
    """The shards of the test split; its catalog."""
    for path in (dataset / "test").glob("*.tar"):
        store.put(path, f"test/{path.name}")
    return open_catalog(dataset, "test", MEMBERS)


def test_they_are_those_of_the_folder(dataset: Path, store: Store, s3: S3) -> None:
    catalog = upload(dataset, store)
    s3.ranges.clear()
    shards = Shards(catalog)
    expected = [
        {name: bytes(data) for name in MEMBERS if (data := shards.read(name, clip)) is not None}
        for clip in range(len(catalog))
    ]
    assert [fetch_members(store, catalog, clip) for clip in range(len(catalog))] == expected
    assert {len(members) for members in expected} == {2, 3}
    asked = [
        np.subtract(*reversed([int(end) for end in asked.removeprefix("bytes=").split("-")])) for asked in s3.ranges
    ]
    needed = sum(len(data) for members in expected for data in members.values())
    assert len(asked) == len(catalog)
    assert needed < sum(asked) + len(asked) < 1.1 * needed + 2048 * len(catalog)  # headers stand between members


def test_far_members_are_asked_for_apart(dataset: Path, store: Store, s3: S3, tmp_path: Path) -> None:
    """As if a shard of a gigabyte held a clip at its two ends."""
    catalog = upload(dataset, store)
    clip = int(np.flatnonzero(catalog.members["gaze"].size)[0])
    extents = dict(catalog.members)
    shard = shard_of(dataset, "test", clip).read_bytes()
    far = tmp_path / "far.tar"
    extent = extents["gaze"]
    moved = len(shard) + (1 << 20)
    data = shard[int(extent.offset[clip]) :][: int(extent.size[clip])]
    far.write_bytes(shard + bytes(1 << 20) + data)
    store.put(far, f"test/{shard_of(dataset, 'test', clip).name}")
    extent.offset[clip] = moved
    s3.ranges.clear()
    assert fetch_members(store, catalog, clip)["gaze"] == data
    assert len(s3.ranges) == 2


def test_what_is_damaged_in_the_store_is_told_and_what_on_its_way_is_not(
    dataset: Path, store: Store, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    flip_byte(copy, "test", 0, "audio")
    catalog = upload(copy, store)
    with pytest.raises(
        CorruptMemberError, match=r"clip 0: audio in s3://bucket/.*000000.tar does not have its checksum"
    ):
        fetch_members(store, catalog, 0)
    right, calls = fetch_members(store, catalog, 1), 0
    read = Store.read

    def once(self: Store, name: str, start: int, end: int) -> bytes:
        nonlocal calls
        calls += 1
        data = read(self, name, start, end)
        return bytes([data[0] ^ 1]) + data[1:] if calls == 1 else data

    monkeypatch.setattr(Store, "read", once)
    assert fetch_members(store, catalog, 1) == right
    assert calls == 2


def test_a_store_that_fails_or_lacks_the_shard_is_a_line(dataset: Path, store: Store, s3: S3) -> None:
    catalog = upload(dataset, store)
    s3.misdeeds.append(Misdeed("GET", r"\.tar", "503", times=1))
    assert fetch_members(store, catalog, 0)
    s3.misdeeds.append(Misdeed("GET", r"\.tar", "503"))
    with pytest.raises(InputError, match=r"test/000000.tar: failed 2 times"):
        fetch_members(store, catalog, 0)
    s3.misdeeds.clear()
    store.remove(["test/000000.tar"])
    with pytest.raises(InputError, match=r"test/000000.tar: ") as told:
        fetch_members(store, catalog, 0)
    assert "\n" not in str(told.value)

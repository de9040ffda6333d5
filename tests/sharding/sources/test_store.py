"""Objects go up whole and verified, whatever the server does."""

import os
from pathlib import Path

import pytest

from loaders.errors import InputError
from sharding.sources.store import Store
from tests.s3 import S3, Misdeed


@pytest.fixture
def store(s3: S3, request: pytest.FixtureRequest) -> Store:
    return Store(url=f"s3://bucket/{request.node.name}", pause=0.01, attempts=4)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(100_000))
    return path


def test_what_is_put_comes_back(store: Store, file: Path, tmp_path: Path) -> None:
    assert store.sizes() == {}
    assert not store.is_there()
    assert store.get("a/b") is None
    assert not store.fetch("a/b", tmp_path / "none")
    store.put(file, "a/b")
    assert store.sizes() == {"a/b": 100_000}
    assert store.is_there()
    assert store.get("a/b") == file.read_bytes()
    assert store.fetch("a/b", tmp_path / "folder/copy")
    assert (tmp_path / "folder/copy").read_bytes() == file.read_bytes()
    store.remove(["a/b", "not/there"])
    assert store.sizes() == {}


def test_larger_than_a_piece(store: Store, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(1 << 20) * 33)  # more than two pieces to read back
    store.put(large, "large")
    assert store.fetch("large", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == large.read_bytes()


@pytest.mark.parametrize("what", ["503", "flip", "truncate"])
def test_an_upload_that_fails_or_is_damaged_is_made_again(store: Store, s3: S3, file: Path, what: str) -> None:
    s3.misdeeds.append(Misdeed("PUT", "name", what, times=2))
    store.put(file, "name")
    assert s3.done == 2
    assert store.get("name") == file.read_bytes()


@pytest.mark.parametrize("what", ["503", "flip", "truncate"])
def test_one_that_fails_for_good_is_told_by_name_and_leaves_nothing(
    store: Store, s3: S3, file: Path, what: str
) -> None:
    s3.misdeeds.append(Misdeed("PUT", "name", what))
    with pytest.raises(InputError, match="/name: failed 4 times") as failed:
        store.put(file, "name")
    assert "\n" not in str(failed.value)
    assert store.url in str(failed.value)
    s3.misdeeds.clear()
    assert store.sizes() == {}


def test_what_no_patience_mends_is_told_at_once(s3: S3, file: Path) -> None:
    store = Store(url="s3://nosuchbucket/vox", pause=100)
    with pytest.raises(InputError, match=r"s3://nosuchbucket/vox/name: .*see to the bucket"):
        store.put(file, "name")


def test_of_two_that_put_a_new_object_one_wins(store: Store, s3: S3) -> None:
    assert store.put_new(b"first", "lock")
    assert not store.put_new(b"second", "lock")
    assert store.get("lock") == b"first"
    s3.misdeeds.append(Misdeed("PUT", "other", "503", times=1))
    assert store.put_new(b"after a failure", "other")


def test_a_file_system_with_folders_serves_too(tmp_path: Path, file: Path, s3: S3) -> None:
    store = Store(url=f"file://{tmp_path}/store", pause=0.01)
    store.put(file, "a/b/c")
    assert store.sizes() == {"a/b/c": 100_000}
    assert store.put_new(b"x", "d/e")
    assert not store.put_new(b"y", "d/e")
    store.remove(["a/b/c", "d/e"])
    assert store.sizes() == {}

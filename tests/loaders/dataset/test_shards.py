"""A member's bytes are those in the tar, or there is an error; they outlive the store."""

import os
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from loaders.dataset import shards as storage
from loaders.dataset.catalog import open_catalog
from loaders.dataset.shards import CorruptMemberError, Shards
from loaders.errors import InputError
from tests.damage import copy_of, flip_byte, shard_of
from tests.datasets import Contents, make_dataset
from tests.limits import at_most_open_files, open_files, unprivileged

MEMBERS = {"filmstrip": "filmstrip.jpg", "audio": "audio.wav", "gaze": "gaze.npy", "clip": "clip.msg"}


def shards_of(dataset: Path, split: str = "train") -> Shards:
    return Shards(open_catalog(dataset, split, list(MEMBERS)))


@pytest.mark.parametrize("split", ["train", "test"])
def test_what_is_read_is_what_tar_finds_under_the_clips_key(dataset: Path, split: str) -> None:
    catalog = open_catalog(dataset, split, list(MEMBERS))
    shards = Shards(catalog)
    stored: dict[str, bytes] = {}
    for path in sorted((dataset / split).glob("*.tar")):
        with tarfile.open(path) as tar:
            for entry in tar:
                file = tar.extractfile(entry)
                assert file is not None
                stored[entry.name] = file.read()
    keys = catalog.table(["key"])["key"].to_pylist()
    for row, key in enumerate(keys):
        for member, suffix in MEMBERS.items():
            found, expected = shards.read(member, row), stored.pop(f"{key}.{suffix}", None)
            assert (None if found is None else found.tobytes()) == expected
    assert not stored


def test_a_member_that_a_clip_lacks_is_none(dataset: Path) -> None:
    catalog = open_catalog(dataset, "train", ["gaze"])
    without = np.flatnonzero(catalog.members["gaze"].size == 0)
    assert len(without)
    assert all(Shards(catalog).read("gaze", int(row)) is None for row in without)


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("at", [0.0, 0.37, 1.0])
def test_one_changed_byte_anywhere_is_found(dataset: Path, tmp_path: Path, member: str, at: float) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    row = int(np.flatnonzero(open_catalog(dataset, "test", [member]).members[member].size)[3])
    flip_byte(copy, "test", row, member, at)
    shards = shards_of(copy, "test")
    with pytest.raises(CorruptMemberError, match=member) as found:
        shards.read(member, row)
    assert found.value.clip == row
    for other in MEMBERS.keys() - {member}:
        shards.read(other, row)


@pytest.mark.parametrize("damage", ["cut", "longer", "empty", "missing", "a folder"])
def test_a_shard_of_another_length_is_refused_before_it_is_read(dataset: Path, tmp_path: Path, damage: str) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    path = shard_of(copy, "test", 0)
    data = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({"cut": data[:-512], "longer": data + bytes(512), "empty": b""}[damage])
    with pytest.raises(InputError, match=path.name) as refused:
        shards_of(copy, "test").read("audio", 0)
    assert "\n" not in str(refused.value)


def test_what_was_read_stays_when_the_store_is_closed(dataset: Path) -> None:
    shards = shards_of(dataset)
    held = [shards.read("filmstrip", row) for row in range(20)]
    before = [bytes(data.data) for data in held if data is not None]
    shards.close()
    assert len(before) == 20
    assert [bytes(data.data) for data in held if data is not None] == before


def test_a_closed_store_lets_its_files_go(dataset: Path, tmp_path: Path) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    shards = shards_of(copy)
    for row in range(len(open_catalog(copy, "train", []))):
        shards.read("audio", row)
    shards.close()
    assert not [path for path in open_files() if path.is_relative_to(copy) and path.suffix == ".tar"]


def test_a_dataset_may_have_more_shards_than_a_process_may_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VoxCeleb2 makes some two thousand shards; Linux gives a process 1,024 open files unless it is told otherwise."""
    contents = Contents(speakers={"train": 40}, shards={"train": 40}, videos=1, utterances=1, clips=1)
    make_dataset(tmp_path / "many", contents)
    assert storage._OPEN < 1024 // 2
    monkeypatch.setattr(storage, "_OPEN", 8)
    shards = shards_of(tmp_path / "many")
    with at_most_open_files(len(open_files()) + 20):
        assert all(shards.read("audio", row % 40) is not None for row in range(80))


def test_too_many_open_files_are_no_fault_of_the_shard(dataset: Path) -> None:
    catalog = open_catalog(dataset, "train", list(MEMBERS))
    with at_most_open_files(3), pytest.raises(InputError, match=r"Too many open files: .*ulimit -n") as refused:
        Shards(catalog).read("filmstrip", 0)
    assert "verify" not in str(refused.value)


@pytest.mark.parametrize("name", ["000000.tar", "clips.parquet"])
def test_what_may_not_be_read_is_said_to_be_so(dataset: Path, name: str) -> None:
    """And no repair is advised, which would build anew what is whole."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are for their user alone
        Path(folder).chmod(0o755)
        copy = copy_of(dataset, Path(folder, "copy"))
        (copy / "train" / name).chmod(0)
        with unprivileged(), pytest.raises(InputError, match=f"{name}: Permission denied: make it readable"):
            Shards(open_catalog(copy, "train", ["audio"])).read("audio", 0)


def test_a_shard_that_is_being_written_is_waited_for(dataset: Path, tmp_path: Path) -> None:
    """`cp`, `rsync --inplace` and a restore cut the file first, and have it whole a moment later."""
    copy = copy_of(dataset, tmp_path / "copy")
    shards, path = shards_of(copy), shard_of(copy, "train", 0)
    expected, data = shards.read("filmstrip", 0), path.read_bytes()
    with path.open("r+b") as file:
        file.truncate(0)
        restore = threading.Timer(0.2, lambda: (file.write(data), file.flush()))
        restore.start()
        found = shards.read("filmstrip", 0)
        restore.join()
    assert found is not None
    assert expected is not None
    assert found.tobytes() == expected.tobytes()


def test_a_shard_that_stays_cut_is_waited_for_once(dataset: Path, tmp_path: Path) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    shards, path = shards_of(copy), shard_of(copy, "train", 0)
    shards.read("filmstrip", 0)
    with path.open("r+b") as file:
        file.truncate(4096)
    start = time.monotonic()
    for member in ("audio", "gaze", "audio", "gaze", "audio", "gaze", "audio", "gaze"):
        with pytest.raises(CorruptMemberError, match="bytes early"):
            shards.read(member, 0)
    assert time.monotonic() - start < 3


def test_files_in_use_outlast_the_store_and_are_closed_with_the_last_reference(dataset: Path, tmp_path: Path) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    shards, path = shards_of(copy), shard_of(copy, "train", 0)
    number = int(open_catalog(copy, "train", []).shard[0])
    file = shards.source.open(number)
    shards.close()
    assert os.pread(file.fileno(), 100, 0) == path.read_bytes()[:100]
    assert path in open_files()
    del file
    assert path not in open_files()

"""No byte of a table is used that was not checked, and what was checked is not taken for what came after it."""

import hashlib
import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loaders.dataset import tables
from loaders.dataset.tables import ChangedFileError, opened, read_metadata, read_schema, read_table


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table at a relative path that pyarrow takes for a URI."""
    (tmp_path / "vox:1").mkdir()
    monkeypatch.chdir(tmp_path)
    path = Path("vox:1/t.parquet")
    with path.open("wb") as file:
        pq.write_table(pa.table({"a": [1, 2, 3], "b": [4, 5, 6]}), file)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_table_is_read_from_any_path(path: Path) -> None:
    assert read_table(path, ["b"], sha256=sha256(path)).to_pydict() == {"b": [4, 5, 6]}
    assert read_table(path).column_names == read_schema(path).names == ["a", "b"]
    assert read_metadata(path).num_rows == 3


def test_other_bytes_of_the_same_length_are_refused_before_they_are_read(path: Path) -> None:
    declared = sha256(path)
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    with pytest.raises(ChangedFileError, match="SHA-256"), opened(path, declared):
        pytest.fail("nothing of it may be used")


@pytest.mark.parametrize("old", [False, True])
def test_what_was_checked_once_is_checked_again_when_it_may_have_changed(path: Path, old: bool) -> None:
    """Old, so that it is remembered; and new, so that its times may not tell one write from the next."""
    declared = sha256(path)
    if old:
        os.utime(path, ns=(0, 0))  # sets the time of the change of its description, too
        time.sleep(tables._SETTLED + 0.1)
    for _ in range(2):
        with opened(path, declared) as file:
            assert hashlib.sha256(file.read()).hexdigest() == declared
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(0, 0))
    with pytest.raises(ChangedFileError), opened(path, declared):
        pytest.fail("nothing of it may be used")


def test_a_file_that_is_written_to_meanwhile_is_refused(path: Path) -> None:
    def read_while_it_changes() -> None:
        with opened(path, sha256(path)) as file:
            file.read(4)
            with path.open("r+b") as other:
                other.write(b"PAR2")
            time.sleep(0.02)
            os.utime(path)

    with pytest.raises(ChangedFileError, match="written to"):
        read_while_it_changes()


def test_a_file_whose_place_another_takes_meanwhile_is_read_to_its_end(path: Path) -> None:
    """As where two processes fetch one table, each by a file of its own that is renamed: the later one's takes over."""
    declared, copy = sha256(path), path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    with opened(path, declared) as file:
        file.read(4)
        time.sleep(0.02)
        copy.replace(path)
        assert pq.read_table(file).to_pydict() == {"a": [1, 2, 3], "b": [4, 5, 6]}

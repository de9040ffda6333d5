"""A file is whole or absent, and what could not be written is told as any other file's failure."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from loaders.storage.atomic import write_atomically
from models.training.wholefile import write_tensors
from tests import forked

#: Writes beyond a limit of the size of files fail as on a disk without room, with another number.
WITHOUT_ROOM = """
import resource, signal, sys
from pathlib import Path
import torch
from loaders.storage.atomic import write_atomically
from models.training.wholefile import write_tensors
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
for write, content in ((write_atomically, bytes(20_000)), (write_tensors, {"a": torch.zeros(20_000)})):
    try:
        write(Path(sys.argv[1]) / "file", content)
    except OSError as error:
        print(error.errno, error.filename)
"""


def test_what_is_written_is_read_back_and_replaces_what_was_there(tmp_path: Path) -> None:
    for number in (1, 2):
        write_atomically(tmp_path / "bytes", bytes([number]))
        write_tensors(tmp_path / "tensors", {"a": torch.full((3,), number)})
        assert (tmp_path / "bytes").read_bytes() == bytes([number])
        assert load_file(tmp_path / "tensors")["a"].tolist() == [number] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bytes", "tensors"]


def test_without_room_the_former_file_stays_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")
    process = forked.execute(WITHOUT_ROOM, tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.splitlines() == [f"{errno.EFBIG} {tmp_path / 'file'}"] * 2
    assert (tmp_path / "file").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    for write, content in ((write_atomically, b""), (write_tensors, {"a": torch.zeros(1)})):
        with pytest.raises(FileNotFoundError):
            write(tmp_path / "nothing" / "file", content)  # type: ignore[operator]

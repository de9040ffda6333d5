"""One training at a time in a run's folder, for as long as its process lives."""

from __future__ import annotations

import errno
import fcntl
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from loaders.errors import InputError
from models.training.runlock import LOCK, locked

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys, time
from pathlib import Path
from models.training.runlock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_process_is_refused_until_the_first_ends_however_it_does(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], cwd=ROOT, text=True, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(InputError, match=f"process {process.pid} on .* is training there: wait for it") as refused,
            locked(tmp_path),
        ):
            pass
        assert refused.value.try_again
        process.kill()
    with locked(tmp_path), pytest.raises(InputError, match="is training there"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_the_lock_is_no_way_to_another_file(tmp_path: Path) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("all of it")
    (tmp_path / LOCK).symlink_to(precious)
    with pytest.raises(OSError, match="symbolic links"), locked(tmp_path):
        pass
    assert precious.read_text() == "all of it"


def test_where_there_are_no_locks_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with caplog.at_level(logging.WARNING), locked(tmp_path):
        pass
    assert "cannot be locked (No locks available)" in caplog.text

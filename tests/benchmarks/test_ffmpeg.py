"""PyAV's FFmpeg serves programs that are linked to a system's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers.ffmpeg import link_libraries
from loaders.errors import InputError


def test_the_libraries_are_found_by_their_plain_names(tmp_path: Path) -> None:
    names = link_libraries(tmp_path)
    assert names == link_libraries(tmp_path)  # a second time
    assert {name.split(".")[0] for name in names} >= {"libavcodec", "libavformat", "libavutil", "libswscale"}
    load = "import ctypes, sys; print([hex(ctypes.CDLL(name).avcodec_version()) for name in sys.argv[1:]])"
    [codec] = [name for name in names if name.startswith("libavcodec")]
    done = subprocess.run(
        [sys.executable, "-c", load, codec],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.strip()[2:-2], 16) >> 16 == int(codec.rpartition(".")[2])


def test_where_pyav_brings_none_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("av.__file__", str(tmp_path / "av" / "__init__.py"))
    with pytest.raises(InputError, match="PyAV brings it in its wheels alone"):
        link_libraries(tmp_path / "links")

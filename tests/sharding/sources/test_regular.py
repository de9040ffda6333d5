"""Nothing but regular files is read, and nobody waits: whatever lies among the sources."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from loaders.errors import InputError
from sharding.corpora.boxes import BoxesError, read_boxes
from sharding.corpora.metadata import read_speakers
from sharding.gaze.statistics import GazeError, read_table
from sharding.media.probe import probe_seconds
from sharding.media.reader import MediaError, read_media
from sharding.sources import regular
from sharding.sources.copies import read_bytes
from sharding.sources.fingerprint import contents, fingerprint
from sharding.sources.regular import NotRegularError, open_regular
from sharding.utterance import BoxesFile, Utterance
from tests.pipes import pipe, without_waiting


def utterance(path: Path, **files: object) -> Utterance:
    names = {"corpus": "c", "split": "train", "speaker": "s", "video": "v", "utterance": "u"}
    return Utterance(**names, video_path=path, **files)  # type: ignore[arg-type]


READERS: dict[str, Callable[[Path], object]] = {
    "open_regular": open_regular,
    "read_bytes": read_bytes,
    "read_boxes": read_boxes,
    "read_table": read_table,
    "read_media": lambda path: read_media(path, fps=5, size=16),
    "read_speakers": lambda path: read_speakers([path]),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_is_refused_at_once(tmp_path: Path, reader: str) -> None:
    path = pipe(tmp_path / "x")

    def told() -> str:
        try:
            READERS[reader](path)
        except (OSError, InputError, BoxesError, GazeError, MediaError) as error:
            return str(error)
        return "it was read"

    assert ("missing" if reader == "read_media" else "a named pipe") in without_waiting([path], told)


def test_planning_and_fingerprints_take_a_pipe_as_absent(tmp_path: Path) -> None:
    path, nothing = pipe(tmp_path / "x"), tmp_path / "nothing"
    assert without_waiting([path], lambda: probe_seconds(utterance(path))) == 0
    assert without_waiting([path], lambda: contents(utterance(path))) is None
    for files in ({}, {"audio_path": path}, {"gaze_path": path}, {"boxes": BoxesFile(path=path)}):
        absent = {name: BoxesFile(path=nothing) if name == "boxes" else nothing for name in files}
        found = without_waiting([path], lambda files=files: fingerprint(utterance(path, **files)))  # type: ignore[misc]
        assert found == fingerprint(utterance(nothing, **absent))


def test_a_file_that_becomes_a_pipe_after_it_was_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pipe(tmp_path / "x")
    monkeypatch.setattr(regular, "require_regular", lambda path: None)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(NotRegularError, match="named pipe"):
            without_waiting([path], lambda: open_regular(path))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_devices_sockets_and_folders(tmp_path: Path) -> None:
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket"))
    for name, kind in (("zero", "a device"), ("socket", "a socket")):
        with pytest.raises(NotRegularError, match=kind) as raised:
            read_bytes(tmp_path / name)
        assert raised.value.errno == errno.ENXIO  # of this file, not of its file system
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "nothing")


def test_a_file_is_read_by_its_link_and_blocks_as_files_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with open_regular(tmp_path / "link") as file:
        assert os.get_blocking(file.fileno())
        assert not os.get_inheritable(file.fileno())
        assert file.read() == b"abc"

"""The sources of a build, where they are URLs: listed, read and copied to this machine as they are needed.

A source is a path everywhere; one that is a URL (`loaders.storage.urls.url_of`) lies in an object store. What plans a
build reads lists and headers there; the worker that builds a shard copies an utterance's files to a temporary folder,
and removes them when it has cut its clips. What a store fails to give for long ends the build: an utterance that a
network lost must not be missing in the dataset. A file system that fails ends it too, and so does a file that is no
longer what it was when the build was planned: it can be run again then, and goes on.
"""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar, cast

from loaders.storage.urls import url_of
from sharding.sources.packed import Section, opened_file, packed_of
from sharding.sources.read_errors import failures_named, is_of_one_file
from sharding.sources.regular import open_regular
from sharding.sources.store import Store
from sharding.stages import Stopwatch
from sharding.utterance import Utterance, readable

R = TypeVar("R")

_LONGEST_NAME = 200  # bytes, of a file; object stores allow more than disks do


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalMedia:
    """An utterance whose files are on this machine."""

    utterance: Utterance
    places: Mapping[str, str]  #: by the path of each copy, what it is a copy of

    def rewrite_paths(self, text: str) -> str:
        """A message about the copies as one about what they are copies of."""
        for copy, original in self.places.items():
            text = text.replace(copy, original)
        return text


@contextmanager
def local_media(utterance: Utterance, watch: Stopwatch) -> Iterator[LocalMedia]:
    """The utterance with its files on this machine: as it is, or with copies that go again.

    What the store does not have is not there as a copy either.

    Raises:
        InputError: the store fails.
    """
    boxes = utterance.boxes
    paths = {
        "video_path": utterance.video_path,
        "audio_path": utterance.audio_path,
        "gaze_path": utterance.gaze_path,
        "boxes": None if boxes is None else boxes.path,
    }
    paths |= {f"array {name}": path for name, path in utterance.arrays.items()}
    remote = {name: path for name, path in paths.items() if path is not None and url_of(path) is not None}
    if not remote:
        yield LocalMedia(utterance=utterance, places={})
        return
    with tempfile.TemporaryDirectory(prefix="filmstrip-") as folder:
        copies: dict[str, Path] = {}
        places: dict[str, str] = {}
        with watch.stage("fetch"):
            for name, path in remote.items():
                is_short = len(os.fsencode(path.name)) <= _LONGEST_NAME
                copies[name] = Path(folder, name, path.name if is_short else f"file{path.suffix[:16]}")
                _fetch(path, copies[name])
                places[str(copies[name])] = readable(path)
        own_boxes = copies.pop("boxes", None)
        arrays = {name: copies.pop(f"array {name}", path) for name, path in utterance.arrays.items()}
        local = replace(utterance, arrays=arrays, **copies)  # type: ignore[arg-type]
        if boxes is not None and own_boxes is not None:
            local = replace(local, boxes=replace(boxes, path=own_boxes))
        yield LocalMedia(utterance=local, places=places)


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; in an object store, whether anything lies below."""
    url = url_of(path)
    return path.is_dir() if url is None else Store(url=url).is_there()


def existence(root: Path) -> Callable[[Path], bool]:
    """Tells of paths below ``root`` whether there is such a file. An object store is listed once for all of them."""
    url = url_of(root)
    if url is None:
        return os.path.isfile  # where it may not be looked, there is none
    return {root / name for name in Store(url=url).sizes()}.__contains__


def listed(root: Path) -> Iterator[tuple[Path, bool]]:
    """Every object below a URL in the order of the names, and whether its name can be a path.

    One that cannot (a//b, a/../b) would be read as another.
    """
    url = url_of(root)
    assert url is not None
    for name in sorted(Store(url=url).sizes(), key=lambda name: PurePosixPath(name).parts):
        if not name.endswith("/"):  # what some programs put for an empty folder
            yield root / name, not {"", ".", ".."} & set(name.split("/"))


def read_bytes(path: Path) -> bytes:
    """A small file's content.

    Raises:
        OSError: it is not there, or cannot be read.
        InputError: the store fails.
    """
    if url_of(path) is None:
        with open_regular(path) as file:
            return file.read()
    content = looked_into(path, lambda file: file.read()) if packed_of(path) else _object(path)
    if content is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), readable(path))
    return content


def looked_into(path: Path, use: Callable[[BinaryIO], R]) -> R | None:
    """What ``use`` returns of a remote file, or one in a remote tar, of which only some is read; None: there is none.

    ``use`` lets the file's own errors through, so that the store is asked again.
    """
    packed = packed_of(path)
    store, name = _store_of(opened_file(path))
    if packed is None:
        return store.look_into(name, use)
    return store.look_into(name, lambda whole: use(cast(BinaryIO, Section(whole, packed))))


def files_of(utterance: Utterance) -> tuple[Path, ...]:
    """The files that an utterance is made of: its film; where there are such its sound, gaze table, boxes, arrays."""
    boxes = utterance.boxes
    paths = (utterance.video_path, utterance.audio_path, utterance.gaze_path, None if boxes is None else boxes.path)
    return tuple(path for path in (*paths, *utterance.arrays.values()) if path is not None)


def is_gone(path: Path) -> bool:
    """Whether there is no such file, nor a link of that name.

    Raises:
        SourceError: its file system fails.
        InputError: the store does.
    """
    if url_of(path) is not None:
        return looked_into(path, lambda _: True) is None
    with failures_named(path):
        try:
            opened_file(path).lstat()
        except OSError as error:
            if not is_of_one_file(error):
                raise
            return error.errno in (errno.ENOENT, errno.ENOTDIR)  # otherwise it is not for us to see
    return False


def is_open_to_us(path: Path) -> bool:
    """Whether a file of this machine can be opened for reading."""
    with failures_named(path):
        try:
            file = opened_file(path)
            if not file.is_file():  # opening a pipe would wait for whoever writes to it
                return False
            file.open("rb").close()
        except OSError as error:
            if not is_of_one_file(error):
                raise
            return False
    return True


def _fetch(path: Path, copy: Path) -> None:
    """Copy a remote file, or one in a remote tar; what is not there is not there as a copy."""
    packed = packed_of(path)
    store, name = _store_of(opened_file(path))
    store.fetch(name, copy, part=None if packed is None else (packed.offset, packed.size))


def _object(path: Path) -> bytes | None:
    store, name = _store_of(path)
    return store.get(name)


def _store_of(path: Path) -> tuple[Store, str]:
    url = url_of(path.parent)
    assert url is not None
    return Store(url=url), path.name

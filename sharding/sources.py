"""The sources of a build, where they are URLs: listed, read and copied to this machine as they are needed.

A source is a path everywhere; one that is a URL (`loaders.filesystem.url_of`) lies in an object store. Small files,
such as tables, are read at once. Films and sound are copied to a temporary folder by the worker that decodes them, and
removed when it has. What a store fails to give for long ends the build: an utterance that a network lost must not be
missing in the dataset.
"""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar

from loaders.filesystem import url_of
from sharding.corpora.utterance import Utterance, readable
from sharding.stages import Stopwatch
from sharding.store import Store

R = TypeVar("R")

_LONGEST_NAME = 200  # bytes, of a file; object stores allow more than disks do


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalMedia:
    """An utterance whose film and sound are on this machine."""

    utterance: Utterance
    places: Mapping[str, str]  #: by the path of each copy, what it is a copy of

    def told(self, text: str) -> str:
        """A message about the copies as one about what they are copies of."""
        for copy, original in self.places.items():
            text = text.replace(copy, original)
        return text


@contextmanager
def local_media(utterance: Utterance, watch: Stopwatch) -> Iterator[LocalMedia]:
    """The utterance with film and sound on this machine: as it is, or with copies that go again.

    What the store does not have is not there as a copy either.

    Raises:
        InputError: the store fails.
    """
    remote = {
        name: path
        for name in ("video_path", "audio_path")
        if (path := getattr(utterance, name)) is not None and url_of(path) is not None
    }
    if not remote:
        yield LocalMedia(utterance=utterance, places={})
        return
    with tempfile.TemporaryDirectory(prefix="filmstrip-") as folder:
        copies: dict[str, Path] = {}
        with watch.stage("fetch"):
            for name, path in remote.items():
                is_short = len(os.fsencode(path.name)) <= _LONGEST_NAME
                copies[name] = Path(folder, name, path.name if is_short else f"file{path.suffix[:16]}")
                store, object_name = _store_of(path)
                store.fetch(object_name, copies[name])
        local = replace(utterance, **copies)  # type: ignore[arg-type]
        yield LocalMedia(utterance=local, places={str(copies[name]): readable(path) for name, path in remote.items()})


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; in an object store, whether anything lies below."""
    url = url_of(path)
    return path.is_dir() if url is None else Store(url=url).is_there()


def existence(root: Path) -> Callable[[Path], bool]:
    """Tells of paths below ``root`` whether there is such a file. An object store is listed once for all of them."""
    url = url_of(root)
    if url is None:
        return Path.is_file
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
        return path.read_bytes()
    store, name = _store_of(path)
    content = store.get(name)
    if content is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), readable(path))
    return content


def looked_into(path: Path, use: Callable[[BinaryIO], R]) -> R | None:
    """What ``use`` returns of a remote file of which only some is read; None where there is no such file.

    ``use`` lets the file's own errors through, so that the store is asked again.
    """
    store, name = _store_of(path)
    return store.look_into(name, use)


def _store_of(path: Path) -> tuple[Store, str]:
    url = url_of(path.parent)
    assert url is not None
    return Store(url=url), path.name

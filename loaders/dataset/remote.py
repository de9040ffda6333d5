"""A dataset in an object store: its description here, its shards by way of the cache.

dataset.json and the splits' catalogs are small and are copied whole; of shards only those that are drawn from are
fetched, see `loaders.storage.cache`. A dataset may be extended at any moment: what is copied are catalogs of one
dataset.json.
"""

import hashlib
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loaders.dataset.manifest import CATALOG, MANIFEST, Manifest, from_json, read_manifest, staged
from loaders.dataset.tables import ChangedFileError, opened
from loaders.errors import InputError
from loaders.storage.atomic import write_atomically
from loaders.storage.cache import FileSystem
from loaders.storage.retry import persist
from loaders.storage.urls import file_system_of, url_of

_log = logging.getLogger(__name__)
_EXCHANGES = 8  # of dataset.json while a dataset is opened: one that changes more often is not extended but unstable


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base, "filmstrip")
    try:
        return Path.home() / ".cache" / "filmstrip"
    except RuntimeError:  # this user has no home, as in many containers
        return Path(tempfile.gettempdir(), f"filmstrip-{os.getuid()}")


#: Where the shards of remote datasets are kept by default.
CACHE = _default_cache()


@dataclass(frozen=True, slots=True)
class RemoteDataset:
    """A remote dataset whose description has been copied."""

    folder: Path  #: the local copy: dataset.json and catalogs, no shards
    file_system: FileSystem
    path: str  #: of the dataset's folder, as the file system names it


def describe(dataset: str | Path, cache: Path = CACHE, options: Mapping[str, Any] | None = None) -> Manifest:
    """The description of a dataset, here or in a store. Arguments and errors as in `open_remote`."""
    url = url_of(dataset)
    folder = Path(dataset) if url is None else open_remote(url, None, cache, options or {}).folder
    return read_manifest(folder)


def open_remote(url: str, split: str | None, cache: Path, options: Mapping[str, Any]) -> RemoteDataset:
    """Copy what describes a remote dataset.

    Args:
        url: of the dataset's folder, of any scheme that fsspec knows.
        split: whose catalog is needed; None: of none.
        cache: folder for the copy, under ``described``.
        options: of the fsspec file system, such as ``key`` and ``endpoint_url``.

    Raises:
        InputError: a scheme without its package, a store that cannot be reached, or no dataset there.
    """
    file_system, path = file_system_of(url, options)
    for _ in range(_EXCHANGES):
        text, manifest = _fetch_manifest(file_system, f"{path}/{MANIFEST}", f"{url}/{MANIFEST}")
        folder = cache / "described" / hashlib.sha256(text).hexdigest()
        try:
            if split is not None and split in manifest.splits:
                catalog = folder / split / CATALOG
                sha256 = manifest.splits[split].catalog_sha256
                if not _has(catalog, sha256):
                    _write(catalog, _fetch_table(file_system, path, f"{split}/{CATALOG}", sha256, url, text))
        except _ExchangedError:
            _log.warning("%s: is another one now: read again", f"{url}/{MANIFEST}")
            continue
        _write(folder / MANIFEST, text)
        return RemoteDataset(folder, file_system, path)
    raise InputError(
        f"{url}/{MANIFEST}: changed {_EXCHANGES} times while it was read: see who writes there", try_again=True
    )


class _OtherBytesError(Exception):
    """What came is not what it should be: on its way, or in the store."""


class _ExchangedError(InputError):
    """dataset.json is another one than the one that was read: never worth asking again for what that one declares."""


def _fetch_manifest(file_system: Any, path: str, name: str) -> tuple[bytes, Manifest]:
    """dataset.json, which has its digest in itself: what is wrong twice in the same way is so in the store."""
    before = None
    while True:
        text = _fetch(file_system, path, name)
        try:
            return text, from_json(text.decode(), name)
        except InputError:
            if text == before:
                raise
        except UnicodeDecodeError as error:
            if text == before:
                raise InputError(f"{name}: not a text ({error.reason}): upload it again") from error
        _log.warning("%s: not a whole description: asked for again", name)
        before = text


def _fetch(file_system: Any, path: str, name: str) -> bytes:
    """An object, asked for until it comes."""

    def attempt() -> bytes:
        try:
            return bytes(file_system.cat_file(path))
        except FileNotFoundError as error:
            raise _missing(name.removesuffix("/" + MANIFEST), path) from error

    return persist(attempt, name)


def _fetch_table(file_system: Any, root: str, table: str, sha256: str, url: str, text: bytes) -> bytes:
    """A table, asked for until it comes with the bytes that dataset.json declares.

    Args:
        file_system: of the store.
        root: of the dataset, as the file system names it.
        table: its path within the dataset.
        sha256: that it must have.
        url: of the dataset.
        text: of the dataset.json that says so.

    Raises:
        _ExchangedError: dataset.json is another one now.
        InputError: there is no such table.
    """

    def attempt() -> bytes:
        absent = None
        for place in (table, staged(sha256)):
            try:
                data = bytes(file_system.cat_file(f"{root}/{place}"))
            except (FileNotFoundError, PermissionError) as error:
                # To one who may not list a bucket, S3 says of what is not there that it is forbidden.
                if place == table and isinstance(error, PermissionError):
                    raise
                absent = absent or (error if place == table else None)
                continue
            if hashlib.sha256(data).hexdigest() == sha256:
                return data
        if bytes(file_system.cat_file(f"{root}/{MANIFEST}")) != text:
            raise _ExchangedError(f"{url}/{MANIFEST}: was exchanged while the dataset was opened: open it again")
        if absent is not None:
            raise _missing(url, f"{root}/{table}") from absent
        raise _OtherBytesError(f"not the one that {MANIFEST} declares")

    return persist(attempt, f"{url}/{table}")


def _missing(url: str, path: str) -> InputError:
    return InputError(f"{url}: no dataset there ({path} is missing): see to the URL, or upload it")


def _has(path: Path, sha256: str) -> bool:
    """Whether a copy is there, and whole."""
    try:
        with opened(path, sha256):
            return True
    except ChangedFileError:
        _log.warning("%s: damaged: it is fetched again", path)
    except OSError:
        pass
    return False


def _write(path: Path, data: bytes) -> None:
    """Whole or absent, however many processes write it at once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}: give a cache folder that can be written") from error

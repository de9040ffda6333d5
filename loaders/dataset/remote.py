"""The description of a dataset in an object store, copied to this machine.

dataset.json and the splits' catalogs are small and are copied whole; of shards only those that are drawn from are
fetched, see `loaders.storage.cache`. A dataset may be extended at any moment: what is copied are catalogs of one
dataset.json.
"""

import hashlib
import logging
import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loaders.dataset.manifest import CATALOG, MANIFEST, Manifest, credible, staged, to_json
from loaders.dataset.tables import ChangedFileError, opened
from loaders.errors import InputError
from loaders.storage.atomic import write_atomically
from loaders.storage.retry import ATTEMPTS, persist
from loaders.storage.urls import file_system_of

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
class Origin:
    """The folder of an object store that a dataset is in."""

    url: str
    file_system: Any  #: fsspec's
    path: str  #: of the folder, as the file system names it
    attempts: int = ATTEMPTS  #: of every request, see `loaders.storage.retry`


def origin_of(url: str, options: Mapping[str, Any], attempts: int = ATTEMPTS) -> Origin:
    """Where a URL leads, of any scheme that fsspec knows.

    Args:
        url: of a dataset's folder.
        options: of the fsspec file system, such as ``key`` and ``endpoint_url``.
        attempts: of every request.

    Raises:
        InputError: a scheme without its package, or a URL that names nothing.
    """
    file_system, path = file_system_of(url, options)
    return Origin(url, file_system, path, attempts)


def copy_described(origin: Origin, cache: Path, splits: Collection[str] | None) -> tuple[Path, Manifest]:
    """Copy dataset.json, and the catalogs of these splits: as far as the dataset has them, all are of one dataset.json.

    Args:
        origin: where the dataset is.
        cache: folder for the copy, under ``described``.
        splits: whose catalogs are wanted; None: of all.

    Returns:
        The folder with the copy, which holds no shards, and what dataset.json says.

    Raises:
        InputError: a store that cannot be reached, or no dataset there.
    """
    for _ in range(_EXCHANGES):
        text, manifest = _fetch_manifest(origin)
        folder = cache / "described" / hashlib.sha256(text).hexdigest()
        try:
            for split in manifest.splits:
                if splits is None or split in splits:
                    copy_table(origin, folder, f"{split}/{CATALOG}", manifest)
        except ExchangedError:
            _log.warning("%s: is another one now: read again", f"{origin.url}/{MANIFEST}")
            continue
        _write(folder / MANIFEST, text)
        return folder, manifest
    problem = f"changed {_EXCHANGES} times while it was read"
    raise InputError(f"{origin.url}/{MANIFEST}", problem, "see who writes there", try_again=True)


def copy_table(origin: Origin, folder: Path, table: str, manifest: Manifest) -> None:
    """Have a table in the folder of `copy_described`; nothing is fetched where it is there, and whole.

    Raises:
        ExchangedError: the dataset is another one now.
        InputError: the table is missing or wrong in the store, or the store fails.
    """
    sha256 = manifest.tables[table]
    if not _has(folder / table, sha256):
        _write(folder / table, _fetch_table(origin, table, sha256, manifest))


class _OtherBytesError(Exception):
    """What came is not what it should be: on its way, or in the store."""


class ExchangedError(InputError):
    """dataset.json is another one than the one that was read: never worth asking again for what that one declares."""


def _fetch_manifest(origin: Origin) -> tuple[bytes, Manifest]:
    """dataset.json, which has its digest in itself: what is wrong twice in the same way is so in the store."""
    before, name = None, f"{origin.url}/{MANIFEST}"
    while True:
        text = _fetch(origin, MANIFEST)
        try:
            return text, credible(text.decode(), name)
        except InputError:
            if text == before:
                raise
        except UnicodeDecodeError as error:
            if text == before:
                raise InputError(f"{name}: not a text ({error.reason}): upload it again") from error
        _log.warning("%s: not a whole description: asked for again", name)
        before = text


def _fetch(origin: Origin, name: str) -> bytes:
    """An object, asked for until it comes."""

    def attempt() -> bytes:
        try:
            return bytes(origin.file_system.cat_file(f"{origin.path}/{name}"))
        except FileNotFoundError as error:
            raise _missing(origin, name) from error

    return persist(attempt, f"{origin.url}/{name}", attempts=origin.attempts)


def _fetch_table(origin: Origin, table: str, sha256: str, manifest: Manifest) -> bytes:
    """A table, asked for until it comes with the bytes that dataset.json declares.

    What is wrong twice in the same way is so in the store.

    Args:
        origin: of the dataset.
        table: its path within the dataset.
        sha256: that it must have.
        manifest: the dataset.json that says so.

    Raises:
        ExchangedError: dataset.json is another one now.
        InputError: there is no such table, or another.
    """
    file_system, root = origin.file_system, origin.path
    before: str | None = None  # SHA-256 of what was there the time before

    def attempt() -> bytes:
        nonlocal before
        absent, other = None, None
        for place in (table, staged(sha256)):
            try:
                data = bytes(file_system.cat_file(f"{root}/{place}"))
            except (FileNotFoundError, PermissionError) as error:
                # To one who may not list a bucket, S3 says of what is not there that it is forbidden.
                if place == table and isinstance(error, PermissionError):
                    raise
                absent = absent or (error if place == table else None)
                continue
            found = hashlib.sha256(data).hexdigest()
            if found == sha256:
                return data
            other = other or found
        if bytes(file_system.cat_file(f"{root}/{MANIFEST}")) != to_json(manifest).encode():
            raise ExchangedError(f"{origin.url}/{MANIFEST}: was exchanged after the dataset was opened: open it again")
        if absent is not None:
            raise _missing(origin, table) from absent
        if other == before:
            raise InputError(f"{origin.url}/{table}: its SHA-256 is not the one in {MANIFEST}: upload it again")
        before = other
        raise _OtherBytesError(f"not the one that {MANIFEST} declares")

    return persist(attempt, f"{origin.url}/{table}", attempts=origin.attempts)


def _missing(origin: Origin, name: str) -> InputError:
    path = f"{origin.path}/{name}"
    return InputError(f"{origin.url}: no dataset there ({path} is missing): see to the URL, or upload it")


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

"""A dataset in an object store: its description here, its shards by way of the cache.

dataset.json and the splits' catalogs are small and are copied whole; of shards only those that are drawn from are
fetched, see `loaders.cache`.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loaders.cache import FileSystem
from loaders.dataset import CATALOG, MANIFEST, Manifest, from_json, read_manifest
from loaders.errors import InputError
from loaders.filesystem import file_system_of, url_of

#: Where the shards of remote datasets are kept by default.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "filmstrip"


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
    text = _fetch(file_system, f"{path}/{MANIFEST}", url)
    try:
        manifest = from_json(text.decode(), f"{url}/{MANIFEST}")
    except UnicodeDecodeError as error:
        raise InputError(f"{url}/{MANIFEST}: not a text ({error.reason}): upload it again") from error
    folder = cache / "described" / hashlib.sha256(text).hexdigest()
    if split is not None and split in manifest.splits:
        catalog = folder / split / CATALOG
        if not catalog.exists():
            data = _fetch(file_system, f"{path}/{split}/{CATALOG}", url)
            if hashlib.sha256(data).hexdigest() != manifest.splits[split].catalog_sha256:
                raise InputError(f"{url}/{split}/{CATALOG}: not the one that {MANIFEST} declares: upload it again")
            _write(catalog, data)
    _write(folder / MANIFEST, text)
    return RemoteDataset(folder, file_system, path)


def _fetch(file_system: Any, path: str, url: str) -> bytes:
    try:
        return bytes(file_system.cat_file(path))
    except FileNotFoundError as error:
        raise InputError(f"{url}: no dataset there ({path} is missing): see to the URL, or upload it") from error
    except Exception as error:  # of any library that a file system is made of
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{url}: cannot be read ({why}): see to the network and the credentials") from error


def _write(path: Path, data: bytes) -> None:
    """Whole or absent, however many processes write it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)

"""A dataset, opened: what it says of itself, and where its bytes are, in a folder or in an object store.

Whoever works with a dataset opens it once and hands it on. dataset.json is read and checked then, which takes seconds
where it names 100,000 shards, and never again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loaders.dataset.catalog import Catalog, open_catalog
from loaders.dataset.manifest import CATALOG, MANIFEST, Manifest, Split, read_manifest, require_split, to_json
from loaders.dataset.remote import CACHE, ExchangedError, Origin, copy_described, copy_table, origin_of
from loaders.dataset.shards import CachedShards, LocalShards, ShardSource
from loaders.dataset.tables import ChangedFileError
from loaders.storage.cache import ShardCache
from loaders.storage.retry import ATTEMPTS
from loaders.storage.urls import url_of


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A dataset as it was when it was opened. One that is extended meanwhile has to be opened again.

    Nothing of it but what it says of itself is in memory; catalogs that were asked for stay there with it.
    """

    name: str  #: the folder as it was given, or the URL: for messages
    folder: Path  #: with dataset.json and the catalogs: the dataset's own, or of a copy
    manifest: Manifest
    origin: Origin | None = None  #: the folder of an object store that the shards are in; None: they are in `folder`
    _catalogs: dict[tuple[str, ...], Catalog] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def open(
        cls,
        place: str | Path,
        *,
        cache: str | Path = CACHE,
        options: Mapping[str, Any] | None = None,
        splits: Collection[str] | None = (),
        attempts: int = ATTEMPTS,
    ) -> Dataset:
        """Read a dataset's description.

        Args:
            place: folder of a built dataset, or its URL in an object store, of any scheme that fsspec knows.
            cache: folder on a local disk for the description of one in a store.
            options: of its fsspec file system, such as ``{"endpoint_url": …}``.
            splits: whose catalogs are fetched from a store with it, as far as it has them; None: of all. Other tables
                are when they are asked for. Together they are of one dataset even where it is extended at this moment.
            attempts: of every request to its store, see `loaders.storage.retry`.

        Raises:
            InputError: no dataset is there, or its store cannot be reached.
        """
        url = url_of(place)
        if url is None:
            return cls(str(place), Path(place), read_manifest(Path(place)))
        origin = origin_of(url, options or {}, attempts)
        folder, manifest = copy_described(origin, Path(cache), splits)
        return cls(url, folder, manifest, origin)

    def __str__(self) -> str:
        return self.name

    def require_split(self, split: str) -> Split:
        """What dataset.json says of a split. Raises InputError where there is none, or it holds no clip."""
        return require_split(self.manifest, split, self.name)

    def catalog(self, split: str, members: Sequence[str] = (), labels: Sequence[str] = ()) -> Catalog:
        """A split's clips, with where these members of theirs lie and what is stated of these labels; read once.

        Raises:
            InputError: no such split, member or label, a catalog that is not dataset.json's, or the store fails.
        """
        key = split, *members, "", *labels  # no member is called ""
        if key not in self._catalogs:
            self.require_split(split)
            self.table(f"{split}/{CATALOG}")
            try:
                self._catalogs[key] = open_catalog(self.folder, split, members, self.manifest, labels)
            except ChangedFileError as error:
                if not self._is_as_it_was():
                    raise ExchangedError(f"{self.name}: was exchanged after it was opened: open it again") from error
                raise
        return self._catalogs[key]

    def table(self, name: str) -> Path:
        """The file of one of the manifest's tables, such as ``train/clips.parquet``; from a store it is fetched first.

        That its SHA-256 is the declared one, who reads it sees to, see `loaders.dataset.tables`.

        Raises:
            InputError: the store has not got it, or fails.
        """
        if self.origin is not None:
            copy_table(self.origin, self.folder, name, self.manifest)
        return self.folder / name

    def shards(self, catalog: Catalog, cache: ShardCache | None = None) -> ShardSource:
        """Where the bytes of a split's clips come from.

        Args:
            catalog: of the split, this dataset's.
            cache: for a dataset in a store, see `loaders.storage.cache`; one in a folder needs none.
        """
        if self.origin is None:
            return LocalShards(catalog)
        if cache is None:
            raise ValueError(f"{self.name}: shards of a store are read by way of a cache")
        return CachedShards(catalog, f"{self.origin.path}/{catalog.split}", cache, self.origin.file_system)

    def _is_as_it_was(self) -> bool:
        try:
            return (self.folder / MANIFEST).read_bytes() == to_json(self.manifest).encode()
        except OSError:
            return False

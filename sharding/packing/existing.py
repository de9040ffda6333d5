"""A finished dataset as an extension finds it: what stays, and what is known of the utterances in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loaders.dataset.catalog import catalog_rows
from loaders.dataset.columns import NAMES, stated
from loaders.dataset.identity import UtteranceName
from loaders.dataset.manifest import CATALOG, GAZE_STATISTICS, MANIFEST, REJECTED, Manifest, Shard, read_manifest
from loaders.dataset.tables import read_schema, read_table
from loaders.errors import InputError
from loaders.storage.atomic import sha256_of
from sharding.packing.tar import index_path
from sharding.packing.writer import Moments


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingDataset:
    """The dataset that is extended."""

    folder: Path  #: with its tables: its own, or a copy of them where it lies in a store
    manifest: Manifest

    def shards(self, split: str) -> list[Shard]:
        """Of the split; none where the dataset has no such split."""
        entry = self.manifest.splits.get(split)
        return list(entry.shards) if entry else []

    def next_number(self, split: str) -> int:
        """Of the split's first new shard."""
        stems = [shard.name.removesuffix(".tar") for shard in self.shards(split)]
        return max((int(stem) for stem in stems if stem.isdecimal()), default=-1) + 1

    def parts(self, split: str) -> list[pa.Table]:
        """The split's catalog, a table a shard."""
        parts, first = [], 0
        for shard in self.shards(split):
            parts.append(catalog_rows(self.folder / split, first, shard.clips))
            first += shard.clips
        return parts

    def rejected(self) -> list[dict[str, Any]]:
        """The rows of rejected.parquet."""
        rows: list[dict[str, Any]] = read_table(
            self.folder / REJECTED, sha256=self.manifest.rejected_sha256
        ).to_pylist()
        return rows

    def utterances(self) -> dict[UtteranceName, dict[str, Any]]:
        """What the catalogs say of each utterance that has clips, by name: ``split`` and what its corpus stated."""
        found: dict[UtteranceName, dict[str, Any]] = {}
        columns = [*NAMES, *stated(self.manifest.labels)]
        for split, entry in self.manifest.splits.items():
            table = read_table(self.folder / split / CATALOG, columns, sha256=entry.catalog_sha256)
            for index, column in enumerate(table.schema):
                if pa.types.is_dictionary(column.type):
                    table = table.set_column(index, column.name, table[index].cast(pa.string()))
            for row in table.group_by(columns, use_threads=False).aggregate([]).to_pylist():
                found[UtteranceName.of(row)] = {"split": split, **row}
        return found

    def gaze(self) -> Moments:
        """Of the training split's gaze, as dataset.json and the catalog tell them."""
        moments = Moments(GAZE_STATISTICS)
        mean, deviation = self.manifest.gaze_mean, self.manifest.gaze_std
        if mean is not None and deviation is not None:
            sha256 = self.manifest.splits["train"].catalog_sha256
            sizes = read_table(self.folder / "train" / CATALOG, ["gaze_size"], sha256=sha256)["gaze_size"]
            count = pc.sum(pc.greater(pc.fill_null(sizes, 0), 0)).as_py()
            moments.add(count, np.array(mean), np.square(deviation) * count)
        return moments


def read_existing(
    folder: Path, objects: Mapping[str, int] | None = None, manifest: Manifest | None = None
) -> ExistingDataset:
    """The dataset in ``folder``, if its files are there; that every byte of the shards is right, verify tells.

    Args:
        folder: the dataset's, or of the copy of its description.
        objects: names and bytes of what the store has, where its shards lie in one.
        manifest: the dataset's, where it has been read; None: it is read.

    Raises:
        InputError: there is no dataset, one that was built before utterances had fingerprints, or a file of it is
            missing or is not as dataset.json says.
    """
    if manifest is None:
        manifest = read_manifest(folder)
    mend = "run sharding/verify.py --repair, then extend"
    if objects is not None:
        mend = "upload it again as it was built; sharding/verify.py tells what else is wrong"
    sizes: dict[str, int | None] = {}
    for name, split in manifest.splits.items():
        for shard in split.shards:
            sizes[f"{name}/{shard.name}"] = shard.bytes
            sizes[index_path(f"{name}/{shard.name}")] = None
    for path, size in sizes.items():
        found = _size(folder / path) if objects is None else objects.get(path)
        _require(found is not None and size in (None, found), folder / path, mend)
    for path, digest in manifest.beside.items():
        _require((folder / path).is_file() and sha256_of(folder / path) == digest, folder / path, mend)
    for path in manifest.tables:
        if "source_xxh3" not in read_schema(folder / path).names:
            raise InputError(
                f"{folder / path}: says nothing of its sources' files, an earlier version built it: build the dataset "
                "again"
            )
    return ExistingDataset(folder=folder, manifest=manifest)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _require(holds: bool, path: Path, mend: str) -> None:
    if not holds:
        raise InputError(f"{path}: is not as {MANIFEST} says: {mend}")


def same_statement(stated: Mapping[str, Any], name: str, value: Any) -> bool:
    """Whether the catalog says the same of an utterance as its corpus; the catalog's numbers may be of single width."""
    known = stated[name]
    if isinstance(value, float) and isinstance(known, float):
        return bool(np.float32(value) == np.float32(known)) or (value != value and known != known)
    return bool(known == value)

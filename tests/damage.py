"""What happens to files on real disks, done to a dataset on purpose."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from loaders.dataset.manifest import CATALOG, read_manifest, write_manifest


def copy_of(dataset: Path, folder: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(dataset, folder))


def shard_of(dataset: Path, split: str, row: int) -> Path:
    """The tar in which a clip lies."""
    number: int = pq.read_table(dataset / split / CATALOG, columns=["shard"])["shard"][row].as_py()
    return dataset / split / read_manifest(dataset).splits[split].shards[number].name


def flip_byte(dataset: Path, split: str, row: int, member: str = "filmstrip", at: float = 0.5) -> None:
    """Change one byte of a clip's member: the first where ``at`` is 0, the last where it is 1."""
    extent = pq.read_table(dataset / split / CATALOG).slice(row, 1).to_pylist()[0]
    with shard_of(dataset, split, row).open("r+b") as file:
        file.seek(extent[f"{member}_offset"] + round(at * (extent[f"{member}_size"] - 1)))
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 0x40]))


def edit_catalog(dataset: Path, split: str, change: Callable[[pa.Table], pa.Table] = lambda table: table) -> None:
    """A catalog that is wrong from the beginning: its SHA-256 is right."""
    path = dataset / split / CATALOG
    pq.write_table(change(pq.read_table(path)), path)
    declare_catalog(dataset, split)


def declare_catalog(dataset: Path, split: str) -> None:
    """Have dataset.json say of a split's catalog what is there now."""
    manifest = read_manifest(dataset)
    sha256 = hashlib.sha256((dataset / split / CATALOG).read_bytes()).hexdigest()
    entry = replace(manifest.splits[split], catalog_sha256=sha256)
    write_manifest(dataset, replace(manifest, splits={**manifest.splits, split: entry}))

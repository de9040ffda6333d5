"""What happens to files on real disks, done to a dataset on purpose."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq

from loaders.dataset import CATALOG, read_manifest


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

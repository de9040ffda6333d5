"""The files of a dataset, each of them whole or absent.

A shard is written beside its place and renamed; then its receipt is: its part of the catalog, with what else is known
of it, in ``.build/``. When every shard has its receipt, they become the catalogs and, last of all, dataset.json.
"""

import hashlib
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from loaders.dataset.catalog import schema
from loaders.dataset.columns import CATALOGUED, member_columns, values, with_labels
from loaders.dataset.labels import Label
from loaders.dataset.manifest import Member, MemberMoments
from loaders.dataset.tables import read_schema
from loaders.storage.atomic import atomic_write
from sharding.utterance import Utterance

if TYPE_CHECKING:
    from sharding.packing.clips import EncodedClip

WORK_FOLDER = ".build"
LENGTHS = "lengths.jsonl"  #: in the work folder, see `sharding.packing.survey`
INDEX_VERSION = "v1.2"  # of DALI's webdataset index, as its tool wds2idx writes it


class ShardWriter:
    """Writes the clips of one shard, and keeps their part of the catalog."""

    def __init__(self, file: BinaryIO, members: Sequence[Member], labels: Sequence[Label]) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._members = members
        self._columns = with_labels(CATALOGUED, labels)
        self._schema = schema(members, labels)
        self._rows: list[dict[str, Any]] = []
        self._index: list[str] = []

    def add(self, utterance: Utterance, clip: "EncodedClip") -> None:
        """Append a clip."""
        of_clip = {"key": clip.key, "shard": 0, "start": clip.start, "padded": clip.padded}
        row = values(self._columns, utterance, utterance.labels, of_clip)
        components = []
        for member in self._members:
            data = clip.members.get(member.name)
            if data is None:
                continue
            name = f"{clip.key}.{member.suffix}"
            header = tarfile.TarInfo(name)  # its defaults: no owner, no date, mode 644
            header.size = len(data)
            self._write(header.tobuf(tarfile.GNU_FORMAT))
            offset = self._size
            self._write(data)
            self._write(bytes(-len(data) % tarfile.BLOCKSIZE))
            extent = (offset, len(data), xxhash.xxh3_64_intdigest(data))
            row |= zip(member_columns(member.name), extent, strict=True)
            components.append(f"{member.suffix} {offset} {len(data)} {name}")
        self._rows.append(row)
        self._index.append(" ".join(components))

    def close(self) -> "WrittenShard":
        """Finish the tar."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self._size % tarfile.RECORDSIZE))
        index = "\n".join([f"{INDEX_VERSION} {len(self._index)}", *self._index]) + "\n"
        return WrittenShard(
            rows=pa.Table.from_pylist(self._rows, schema=self._schema),
            index=index,
            bytes=self._size,
            sha256=self._sha256.hexdigest(),
        )

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self._size += len(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenShard:
    """What is known of a shard when its tar is finished."""

    rows: pa.Table  #: its part of the catalog
    index: str  #: DALI's
    bytes: int
    sha256: str


class Moments:
    """Number, mean and squared deviations of vectors, one at a time and joined.

    Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances" (1979).
    """

    def __init__(self, length: int) -> None:
        self.count = 0
        self.mean = np.zeros(length)
        self.squares = np.zeros(length)

    def add(self, count: int, mean: NDArray[np.float64], squares: NDArray[np.float64]) -> None:
        """Join the moments of ``count`` further vectors."""
        if count == 0:
            return
        total = self.count + count
        delta = mean - self.mean
        self.mean = self.mean + delta * (count / total)
        self.squares = self.squares + squares + delta**2 * (self.count * count / total)
        self.count = total

    def add_one(self, vector: NDArray[np.generic]) -> None:
        """Join one more vector; an array is taken row by row."""
        self.add(1, vector.astype(np.float64).reshape(-1), np.zeros(self.mean.shape))

    def stated(self) -> MemberMoments:
        """As dataset.json has them."""
        return MemberMoments(count=self.count, mean=tuple(self.mean.tolist()), std=tuple(self.deviation().tolist()))

    @classmethod
    def of(cls, stated: MemberMoments) -> "Moments":
        """Those that dataset.json states."""
        moments = cls(len(stated.mean))
        moments.add(stated.count, np.array(stated.mean), np.square(stated.std) * stated.count)
        return moments

    def as_data(self) -> dict[str, Any]:
        """For a receipt."""
        return {"count": self.count, "mean": self.mean.tolist(), "squares": self.squares.tolist()}

    def add_data(self, data: Mapping[str, Any]) -> None:
        """Join what `as_data` gave."""
        self.add(data["count"], np.array(data["mean"]), np.array(data["squares"]))

    def deviation(self) -> NDArray[np.float64]:
        """Standard deviation over all vectors."""
        return np.sqrt(self.squares / max(self.count, 1))


def receipt_name(split: str, stem: str) -> str:
    """Where a shard's receipt lies while its dataset is being built, from the dataset's folder."""
    return f"{WORK_FOLDER}/{split}-{stem}.parquet"


def write_receipt(path: Path, rows: pa.Table, facts: Mapping[str, Any]) -> None:
    """A shard's receipt: its rows of the catalog, and what else is known of it, as JSON in the file's metadata."""
    table = rows.replace_schema_metadata({"filmstrip": json.dumps(facts)})
    with atomic_write(path) as file:
        pq.write_table(table, file)


def read_receipt(path: Path) -> dict[str, Any]:
    """What a receipt says of its shard, beside the rows."""
    facts: dict[str, Any] = json.loads(read_schema(path).metadata[b"filmstrip"])
    return facts

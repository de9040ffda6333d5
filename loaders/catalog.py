"""The table of a split's clips: where each one's bytes lie, and whose they are.

``clips.parquet`` has a row a clip, in the order of the shards, with the columns of `schema`. What the loader needs of
it is read into one array a column: about 90 bytes a clip, strings left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from loaders.dataset import CATALOG, Manifest, Member, read_manifest, require_split
from loaders.errors import InputError

_NAME = pa.dictionary(pa.int32(), pa.string())


def schema(members: Sequence[Member]) -> pa.Schema:
    """The columns of ``clips.parquet`` for a dataset of these members."""
    columns: list[tuple[str, Any]] = [
        ("key", pa.string()),
        ("shard", pa.int32()),  # number of the tar in dataset.json's list
        ("speaker", _NAME),
        ("video", _NAME),
        ("utterance", _NAME),
        ("start", pa.float64()),  # seconds from the start of the utterance
        ("padded", pa.float32()),  # seconds of last frame and silence at the end
        ("emotion", pa.int8()),  # dataset.EMOTIONS, -1 where there is none
        ("arousal", pa.float32()),
        ("valence", pa.float32()),
        ("gender", _NAME),  # of the speaker; null where the corpus does not tell
        ("nationality", _NAME),
        ("source_xxh3", pa.uint64()),  # of the source's files, see `sharding.corpora.fingerprint`
    ]
    for member in members:
        columns += [
            (f"{member.name}_offset", pa.int64()),  # of the member's first byte in the tar
            (f"{member.name}_size", pa.int64()),  # bytes
            (f"{member.name}_xxh3", pa.uint64()),  # XXH3-64 of the member's bytes
        ]
    return pa.schema(columns)


@dataclass(frozen=True, slots=True)
class Extent:
    """Where one member's bytes lie, for every clip: one array a column. A size of 0 means that the clip has none."""

    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    xxh3: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Catalog:
    """One split's clips. Every array has one entry a clip."""

    folder: Path  #: of the split
    manifest: Manifest
    split: str
    shard: NDArray[np.int32]
    speaker: NDArray[np.int32]  #: equal numbers, equal speakers
    video: NDArray[np.int32]
    utterance: NDArray[np.int32]
    start: NDArray[np.float64]
    emotion: NDArray[np.int8]
    members: Mapping[str, Extent]

    def __len__(self) -> int:
        return len(self.shard)

    @property
    def shard_clips(self) -> NDArray[np.int64]:
        """Clips in each shard, (S,)."""
        return np.bincount(self.shard, minlength=len(self.manifest.splits[self.split].shards)).astype(np.int64)

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Columns of clips.parquet as they are, strings too."""
        return pq.read_table(self.folder / CATALOG, columns=list(columns))


def open_catalog(dataset: Path, split: str, members: Sequence[str]) -> Catalog:
    """Read a split's catalog, with the extents of the named members.

    Raises:
        InputError: no such dataset, split or member, or a catalog that is not the manifest's.
    """
    manifest = read_manifest(dataset)
    entry = require_split(manifest, split, dataset)
    for name in members:
        if manifest.member(name) is None:
            have = ", ".join(member.name for member in manifest.members)
            raise InputError(f"{dataset}: its clips have no {name!r}, only {have}: build it again with that member")
    path = dataset / split / CATALOG
    columns = ["shard", "speaker", "video", "utterance", "start", "emotion"]
    columns += [f"{name}_{part}" for name in members for part in ("offset", "size", "xxh3")]
    try:
        table = pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"{path}: cannot be read as a catalog ({str(error).splitlines()[0]}): run sharding/verify.py"
        ) from error
    if len(table) != entry.clips:
        raise InputError(f"{path}: {len(table)} clips where dataset.json counts {entry.clips}: build the split again")
    return Catalog(
        folder=dataset / split,
        manifest=manifest,
        split=split,
        shard=_numbers(table["shard"]),
        speaker=_codes(table["speaker"]),
        video=_codes(table["video"]),
        utterance=_codes(table["utterance"]),
        start=_numbers(table["start"]),
        emotion=_numbers(table["emotion"]),
        members={name: _extent(table, name) for name in members},
    )


def _extent(table: pa.Table, name: str) -> Extent:
    return Extent(*(_numbers(table[f"{name}_{part}"]) for part in ("offset", "size", "xxh3")))


def _numbers(column: pa.ChunkedArray) -> NDArray[Any]:
    filled = pc.fill_null(column, 0) if column.null_count else column
    array: NDArray[Any] = filled.to_numpy()
    return array


def _codes(column: pa.ChunkedArray) -> NDArray[np.int32]:
    codes = column.unify_dictionaries().combine_chunks()
    array: NDArray[np.int32] = codes.indices.to_numpy()
    return array

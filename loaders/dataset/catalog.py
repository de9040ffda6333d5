"""The table of a split's clips: where each one's bytes lie, and whose they are.

``clips.parquet`` has a row a clip, in the order of the shards, with the columns of `loaders.dataset.columns`. What the
loader needs of it is read into one array a column: about 75 bytes a clip, strings left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from loaders.dataset.columns import CATALOGUED, member_columns, with_labels
from loaders.dataset.labels import Label
from loaders.dataset.manifest import CATALOG, VIDEO_NAMES, Manifest, Member, read_manifest, require_split
from loaders.dataset.numbering import numbered
from loaders.dataset.tables import opened, read_table
from loaders.errors import InputError, first_line


def schema(members: Sequence[Member], labels: Sequence[Label]) -> pa.Schema:
    """The columns of ``clips.parquet`` for a dataset of these members and labels."""
    columns = [(column.name, column.type) for column in with_labels(CATALOGUED, labels)]
    for member in members:
        columns += member_columns(member.name).items()
    return pa.schema(columns)


@dataclass(frozen=True, slots=True)
class Extent:
    """Where one member's bytes lie, for every clip: one array a column. A size of 0 means that the clip has none."""

    # 32 bits where they suffice: these are most of a catalog.
    offset: NDArray[np.integer[Any]]
    size: NDArray[np.integer[Any]]
    xxh3: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Catalog:
    """One split's clips. Every array has one entry a clip."""

    folder: Path  #: of the split
    manifest: Manifest
    split: str
    shard: NDArray[np.int32]
    speaker: NDArray[np.int32]  #: equal numbers, equal speakers
    video: NDArray[np.int32]  #: equal numbers, equal videos: of one name, and of one speaker where the manifest says so
    utterance: NDArray[np.int32]  #: equal numbers, equal names: `utterances` tells which are the same
    start: NDArray[np.float64]
    members: Mapping[str, Extent]
    targets: Mapping[str, NDArray[Any]]
    """Of each label asked for: places in `Label.classes`, -1 where nothing is stated, in int16, or in int32 where there
    are more; or float32, NaN there."""
    rows: NDArray[np.int64] | None = None  #: of clips.parquet that these clips are, rising; None: all

    def __len__(self) -> int:
        return len(self.shard)

    @property
    def shard_clips(self) -> NDArray[np.int64]:
        """Clips in each shard, (S,)."""
        return np.bincount(self.shard, minlength=len(self.manifest.splits[self.split].shards)).astype(np.int64)

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Columns of clips.parquet as they are, strings too, a row a clip.

        Raises:
            InputError: it is no longer the one that dataset.json declares.
        """
        table = read_table(self.folder / CATALOG, columns, sha256=self.manifest.splits[self.split].catalog_sha256)
        return table if self.rows is None else table.take(self.rows)

    def of_rows(self, rows: NDArray[np.int64]) -> "Catalog":
        """Some of the clips. The split's shards are numbered as before; some may have no clips left.

        Args:
            rows: (k,) of this catalog, rising.
        """
        return replace(
            self,
            shard=self.shard[rows],
            speaker=self.speaker[rows],
            video=self.video[rows],
            utterance=self.utterance[rows],
            start=self.start[rows],
            members={
                name: Extent(extent.offset[rows], extent.size[rows], extent.xxh3[rows])
                for name, extent in self.members.items()
            },
            targets={name: values[rows] for name, values in self.targets.items()},
            rows=rows if self.rows is None else self.rows[rows],
        )


def open_catalog(
    dataset: Path, split: str, members: Sequence[str], manifest: Manifest | None = None, labels: Sequence[str] = ()
) -> Catalog:
    """Read a split's catalog, with the extents of the named members and what is stated of the named labels.

    What is used is what was checked: the file's SHA-256 is compared before anything is read of it.

    Args:
        dataset: its folder.
        split: of it.
        members: whose extents are wanted.
        manifest: the dataset's, where it has been read; None: it is read.
        labels: whose values are wanted.

    Raises:
        InputError: no such dataset, split, member or label, or a catalog that is not the manifest's.
    """
    if manifest is None:
        manifest = read_manifest(dataset)
    entry = require_split(manifest, split, dataset)
    for name in members:
        if manifest.member(name) is None:
            have = ", ".join(member.name for member in manifest.members)
            raise InputError(f"{dataset}: its clips have no {name!r}, only {have}: build it again with that member")
    declared = [_label(manifest, name, dataset) for name in labels]
    path = dataset / split / CATALOG
    try:
        with opened(path, entry.catalog_sha256) as checked, pq.ParquetFile(checked, pre_buffer=False) as file:
            columns = _Columns(file, path)
            if len(columns) != entry.clips:
                raise InputError(
                    f"{path}: {len(columns)} clips where dataset.json counts {entry.clips}: build the split again"
                )
            _require_types(file.schema_arrow, schema(manifest.members, manifest.labels), path)
            speaker, video = columns.codes("speaker"), columns.codes("video")
            if VIDEO_NAMES[manifest.video_names] != ("video",):
                video = numbered(video, speaker)
            catalog = Catalog(
                folder=dataset / split,
                manifest=manifest,
                split=split,
                shard=columns.numbers("shard"),
                speaker=speaker,
                video=video,
                utterance=columns.codes("utterance"),
                start=columns.numbers("start"),
                members={
                    name: Extent(
                        offset=columns.narrow(f"{name}_offset"),
                        size=columns.narrow(f"{name}_size"),
                        xxh3=columns.numbers(f"{name}_xxh3"),
                    )
                    for name in members
                },
                targets={label.name: columns.target(label) for label in declared},
            )
            _require_within_shards(catalog, path)
            return catalog
    except PermissionError as error:
        raise InputError(path, str(error.strerror), "make it readable") from error
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        why = f"cannot be read as a catalog ({first_line(error)})"
        raise InputError(path, why, "run sharding/verify.py") from error
    finally:
        pa.default_memory_pool().release_unused()


def utterances(catalog: Catalog) -> NDArray[np.int32]:
    """Which utterance each clip is of: equal numbers, equal utterances. An utterance's name is one within its speaker's
    part of a video."""
    return numbered(catalog.video, catalog.speaker, catalog.utterance)


def _label(manifest: Manifest, name: str, dataset: Path) -> Label:
    label = manifest.label(name)
    if label is None:
        have = ", ".join(label.name for label in manifest.labels) or "none"
        raise InputError(f"{dataset}: its clips have no label {name!r}, only {have}: build it again with that label")
    return label


def _require_types(found: pa.Schema, declared: pa.Schema, path: Path) -> None:
    """Raise InputError where a column is of another type than it is written in."""
    for field in declared:
        place = found.get_field_index(field.name)
        if place >= 0 and found.field(place).type != field.type:
            kind = found.field(place).type
            raise InputError(f"{path}: column {field.name!r} is of type {kind}, not {field.type}: build it again")


def _require_within_shards(catalog: Catalog, path: Path) -> None:
    """Raise InputError where a member would lie outside its shard: memory is lent by what a catalog says of it."""
    ends = np.array([shard.bytes for shard in catalog.manifest.splits[catalog.split].shards], np.int64)
    wrong = (catalog.shard < 0) | (catalog.shard >= len(ends))
    if not wrong.any():
        ends = ends[catalog.shard]
        for extent in catalog.members.values():
            # Each by itself first: their sum may be more than 64 bits hold.
            wrong |= (extent.offset < 0) | (extent.size < 0) | (extent.offset > ends)
            wrong |= extent.size > ends - np.minimum(extent.offset, ends)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(f"{path}: what row {row} says of its members lies outside its shard: build the split again")


class _Columns:
    """The columns of a catalog, read one at a time: the whole table beside its arrays would take twice the memory.

    Arrays are copies of Arrow's, so that its pool of memory, of which they would hold pages here and there, can be let
    go of as a whole.
    """

    def __init__(self, file: pq.ParquetFile, name: Path) -> None:
        self._file = file
        self._name = name

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def _read(self, name: str) -> pa.ChunkedArray:
        # In one thread: there is one column to decode, and each thread would keep memory of its own.
        return self._file.read([name], use_threads=False)[name]

    def numbers(self, name: str) -> NDArray[Any]:
        """As they are; 0 where there is none."""
        column = self._read(name)
        filled = pc.fill_null(column, 0) if column.null_count else column
        return np.array(filled.to_numpy())

    def narrow(self, name: str) -> NDArray[np.integer[Any]]:
        """Whole numbers that are not negative, in as many bits as they need."""
        array = self.numbers(name)
        fits = len(array) and array.min() >= 0 and array.max() < 1 << 32
        return array.astype(np.uint32) if fits else array

    def target(self, label: Label) -> NDArray[Any]:
        """What is stated of a label, see `Catalog.targets`. Raises InputError of a class that is not declared."""
        column = self._read(label.name)
        if label.classes is None:
            numbers: NDArray[np.float32] = np.array(pc.fill_null(column, np.nan).to_numpy(), np.float32)
            return numbers
        places = {name: place for place, name in enumerate(label.classes)}
        known = column.unify_dictionaries().combine_chunks()
        names = known.dictionary.to_pylist()
        # The last stands for null, which has no place in the dictionary.
        kind = np.int16 if len(places) <= 1 << 15 else np.int32
        codes = np.array([*(places.get(name, -2) for name in names), -1], kind)
        found: NDArray[np.integer[Any]] = codes[pc.fill_null(known.indices, len(names)).to_numpy()]
        if (found == -2).any():
            unknown = sorted({names[i] for i in np.unique(known.indices.drop_null().to_numpy()) if codes[i] == -2})
            raise InputError(
                f"{self._name}: has the {label.name} {unknown[0]!r}, which is none of {', '.join(label.classes)}: "
                "run sharding/verify.py"
            )
        return found

    def codes(self, name: str) -> NDArray[np.int32]:
        """Equal numbers, equal names."""
        codes = self._read(name).unify_dictionaries().combine_chunks()
        return np.array(codes.indices.to_numpy())


def catalog_rows(folder: Path, first: int, count: int) -> pa.Table:
    """What a split's catalog says of one shard."""
    rows = _slice(folder / CATALOG, first, count)
    for index, column in enumerate(rows.schema):
        if pa.types.is_dictionary(column.type):
            # With the names of these rows alone, as if the shard were the only one.
            names = rows[index].cast(pa.string()).combine_chunks().dictionary_encode()
            rows = rows.set_column(index, column, pa.chunked_array([names]))
    return rows


def _slice(path: Path, first: int, count: int) -> pa.Table:
    """Rows of a parquet file, without reading much of the others."""
    with opened(path) as source, pq.ParquetFile(source) as file:
        parts = [file.schema_arrow.empty_table()]
        start = 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            low, high = max(first, start), min(first + count, end)
            if low < high:
                parts.append(file.read_row_group(group).slice(low - start, high - low))
            start = end
        return pa.concat_tables(parts)

"""The receipts of all shards become the catalogs, the table of the rejected, and dataset.json."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from loaders.dataset.about import About
from loaders.dataset.catalog import schema
from loaders.dataset.labels import Label
from loaders.dataset.manifest import (
    CATALOG,
    GAZE_STATISTICS,
    REJECTED,
    Manifest,
    Shard,
    Split,
    naming_columns,
    write_manifest,
)
from loaders.dataset.tables import read_table
from loaders.errors import InputError
from loaders.storage.atomic import atomic_write, sha256_of
from sharding.cards.documents import write_documents
from sharding.corpora.duplicates import Alike, alike, sources_of
from sharding.members.declared import members_of, with_moments
from sharding.packing.existing import ExistingDataset
from sharding.packing.faceless import TAKE_CENTRE, is_faceless
from sharding.packing.names import distinct, share_video_names
from sharding.packing.plan import ShardJob
from sharding.packing.shard import receipt_path
from sharding.packing.writer import Moments, read_receipt
from sharding.settings import BuildSettings
from sharding.utterance import Apart, Rejection, VideoNames

ROW_GROUP = 1 << 14  #: rows of a catalog that can be read without the rest: a few shards'
_REJECTED_SCHEMA = pa.schema(
    [(field.name, pa.uint64() if field.name == "source_xxh3" else pa.string()) for field in fields(Rejection)]
)


class NothingBuiltError(InputError):
    """Every utterance was rejected: there is nothing to make a dataset of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacks:
    """What the utterances that are in the dataset lack, by reason, and which may be copies of others."""

    clips: Counter[str] = field(default_factory=Counter)  #: clips left out of them
    members: dict[str, Counter[str]] = field(default_factory=dict)  #: clips without a member, by its name
    splits: dict[str, Counter[str]] = field(default_factory=dict)  #: without any clip: why its utterances have none
    alike: Alike = field(default_factory=Alike)
    cut_short: int = 0  #: utterances whose stated end lies beyond their film's
    cut_short_first: str | None = None  #: a line for a person, of the first
    rejected_first: dict[str, str] = field(default_factory=dict)  #: a line for a person, by reason


def finish_dataset(
    output: Path,
    corpus: str,
    jobs: Sequence[ShardJob],
    settings: BuildSettings,
    rejected: Sequence[Rejection] = (),
    *,
    labels: tuple[Label, ...] = (),
    apart: Apart = "speaker",
    video_names: VideoNames = "speaker",
    existing: ExistingDataset | None = None,
    about: About | None = None,
    parts_digest: str | None = None,
) -> tuple[Manifest, Lacks]:
    """Write what a dataset has beside its shards, dataset.json last.

    Args:
        output: the dataset's folder.
        corpus: its name.
        jobs: all of them; each has its receipt.
        settings: of the build.
        rejected: what the corpus' reader rejected already.
        labels: of the dataset.
        apart: what the splits promise not to share.
        video_names: of the corpus. dataset.json says "speaker" only where two speakers do have videos of one name.
        existing: the dataset that this one extends: its shards come first.
        about: what its owner says of it; what is not given here, an existing dataset's stays.
        parts_digest: see `sharding.packing.parts`; of all utterances, an existing dataset's among them.

    Returns:
        The manifest, and what the clips lack.

    Raises:
        NothingBuiltError: no utterance gave a clip.
        InputError: a file that no build has made lies where the dataset's card would.
    """
    members = members_of(settings)
    columns = schema(members, labels)
    splits: dict[str, Split] = {}
    catalogs: list[pa.Table] = []
    rows: list[dict[str, Any]] = existing.rejected() if existing else []
    rows += [asdict(rejection) for rejection in rejected]
    lacks = Lacks()
    cut_short, cut_short_first = 0, None
    sources: list[pa.Table] = []
    gaze = existing.gaze() if existing else Moments(GAZE_STATISTICS)
    measured = {member.name: Moments(math.prod(member.shape)) for member in with_moments(settings)}
    if existing:
        measured |= {name: Moments.of(stated) for name, stated in existing.manifest.moments.items()}
    for split in sorted({*(existing.manifest.splits if existing else ()), *(job.split for job in jobs)}):
        shards: list[Shard] = existing.shards(split) if existing else []
        parts: list[pa.Table] = existing.parts(split) if existing else []
        for job in (job for job in jobs if job.split == split):
            path = receipt_path(job.output, split, job.stem)
            facts = read_receipt(path)
            rows += facts["rejected"]
            lacks.clips.update(facts["left_out"])
            for name, problems in facts["lacking"].items():
                lacks.members.setdefault(name, Counter()).update(problems)
            cut = facts.get("cut_short", {"count": 0, "first": []})  # a receipt of an earlier version has not got it
            cut_short, cut_short_first = cut_short + cut["count"], cut_short_first or next(iter(cut["first"]), None)
            if split == "train":
                gaze.add_data(facts["gaze"])
                for name, moments in measured.items():
                    moments.add_data(facts["moments"][name])
            if facts["clips"]:
                parts.append(read_table(path).replace_schema_metadata(None))
                shards.append(
                    Shard(
                        name=f"{job.stem}.tar",
                        clips=facts["clips"],
                        bytes=facts["bytes"],
                        sha256=facts["sha256"],
                        index_sha256=facts["index_sha256"],
                    )
                )
        splits[split] = finish_split(output / split, shards, parts, columns, video_names)
        catalogs += [distinct(part, ("speaker", "video")) for part in parts]
        sources += [sources_of(part, split) for part in parts]
    reasons = dict(sorted(Counter(row["reason"] for row in rows).items()))
    if not any(split.clips for split in splits.values()):
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        mend = "give other sources or settings"
        if is_faceless(reasons, len(rows)):
            mend = f"build with {TAKE_CENTRE}, or {mend}"
        raise NothingBuiltError(
            f"{output}: no clip came of {len(rows)} utterances ({counts}; the first: {_line(rows[0])}): {mend}"
        )
    for row in rows:
        split = row["split"]
        if split and (split not in splits or not splits[split].clips):
            lacks.splits.setdefault(split, Counter())[row["reason"]] += 1
    manifest = Manifest(
        corpus=corpus,
        clip=settings.clip,
        members=members,
        labels=labels,
        apart=apart,
        splits=splits,
        gaze_mean=tuple(gaze.mean.tolist()) if gaze.count else None,
        gaze_std=tuple(gaze.deviation().tolist()) if gaze.count else None,
        rejected=reasons,
        rejected_sha256=write_rejected(output, rows),
        settings=json.loads(json.dumps(asdict(settings))),  # as it will be read
        video_names=video_names if share_video_names(catalogs) else "corpus",
        documents=existing.manifest.documents if existing else {},
        about=(existing.manifest.about if existing else About()).replaced_by(about or About()),
        moments={name: moments.stated() for name, moments in measured.items()},
        parts_sha256=parts_digest,
    )
    manifest = replace(manifest, documents=write_documents(output, manifest))
    write_manifest(output, manifest)
    lacks = replace(
        lacks,
        alike=alike(sources),
        cut_short=cut_short,
        cut_short_first=cut_short_first,
        rejected_first={row["reason"]: _line(row) for row in reversed(rows)},
    )
    return manifest, lacks


def _line(rejected: Mapping[str, Any]) -> str:
    """A rejected utterance in a line: its file, and why where that is not the file again."""
    path, detail = rejected["path"], rejected["detail"]
    return path if detail in ("", path) else f"{path}: {detail}"


def finish_split(
    folder: Path, shards: Sequence[Shard], parts: Sequence[pa.Table], columns: pa.Schema, video_names: str
) -> Split:
    """Write a split's catalog.

    Args:
        folder: of the split.
        shards: of the split, in order.
        parts: the rows of each shard; their column "shard" is numbered here.
        columns: of a catalog without a row.
        video_names: which names are of one video, see `loaders.dataset.manifest.VIDEO_NAMES`.
    """
    numbered = []
    for number, rows in enumerate(parts):
        column = pa.array(np.full(len(rows), number, np.int32))
        numbered.append(rows.set_column(rows.schema.get_field_index("shard"), "shard", column))
    catalog = pa.concat_tables(numbered) if numbered else columns.empty_table()
    return Split(
        clips=len(catalog),
        speakers=len(distinct(catalog, ("speaker",))),
        videos=len(distinct(catalog, naming_columns("video", video_names))),
        catalog_sha256=_write_table(folder / CATALOG, catalog.unify_dictionaries()),
        shards=tuple(shards),
    )


def write_rejected(output: Path, rejected: Sequence[Mapping[str, Any]]) -> str:
    """Write the table of the rejected (rows with `Rejection`'s fields); returns its SHA-256."""
    return _write_table(output / REJECTED, pa.Table.from_pylist(rejected, schema=_REJECTED_SCHEMA))


def _write_table(path: Path, table: pa.Table) -> str:
    with atomic_write(path) as file, pq.ParquetWriter(file, table.schema) as writer:
        write_rows(writer, table)
    return sha256_of(path)


def write_rows(writer: pq.ParquetWriter, table: pa.Table) -> None:
    """Write a table's rows, each row group with a dictionary of the names that occur in it.

    Arrow writes a column's whole dictionary into every row group: with all names in one, a catalog would grow with the
    square of its clips.
    """
    for start in range(0, max(len(table), 1), ROW_GROUP):
        rows = table.slice(start, ROW_GROUP)
        columns = [
            column.cast(column.type.value_type).dictionary_encode() if pa.types.is_dictionary(column.type) else column
            for column in rows.columns
        ]
        writer.write_table(pa.table(columns, schema=rows.schema), row_group_size=ROW_GROUP)

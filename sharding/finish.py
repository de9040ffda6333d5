"""The receipts of all shards become the catalogs, the table of the rejected, and dataset.json."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loaders.catalog import schema
from loaders.dataset import CATALOG, REJECTED, Manifest, Shard, Split, write_manifest
from loaders.errors import InputError
from sharding.plan import ShardJob
from sharding.settings import BuildSettings, Rejection
from sharding.shard import receipt_path
from sharding.writer import Moments, read_receipt, whole_or_absent

_REJECTED_SCHEMA = pa.schema([(field.name, pa.string()) for field in fields(Rejection)])


class NothingBuiltError(InputError):
    """Every utterance was rejected: there is nothing to make a dataset of."""


def finish_dataset(
    output: Path, corpus: str, jobs: Sequence[ShardJob], settings: BuildSettings
) -> tuple[Manifest, Counter[str]]:
    """Write what a dataset has beside its shards, dataset.json last.

    Args:
        output: the dataset's folder, where every job has its receipt.
        corpus: its name.
        jobs: all of them.
        settings: of the build.

    Returns:
        The manifest, and how many utterances have no gaze, by reason.

    Raises:
        NothingBuiltError: no utterance gave a clip.
    """
    splits: dict[str, Split] = {}
    rejected: list[dict[str, Any]] = []
    gaze_problems: Counter[str] = Counter()
    gaze = Moments(103)
    for split in sorted({job.split for job in jobs}):
        shards: list[Shard] = []
        parts: list[pa.Table] = []
        for job in (job for job in jobs if job.split == split):
            path = receipt_path(output, split, job.stem)
            facts = read_receipt(path)
            rejected += facts["rejected"]
            gaze_problems.update(facts["gaze_problems"])
            if split == "train":
                part = facts["gaze"]
                gaze.add(part["count"], np.array(part["mean"]), np.array(part["squares"]))
            if facts["clips"]:
                rows = pq.read_table(path).replace_schema_metadata(None)
                number = pa.array(np.full(len(rows), len(shards), np.int32))
                parts.append(rows.set_column(rows.schema.get_field_index("shard"), "shard", number))
                name = f"{job.stem}.tar"
                shards.append(Shard(name=name, clips=facts["clips"], bytes=facts["bytes"], sha256=facts["sha256"]))
        catalog = pa.concat_tables(parts) if parts else schema(settings.members).empty_table()
        catalog = catalog.unify_dictionaries()
        with whole_or_absent(output / split / CATALOG) as file:
            pq.write_table(catalog, file)
        splits[split] = Split(
            clips=len(catalog),
            speakers=pc.count_distinct(catalog["speaker"].cast(pa.string())).as_py(),
            videos=pc.count_distinct(catalog["video"].cast(pa.string())).as_py(),
            shards=tuple(shards),
        )
    reasons = dict(sorted(Counter(row["reason"] for row in rejected).items()))
    if not any(split.clips for split in splits.values()):
        raise NothingBuiltError(
            f"{output}: no clip came of {len(rejected)} utterances ({', '.join(f'{n} {r}' for r, n in reasons.items())}; "
            f"the first: {rejected[0]['path']}: {rejected[0]['detail']}): give other sources or settings"
        )
    with whole_or_absent(output / REJECTED) as file:
        pq.write_table(pa.Table.from_pylist(rejected, schema=_REJECTED_SCHEMA), file)
    manifest = Manifest(
        corpus=corpus,
        clip=settings.clip,
        members=settings.members,
        splits=splits,
        gaze_mean=tuple(gaze.mean.tolist()) if gaze.count else None,
        gaze_std=tuple(gaze.deviation().tolist()) if gaze.count else None,
        rejected=reasons,
        settings=asdict(settings),
    )
    write_manifest(output, manifest)
    return manifest, gaze_problems

"""A dataset serves who never heard of us: tar, WebDataset, DALI's own reader and DuckDB agree with the catalog."""

import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset

from loaders.dataset.manifest import CATALOG, read_manifest

dali = pytest.importorskip("nvidia.dali", reason="DALI is not installed: the extra cuda13")
fn, pipeline_def = dali.fn, dali.pipeline_def

SPLITS = ("train", "test")


def rows_of(dataset: Path, split: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(dataset / split / CATALOG).to_pylist()
    assert len({row["key"] for row in rows}) == len(rows) > 10
    return rows


def tars_of(dataset: Path, split: str) -> list[str]:
    return [str(dataset / split / shard.name) for shard in read_manifest(dataset).splits[split].shards]


@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not installed")
@pytest.mark.parametrize("split", SPLITS)
def test_tar_lists_the_catalogs_members_in_its_order(dataset: Path, split: str) -> None:
    rows, members = rows_of(dataset, split), read_manifest(dataset).members
    for number, tar in enumerate(tars_of(dataset, split)):
        listed = subprocess.run(["tar", "tf", tar], capture_output=True, text=True, check=True).stdout.splitlines()
        assert listed == [
            f"{row['key']}.{member.suffix}"
            for row in rows
            if row["shard"] == number
            for member in members
            if row[f"{member.name}_size"] is not None
        ]


@pytest.mark.parametrize("split", SPLITS)
def test_a_shuffled_webdataset_yields_every_clip_once(dataset: Path, split: str) -> None:
    keys, tars = [row["key"] for row in rows_of(dataset, split)], tars_of(dataset, split)
    shuffled = [sample["__key__"] for sample in webdataset.WebDataset(tars, shardshuffle=len(tars)).shuffle(1000)]
    assert shuffled != keys
    assert sorted(shuffled) == sorted(keys)


@pipeline_def(batch_size=4, num_threads=1, device_id=None, seed=1)  # type: ignore[untyped-decorator]
def shuffling_reader(tars: list[str]) -> Any:
    return fn.readers.webdataset(  # type: ignore[misc]
        paths=tars,
        index_paths=[tar.removesuffix(".tar") + ".idx" for tar in tars],
        ext=["clip.msg"],
        random_shuffle=True,
        initial_fill=1000,
        name="reader",
    )


@pytest.mark.parametrize("split", SPLITS)
def test_dalis_shuffling_reader_yields_every_clip_once(dataset: Path, split: str) -> None:
    rows = rows_of(dataset, split)
    pipeline = shuffling_reader(tars_of(dataset, split))
    pipeline.build()
    described: list[tuple[Any, ...]] = []
    while len(described) < len(rows):
        (output,) = pipeline.run()
        clips = [msgpack.unpackb(np.array(output.at(index)).tobytes()) for index in range(len(output))]
        described += [(clip["speaker"], clip["video"], clip["utterance"], clip["start"]) for clip in clips]
    found = described[: len(rows)]  # the last batch goes over into the next epoch
    listed = [(row["speaker"], row["video"], row["utterance"], row["start"]) for row in rows]
    assert found != listed
    assert sorted(found) == sorted(listed)


@pytest.mark.parametrize("split", SPLITS)
def test_duckdb_counts_the_classes_in_a_line(dataset: Path, split: str) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    catalog = dataset / split / CATALOG
    counted = duckdb.sql(f"SELECT emotion, count(*) FROM '{catalog}' GROUP BY 1").fetchall()
    rows = rows_of(dataset, split)
    assert dict(counted) == Counter(row["emotion"] for row in rows)
    keys = duckdb.sql(f"SELECT key FROM '{catalog}'").fetchall()
    assert [key for (key,) in keys] == [row["key"] for row in rows]

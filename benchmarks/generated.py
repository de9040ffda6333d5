"""Datasets of any number of clips: a catalog like any other, over shards that are links to one small tar.

What does not depend on the pictures (opening, ordering, pairing, finding the bytes) costs the same as with as many
different clips; the disk holds a few. Speakers, videos and utterances are as many as in VoxCeleb2, relative to the
clips: an utterance has 4 clips, a video 7 utterances, a speaker 25 videos.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgpack
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from loaders.dataset.catalog import schema
from loaders.dataset.manifest import CATALOG, Manifest, Shard, Split, write_manifest
from loaders.storage.atomic import sha256_of
from sharding.media.filmstrip import encode_filmstrip
from sharding.media.waveform import encode_waveform
from sharding.members.declared import members_of
from sharding.packing.clips import EncodedClip
from sharding.packing.finish import ROW_GROUP, write_rejected, write_rows
from sharding.packing.writer import ShardWriter, WrittenShard
from sharding.settings import BuildSettings
from sharding.utterance import Utterance

CLIPS, UTTERANCES, VIDEOS = 4, 7, 25  #: of an utterance, a video, a speaker
_ROWS = 64 * ROW_GROUP  # written at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """What to generate."""

    clips: int
    clips_per_shard: int = 1000
    different: int = 32
    """Clips that are really there; the others share their bytes."""
    size: int = 224
    """Height and width of a frame, pixels."""
    split: str = "train"
    readable: bool = True
    """False: places, sizes and checksums are drawn, as different as those of real clips and as hard to compress."""


def generate_dataset(folder: Path, what: Generated) -> Manifest:
    """Make such a dataset in ``folder``, which must not be there yet."""
    settings = BuildSettings(size=what.size)
    split = folder / what.split
    split.mkdir(parents=True)
    original = split / "000000.tar"
    with original.open("wb") as file:
        written = _write_shard(ShardWriter(file, members_of(settings), ()), settings, what.different)
    shards = -(-what.clips // what.clips_per_shard)
    for number in range(1, shards):
        os.link(original, split / f"{number:06d}.tar")
    with pq.ParquetWriter(split / CATALOG, schema(members_of(settings), ())) as writer:
        for first in range(0, what.clips, _ROWS):
            rows = np.arange(first, min(first + _ROWS, what.clips))
            write_rows(writer, _rows(rows, what, written.rows))
    per_speaker = CLIPS * UTTERANCES * VIDEOS
    manifest = Manifest(
        corpus="generated",
        clip=settings.clip,
        members=members_of(settings),
        labels=(),
        apart="speaker",
        splits={
            what.split: Split(
                clips=what.clips,
                speakers=-(-what.clips // per_speaker),
                videos=-(-what.clips // (CLIPS * UTTERANCES)),
                catalog_sha256=sha256_of(split / CATALOG),
                shards=tuple(
                    Shard(
                        name=f"{number:06d}.tar",
                        clips=min(what.clips_per_shard, what.clips - number * what.clips_per_shard),
                        bytes=written.bytes,
                        sha256=written.sha256,
                        index_sha256="",  # no index lies beside them: they are for this program's own reader
                    )
                    for number in range(shards)
                ),
            )
        },
        gaze_mean=None,
        gaze_std=None,
        rejected={},
        rejected_sha256=write_rejected(folder, []),
        settings={},
        video_names="corpus",
        documents={},
    )
    write_manifest(folder, manifest)
    return manifest


def _write_shard(writer: ShardWriter, settings: BuildSettings, clips: int) -> WrittenShard:
    for number in range(clips):
        name = f"{number:06d}"
        utterance = Utterance(
            corpus="generated", split="", speaker=name, video=name, utterance=name, video_path=Path(name)
        )
        draw = np.random.default_rng(number)
        members: dict[str, bytes] = {
            "filmstrip": encode_filmstrip(_frames(draw, settings), quality=90, subsampling="4:2:0"),
            "audio": encode_waveform(
                draw.integers(-3000, 3000, settings.clip.samples, np.int16),
                sample_rate=settings.clip.sample_rate,
                audio_format=settings.audio_format,
            ),
            "clip": msgpack.packb({"utterance": name}),
        }
        writer.add(
            utterance, EncodedClip(key=name, members=members, start=0.0, padded=0.0, gaze=None, gaze_problem=None)
        )
    return writer.close()


def _frames(draw: np.random.Generator, settings: BuildSettings) -> NDArray[np.uint8]:
    """(T, H, W, 3): shading with grain, about as many bytes in JPEG as a face."""
    count, size = settings.clip.frames, settings.size
    y, x = np.mgrid[:size, :size] / size
    wave = np.sin(9 * (x + y * draw.random()))[None, :, :, None] * draw.uniform(40, 90, (count, 1, 1, 3))
    grain = draw.normal(0, 4, (count, size, size, 1))
    frames: NDArray[np.uint8] = np.clip(128 + wave + grain, 0, 255).astype(np.uint8)
    return frames


def _rows(rows: NDArray[np.int64], what: Generated, real: pa.Table) -> pa.Table:
    """Rows of the catalog; their bytes are those of the real clips, in turn."""
    utterance = rows // CLIPS
    video = utterance // UTTERANCES
    speaker = video // VIDEOS
    taken = real.take(pa.array(rows % what.clips_per_shard % len(real)))
    columns = {name: taken[name] for name in real.column_names}
    if not what.readable:
        columns |= _drawn_extents(rows, [name.removesuffix("_size") for name in columns if name.endswith("_size")])
    columns["key"] = pa.array([f"c{row:012d}" for row in rows.tolist()])
    columns["shard"] = pa.array((rows // what.clips_per_shard).astype(np.int32))
    columns["speaker"] = _names("id", speaker)
    columns["video"] = _names("v", video)
    columns["utterance"] = _names("", utterance % UTTERANCES)
    columns["start"] = pa.array(2.0 * (rows % CLIPS))
    return pa.table(columns, schema=real.schema)


def _drawn_extents(rows: NDArray[np.int64], members: Sequence[str]) -> dict[str, pa.Array]:
    draw = np.random.default_rng(int(rows[0]))
    columns: dict[str, pa.Array] = {}
    for member in members:
        size = draw.integers(100_000, 200_000, len(rows))
        columns[f"{member}_size"] = pa.array(size)
        columns[f"{member}_offset"] = pa.array(np.cumsum(size))
        columns[f"{member}_xxh3"] = pa.array(draw.integers(0, 1 << 64, len(rows), np.uint64, endpoint=False))
    return columns


def _names(prefix: str, numbers: NDArray[np.int64]) -> pa.DictionaryArray:
    different, codes = np.unique(numbers, return_inverse=True)
    values = pa.array([f"{prefix}{number:09d}" for number in different.tolist()])
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), values)

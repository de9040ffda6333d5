"""A dataset written anew with other files in its clips' samples: right in every checksum, whatever the files hold."""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.dataset.catalog import open_catalog, schema
from loaders.dataset.manifest import Manifest, Member, Shard, read_manifest, write_manifest
from loaders.dataset.shards import Shards
from sharding.packing.clips import EncodedClip
from sharding.packing.finish import finish_split
from sharding.packing.writer import ShardWriter

Files = dict[str, bytes]  #: of a clip, by the member's name


def rebuilt(dataset: Path, folder: Path, members: Sequence[Member], change: Callable[[str, int, Files], Files]) -> Path:
    """The dataset with what ``change`` makes of every clip's files.

    Args:
        dataset: to read.
        folder: to write, which must not be there yet.
        members: of the new dataset, in the order of the tar.
        change: of a clip's split, row and files: those that it has now.
    """
    manifest = read_manifest(dataset)
    splits = {}
    for split, entry in manifest.splits.items():
        (folder / split).mkdir(parents=True)
        catalog = open_catalog(dataset, split, [member.name for member in manifest.members])
        reader, shards, parts = Shards(catalog), [], []
        rows = catalog.table(["key", "padded", "source_xxh3", *_names(manifest)]).to_pylist()
        for number, old in enumerate(entry.shards):
            file = io.BytesIO()
            writer = ShardWriter(file, members, manifest.labels)
            for row in np.flatnonzero(catalog.shard == number).tolist():
                said = rows[row]
                found = {name: reader.read(name, row) for name in catalog.members}
                files = {name: data.tobytes() for name, data in found.items() if data is not None}
                clip = EncodedClip(
                    key=said["key"],
                    members=change(split, row, files),
                    start=float(catalog.start[row]),
                    padded=said["padded"],
                    gaze=None,
                    gaze_problem=None,
                )
                writer.add(_utterance(said, manifest), clip)
            written = writer.close()
            (folder / split / old.name).write_bytes(file.getvalue())
            (folder / split / old.name).with_suffix(".idx").write_text(written.index)
            shards.append(
                Shard(
                    name=old.name,
                    clips=old.clips,
                    bytes=written.bytes,
                    sha256=written.sha256,
                    index_sha256=hashlib.sha256(written.index.encode()).hexdigest(),
                )
            )
            parts.append(written.rows)
        columns = schema(members, manifest.labels)
        splits[split] = finish_split(folder / split, shards, parts, columns, manifest.video_names)
    (folder / "rejected.parquet").write_bytes((dataset / "rejected.parquet").read_bytes())
    write_manifest(folder, replace(manifest, members=tuple(members), splits=splits))
    return folder


def with_arrays(
    dataset: Path, folder: Path, arrays: Mapping[Member, Callable[[str, int], NDArray[Any] | None]]
) -> Path:
    """The dataset with further arrays: of each member what a split's row gives, None where it has none."""

    def more(split: str, row: int, files: Files) -> Files:
        made = {member.name: of(split, row) for member, of in arrays.items()}
        return files | {name: npy(array) for name, array in made.items() if array is not None}

    return rebuilt(dataset, folder, (*read_manifest(dataset).members, *arrays), more)


def npy(array: NDArray[Any]) -> bytes:
    """The bytes of an .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def redeclared(dataset: Path, **changes: Any) -> None:
    """Have dataset.json say something else of a dataset, under a digest of its own."""
    write_manifest(dataset, replace(read_manifest(dataset), **changes))


def _names(manifest: Manifest) -> list[str]:
    return ["speaker", "video", "utterance", *(label.name for label in manifest.labels)]


def _utterance(said: Mapping[str, Any], manifest: Manifest) -> Any:
    labels = {label.name: said[label.name] for label in manifest.labels if said[label.name] is not None}
    return SimpleNamespace(**said, labels=labels)

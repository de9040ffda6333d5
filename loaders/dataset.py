"""The description of a dataset on disk: what `sharding` writes and `loaders` read.

DATASET/
    dataset.json            this description, written last
    train/000000.tar        a WebDataset shard: <key>.filmstrip.jpg, <key>.audio.wav, <key>.gaze.npy, …
    train/000000.idx        DALI's index of the shard
    train/clips.parquet     the catalog: a row a clip, see `loaders.catalog`
    rejected.parquet        the utterances left out, and why
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loaders.errors import InputError

FORMAT = "filmstrip"
VERSION = 1
MANIFEST = "dataset.json"
CATALOG = "clips.parquet"
REJECTED = "rejected.parquet"
EMOTIONS = ("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise")  # OMG-Emotion's codes 0..6


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of a clip's sample: ``<key>.<name>.<extension>``."""

    name: str  #: prefix of its catalog columns: ``<name>_offset``, ``<name>_size``, ``<name>_xxh3``
    extension: str
    dtype: str  #: of the decoded array
    shape: tuple[int, ...]  #: of the decoded array
    required: bool  #: False: a clip may come without it

    @property
    def suffix(self) -> str:
        """What follows the key and a dot in the tar: the name under which WebDataset shows the member."""
        return f"{self.name}.{self.extension}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFormat:
    """What every clip of a dataset has in common."""

    seconds: float
    fps: float  #: frames a second of the filmstrip
    frames: int  #: frames a clip
    size: int  #: height and width of a frame, pixels
    sample_rate: int  #: audio samples a second
    samples: int  #: audio samples a clip


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One tar file of a split."""

    name: str  #: file name within the split's folder
    clips: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A part of the dataset that shares no speaker (or no video, as the build was told) with the others."""

    clips: int
    speakers: int
    videos: int
    shards: tuple[Shard, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """dataset.json."""

    corpus: str
    clip: ClipFormat
    members: tuple[Member, ...]
    splits: Mapping[str, Split]
    gaze_mean: tuple[float, ...] | None  #: of the training split's clips that have gaze; None where none has
    gaze_std: tuple[float, ...] | None
    rejected: Mapping[str, int]  #: utterances left out, by reason
    settings: Mapping[str, Any]  #: of the build, for people and for repeating it

    def member(self, name: str) -> Member | None:
        """The declaration of a member, None where the dataset has none of that name."""
        return next((member for member in self.members if member.name == name), None)


def to_json(manifest: Manifest) -> str:
    """dataset.json's text: stable, for the bytes of a dataset depend on its inputs alone."""
    body = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(manifest)}
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"


def from_json(text: str, name: str) -> Manifest:
    """The manifest in dataset.json's text; ``name`` is for the error message.

    Raises:
        InputError: it is no dataset.json, or of a newer version.
    """
    try:
        body = json.loads(text)
        if body["format"] != FORMAT:
            raise InputError(
                f"{name}: of format {body['format']!r}, not {FORMAT!r}: give the folder of a built dataset"
            )
        if body["version"] > VERSION:
            raise InputError(
                f"{name}: format version {body['version']} is newer than this program's {VERSION}: upgrade filmstrip"
            )
        return Manifest(
            corpus=body["corpus"],
            clip=ClipFormat(**body["clip"]),
            members=tuple(Member(**{**member, "shape": tuple(member["shape"])}) for member in body["members"]),
            splits={
                split: Split(**{**entry, "shards": tuple(Shard(**shard) for shard in entry["shards"])})
                for split, entry in body["splits"].items()
            },
            gaze_mean=None if body["gaze_mean"] is None else tuple(body["gaze_mean"]),
            gaze_std=None if body["gaze_std"] is None else tuple(body["gaze_std"]),
            rejected=body["rejected"],
            settings=body["settings"],
        )
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{name}: not a dataset description ({error!r}): build the dataset again") from error


def read_manifest(folder: Path) -> Manifest:
    """The description of the dataset in ``folder``.

    Raises:
        InputError: there is no such folder, no finished dataset in it, or one of a newer format.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: give the --output of sharding/build.py")
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder}: no dataset there ({MANIFEST} is missing): build it, or let its build finish")
    return from_json(path.read_text(encoding="utf-8"), str(path))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write dataset.json so that it is whole or absent, and on the disk when this returns."""
    temporary = folder / f".{MANIFEST}.{os.getpid()}"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(to_json(manifest))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / MANIFEST)


def require_split(manifest: Manifest, split: str, folder: Path) -> Split:
    """The split of that name.

    Raises:
        InputError: the dataset has none, or it holds no clip.
    """
    if split not in manifest.splits:
        raise InputError(f"{folder}: no split {split!r}: it has {', '.join(sorted(manifest.splits))}")
    entry = manifest.splits[split]
    if entry.clips == 0:
        raise InputError(f"{folder}: the split {split!r} holds no clip: build it with more utterances")
    return entry

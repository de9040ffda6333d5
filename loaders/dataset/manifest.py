"""The description of a dataset on disk: what `sharding` writes and `loaders` read.

DATASET/
    dataset.json            this description, written last
    train/000000.tar        a WebDataset shard: <key>.filmstrip.jpg, <key>.audio.wav, <key>.gaze.npy, …
    train/000000.idx        DALI's index of the shard
    train/clips.parquet     the catalog: a row a clip, see `loaders.dataset.catalog`
    rejected.parquet        the utterances left out, and why
    README.md               for people, and for the Hugging Face Hub: see `sharding.cards`
    croissant.json          for programs that read Croissant

dataset.json holds the SHA-256 of every other file, and a digest of itself: no byte of a dataset is unprotected.

In a store, where several objects cannot be exchanged in one step, an extension puts the new tables under `staged` names
first, then exchanges dataset.json, and then the tables under their own names. Whoever finds another table than the one
that dataset.json declares looks for it there; whoever does not find it there either reads dataset.json again.
"""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from loaders.dataset.about import About
from loaders.dataset.columns import COLUMNS, member_columns
from loaders.dataset.labels import Label
from loaders.dataset.members import Member as Member
from loaders.errors import InputError
from loaders.storage.atomic import write_atomically

FORMAT = "filmstrip"
VERSION = 2  #: the only one that is read and written
MANIFEST = "dataset.json"
CATALOG = "clips.parquet"
REJECTED = "rejected.parquet"
FILMSTRIP, AUDIO, GAZE = "filmstrip", "audio", "gaze"  #: members by which a batch is made
GAZE_STATISTICS = 103  #: numbers of a clip's gaze, see `sharding.gaze.statistics.GAZE_NAMES` (thesis, Table 3.2)
LONGEST = 65_500  #: pixels of a JPEG's side, libjpeg's limit

# By what a split was made, and what its sides then must not have in common, as columns of the catalog.
APART: Mapping[str, tuple[str, ...]] = {"speaker": ("speaker", "video"), "video": ("video",), "utterance": ()}

# Within what a video's name is unique, and the columns that therefore name a video: one of the whole corpus, or one of
# its speaker, as in actor_1/interview and actor_2/interview.
VIDEO_NAMES: Mapping[str, tuple[str, ...]] = {"corpus": ("video",), "speaker": ("speaker", "video")}


def naming_columns(kind: str, video_names: str) -> tuple[str, ...]:
    """The columns that together name a ``kind`` of `APART`: a "speaker" or a "video"."""
    return VIDEO_NAMES[video_names] if kind == "video" else (kind,)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFormat:
    """What every clip of a dataset has in common."""

    seconds: float
    fps: float  #: frames a second of the filmstrip
    frames: int  #: frames a clip
    size: int  #: height and width of a frame, pixels
    sample_rate: int  #: audio samples a second
    samples: int  #: audio samples a clip
    addressable: bool  #: each frame of a filmstrip is a restart interval of its own, see `loaders.decode.cut`


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One tar file of a split."""

    name: str  #: file name within the split's folder
    clips: int
    bytes: int
    sha256: str
    index_sha256: str  #: of the .idx beside it


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A part of the dataset that shares nothing of what ``Manifest.apart`` says with the others."""

    clips: int
    speakers: int
    videos: int
    catalog_sha256: str  #: of clips.parquet
    shards: tuple[Shard, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberMoments:
    """Of a member's numbers, each by itself, over the training split's clips that have it."""

    count: int  #: clips; of none, the moments are zeros
    mean: tuple[float, ...]  #: in the order of the array's numbers
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """dataset.json."""

    corpus: str
    clip: ClipFormat
    members: tuple[Member, ...]
    labels: tuple[Label, ...]
    apart: str  #: what the splits promise not to share, see `APART`
    splits: Mapping[str, Split]
    gaze_mean: tuple[float, ...] | None  #: of the training split's clips that have gaze; None where none has
    gaze_std: tuple[float, ...] | None
    rejected: Mapping[str, int]  #: utterances left out, by reason
    rejected_sha256: str  #: of rejected.parquet
    settings: Mapping[str, Any]  #: of the build, for people and for repeating it
    video_names: str  #: see `VIDEO_NAMES`; "speaker" only where two speakers have videos of one name
    documents: Mapping[str, str]  #: SHA-256 of further files in the dataset's folder, by name
    about: About = field(default_factory=About)  #: what its owner says of it
    moments: Mapping[str, MemberMoments] = field(default_factory=dict)
    """By a member's name, of those whose function asks for it; with none dataset.json does not have it."""
    parts_sha256: str | None = None
    """Which parts of films its utterances are, see `sharding.packing.parts`; of whole ones dataset.json has it not."""

    @property
    def tables(self) -> Mapping[str, str]:
        """SHA-256 of each table, the catalogs and rejected.parquet, by its path within the dataset."""
        return {
            **{f"{name}/{CATALOG}": split.catalog_sha256 for name, split in self.splits.items()},
            REJECTED: self.rejected_sha256,
        }

    @property
    def beside(self) -> Mapping[str, str]:
        """SHA-256 of every file beside the shards and dataset.json, by its path: the `tables` and the `documents`."""
        return {**self.tables, **self.documents}

    @property
    def gaze_tracker(self) -> str:
        """What tracked the gaze of its clips, where they have any; builds before there was a choice had OpenFace."""
        return str(self.settings.get("gaze", "openface"))

    def member(self, name: str) -> Member | None:
        """The declaration of a member, None where the dataset has none of that name."""
        return next((member for member in self.members if member.name == name), None)

    def label(self, name: str) -> Label | None:
        """The declaration of a label, None where the dataset has none of that name."""
        return next((label for label in self.labels if label.name == name), None)


def staged(sha256: str) -> str:
    """Where a table that an extension makes stands in a store until it has its own name."""
    return f".build/tables/{sha256}.parquet"


def to_json(manifest: Manifest) -> str:
    """dataset.json's text: stable, for the bytes of a dataset depend on its inputs alone.

    Its ``digest`` is the SHA-256 of the text as it is without it.
    """
    body = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(manifest)}
    if not manifest.moments:
        del body["moments"]
    if manifest.parts_sha256 is None:
        del body["parts_sha256"]
    return _dump({**body, "digest": hashlib.sha256(_dump(body).encode()).hexdigest()})


def _dump(body: Mapping[str, Any]) -> str:
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"


def from_json(text: str, name: str) -> Manifest:
    """The manifest in dataset.json's text; ``name`` is for the error message.

    Raises:
        InputError: it is no dataset.json, of another version, names files outside the dataset, or is not to the byte
            what `to_json` wrote.
    """
    try:
        body = json.loads(text)
        if body["format"] != FORMAT:
            what = f"of format {body['format']!r}, not {FORMAT!r}"
            raise InputError(name, what, "give the folder of a built dataset")
        if body["version"] > VERSION:
            what = f"format version {body['version']} is newer than this program's {VERSION}"
            raise InputError(name, what, "upgrade filmstrip")
        if body["version"] < VERSION:
            what = f"format version {body['version']}, which this program no longer reads"
            raise InputError(name, what, "build the dataset again")
        manifest: Manifest = _parse(Manifest, body, "it")
        # One comparison finds every change, be it of a value, of the digest or of a blank between them.
        as_written = to_json(manifest) == text
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(name, f"not a dataset description ({error})", "build the dataset again") from error
    _require_plain_names(manifest, name)
    if not as_written:
        raise InputError(name, "not as it was written, its digest differs", "restore it from a copy, or build again")
    return manifest


def _parse(kind: Any, value: Any, where: str) -> Any:
    """The value of a JSON text as the type that a dataclass declares. Raises TypeError where it is another."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is UnionType:  # only ever "… | None" here
        return None if value is None else _parse(arguments[0], value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_parse(arguments[0], item, f"{where}[{number}]") for number, item in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {name: _parse(arguments[1], item, f"{where}.{name}") for name, item in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        hints = _hints(kind)
        missing = [name for name in hints if name not in value and name not in _optional(kind)]
        if missing:
            raise TypeError(f"{where} has no {missing[0]!r}")
        stated = {name: hint for name, hint in hints.items() if name in value}
        return kind(**{name: _parse(hint, value[name], f"{where}.{name}") for name, hint in stated.items()})
    if kind is float and type(value) is int:
        return value
    if kind not in (int, float, str, bool) or type(value) is not kind:
        raise TypeError(f"{where} is a {type(value).__name__}")
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)  # slow, and a dataset may have 10⁵ shards


@cache
def _optional(kind: type) -> frozenset[str]:
    none = dataclasses.MISSING
    return frozenset(f.name for f in dataclasses.fields(kind) if not (f.default is none and f.default_factory is none))


def _require_plain_names(manifest: Manifest, name: str) -> None:
    """Every name that becomes a path must stay in its folder."""
    names = [*manifest.splits, *manifest.documents, *(member.suffix for member in manifest.members)]
    shards = [shard.name for split in manifest.splits.values() for shard in split.shards]
    for given in (*names, *shards):
        if not re.fullmatch(r"[^./\\\0][^/\\\0]*", given):
            raise InputError(name, f"{given!r} is no plain file name", "do not use this dataset, build it again")
    for given in shards:
        if not given.endswith(".tar"):
            raise InputError(name, f"the shard {given!r} is no .tar", "build the dataset again")


def read_manifest(folder: Path) -> Manifest:
    """The description of the dataset in ``folder``.

    Raises:
        InputError: there is no such folder, no finished dataset in it, or one of a newer format.
    """
    require_dataset(folder)
    path = folder / MANIFEST
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise InputError(path, str(error.strerror), "make it readable") from error
    except UnicodeDecodeError as error:
        raise InputError(path, f"not a text ({error.reason})", "restore it from a copy, or build again") from error
    return credible(text, str(path))


def require_dataset(folder: Path) -> None:
    """Raise InputError where there is no such folder, or no finished dataset in it; dataset.json is not read."""
    path = folder
    try:
        is_folder = folder.is_dir()
        path = folder / MANIFEST
        is_there = path.is_file()
    except OSError as error:  # a folder on the way to it that may not be entered, or a name that is too long
        mend = "make it readable" if isinstance(error, PermissionError) else "give the --output of sharding/build.py"
        raise InputError(path, str(error.strerror), mend) from error
    if not is_folder:
        raise InputError(folder, "no such folder", "give the --output of sharding/build.py")
    if not is_there:
        raise InputError(folder, f"no dataset there ({MANIFEST} is missing)", "build it, or let its build finish")


def credible(text: str, name: str) -> Manifest:
    """The manifest in dataset.json's text, of clips that can be. Arguments and errors as of `from_json`.

    Raises:
        InputError: it tells the `impossible`.
    """
    manifest = from_json(text, name)
    problem = impossible(manifest)
    if problem is not None:
        raise InputError(name, problem, "build the dataset again")
    return manifest


def impossible(manifest: Manifest) -> str | None:
    """What no built dataset says of its clips, or says of them in two ways; None where all is well.

    Memory is reserved by these numbers, and decoders are told them.
    """
    clip = manifest.clip
    for name, value, most in (
        ("seconds", clip.seconds, 3600),
        ("fps", clip.fps, 1000),
        ("frames", clip.frames, LONGEST),
        ("size", clip.size, LONGEST),
        ("sample_rate", clip.sample_rate, 1_000_000),
        ("samples", clip.samples, 1 << 31),
    ):
        if not 0 < value <= most:  # neither is NaN
            return f"clips of {name} {value}"
    if clip.frames * clip.size > LONGEST:
        return f"filmstrips of {clip.frames} frames of {clip.size} pixels, higher than a JPEG can be"
    for name, value, rate in (("frames", clip.frames, clip.fps), ("samples", clip.samples, clip.sample_rate)):
        if value != round(clip.seconds * rate):
            return f"{value} {name} in {clip.seconds:g} s at {rate:g} a second"
    shapes = {"filmstrip": (clip.frames, clip.size, clip.size, 3), "audio": (clip.samples,)}
    for number, member in enumerate(manifest.members):
        if member.name in (other.name for other in manifest.members[:number]):
            return f"the member {member.name!r} is declared twice"
        if member.shape != shapes.get(member.name, member.shape):
            return f"the member {member.name!r} is declared as {member.shape}, a clip's is {shapes[member.name]}"
        problem = member.problem()
        if problem is not None:
            return problem
    for name, moments in manifest.moments.items():
        stated = next((member for member in manifest.members if member.name == name), None)
        if stated is None or stated.variable or stated.dtype == "map":
            return f"moments of {name!r}, which is no array that is declared"
        if {len(moments.mean), len(moments.std)} != {math.prod(stated.shape)}:
            return f"{len(moments.mean)} means of {name!r}, which has {math.prod(stated.shape)} numbers"
    reserved = {column.name for column in COLUMNS}.union(*(member_columns(member.name) for member in manifest.members))
    for label in manifest.labels:
        problem = label.problem(reserved)
        if problem is not None:
            return problem
        reserved.add(label.name)
    if manifest.video_names not in VIDEO_NAMES:
        return f"names of videos by {manifest.video_names!r}, not by {' or '.join(VIDEO_NAMES)}"
    return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write dataset.json so that it is whole or absent, and on the disk when this returns."""
    write_atomically(folder / MANIFEST, to_json(manifest).encode())


def require_split(manifest: Manifest, split: str, dataset: Path | str) -> Split:
    """The split of that name; ``dataset`` is for the error message.

    Raises:
        InputError: the dataset has none, or it holds no clip.
    """
    if split not in manifest.splits:
        raise InputError(f"{dataset}: no split {split!r}: it has {', '.join(sorted(manifest.splits))}")
    entry = manifest.splits[split]
    if entry.clips == 0:
        raise InputError(f"{dataset}: the split {split!r} holds no clip: build it with more utterances")
    return entry

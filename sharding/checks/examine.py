"""One shard examined, in one pass over its bytes: the unit of a verification's work."""

import hashlib
import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from loaders.dataset.catalog import catalog_rows, schema
from loaders.dataset.columns import SAID_TWICE, Column, member_columns, with_labels
from loaders.dataset.labels import Label
from loaders.dataset.manifest import AUDIO, CATALOG, FILMSTRIP, GAZE_STATISTICS, ClipFormat, Member, Shard
from loaders.decode.frame_offsets import NotAddressableError, check_offsets
from sharding.checks.faults import DROP, REMAKE, FaultList
from sharding.packing.members import can_decode, decode_member, largest
from sharding.packing.tar import Entry, TarError, TarReader, index_path
from sharding.packing.writer import INDEX_VERSION, Moments
from sharding.sources.store import Store

DESCRIPTION = "clip"  # the member that says of a clip what the catalog does
_ALWAYS = (DESCRIPTION, "gaze")  # decoded of every clip: it costs next to nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCheck:
    """What to examine."""

    dataset: Path
    corpus: str
    clip: ClipFormat
    members: tuple[Member, ...]
    labels: tuple[Label, ...]
    split: str
    shard: Shard  #: as dataset.json describes it
    number: int  #: of the shard in dataset.json's list
    first_row: int  #: of the shard in the split's catalog
    catalog: bool  #: whether the split's catalog is whole: otherwise the shard is examined without it
    decode: frozenset[int] | None  #: clips of the shard to decode, by their place in it; None: all of them
    moments: tuple[str, ...] = ()  #: the members whose moments dataset.json states
    store: Store | None = None  #: where the shard is to be fetched from, into ``dataset``; it goes again

    @property
    def path(self) -> str:
        """Of the tar, within the dataset."""
        return f"{self.split}/{self.shard.name}"

    @property
    def index_path(self) -> str:
        """Of DALI's index, within the dataset."""
        return index_path(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReport:
    """What the examination found."""

    split: str
    number: int
    bytes: int  #: read
    clips: int
    decoded: int  #: clips of which every member was decoded
    faults: FaultList
    whole: bool  #: nothing is wrong with the tar itself
    index: str | None  #: what the .idx should hold, where it does not
    rows: pa.Table | None  #: what the catalog should hold of the shard, where it does not and the tar tells
    gaze_count: int
    gaze_mean: tuple[float, ...]
    gaze_squares: tuple[float, ...]  #: sums of squared deviations
    moments: Mapping[str, Mapping[str, Any]]  #: of the members whose moments dataset.json states, `Moments.as_data`


def is_plain_file(dataset: Path, path: str) -> bool:
    """Whether a file of the dataset lies in it, and is no link, nor in a folder that is one, to somewhere else."""
    try:
        file = dataset / path
        return stat.S_ISREG(file.lstat().st_mode) and (file.parent == dataset or not file.parent.is_symlink())
    except OSError:
        return False


@dataclass(slots=True)
class _Clip:
    """A clip as the tar has it."""

    key: str
    entries: dict[str, Entry] = field(default_factory=dict)  #: by the member's name


def examine(check: ShardCheck) -> ShardReport:
    """Examine a shard: SHA-256, structure, its catalog rows, every member's checksum, contents, and its index."""
    if check.store is None:
        return _Examination(check).run()
    names = (check.path, check.index_path)
    try:
        for name in names:
            check.store.fetch(name, check.dataset / name)
        return _Examination(check).run()
    finally:
        for name in names:
            (check.dataset / name).unlink(missing_ok=True)


class _Examination:
    def __init__(self, check: ShardCheck) -> None:
        self._check = check
        self._said_twice = with_labels(SAID_TWICE, check.labels)
        self._members = {member.suffix: member for member in check.members}
        self._faults = FaultList()
        self._tar_faults = 0
        self._catalog_faults = 0
        self._decoded = 0
        self._keys: dict[str, int] = {}  # place in the shard
        self._index: list[str] = []
        self._made: list[dict[str, Any]] = []
        self._described = True
        self._gaze = Moments(GAZE_STATISTICS)
        self._moments = {m.name: Moments(math.prod(m.shape)) for m in check.members if m.name in check.moments}
        self._rows = self._read_rows() if check.catalog else None

    def run(self) -> ShardReport:
        check = self._check
        size = 0
        there = is_plain_file(check.dataset, check.path)  # where it is not, the check of the folder has said so
        if there:
            try:
                size = self._read_tar(check.dataset / check.path)
            except OSError as error:
                self._fault("damaged", f"cannot be read ({error.strerror})", where="")
            self._require_all_rows()
        whole = there and not self._tar_faults
        index = "\n".join([f"{INDEX_VERSION} {len(self._index)}", *self._index]) + "\n"
        is_indexed = self._check_index(index, whole)
        rows = None
        if whole and self._described and (self._rows is None or self._catalog_faults):
            rows = pa.Table.from_pylist(self._made, schema=schema(check.members, check.labels))
        return ShardReport(
            split=check.split,
            number=check.number,
            bytes=size,
            clips=len(self._keys),
            decoded=self._decoded,
            faults=self._faults,
            whole=whole,
            index=None if is_indexed else index,
            rows=rows,
            gaze_count=self._gaze.count,
            gaze_mean=tuple(self._gaze.mean.tolist()),
            gaze_squares=tuple(self._gaze.squares.tolist()),
            moments={name: moments.as_data() for name, moments in self._moments.items()},
        )

    def _fault(self, kind: Any, what: str, *, where: str) -> None:
        self._tar_faults += 1
        self._faults.add(kind, self._check.path, what, DROP, where=where)

    def _catalog_fault(self, what: str, *, where: str) -> None:
        self._catalog_faults += 1
        self._faults.add("catalog", f"{self._check.split}/{CATALOG}", what, REMAKE, where=where)

    # -- the tar

    def _read_tar(self, path: Path) -> int:
        shard = self._check.shard
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != shard.bytes:
                self._fault("damaged", f"{size} bytes where dataset.json says {shard.bytes}", where="")
            reader = TarReader(file, size, keep=max(largest(member) for member in self._check.members))
            try:
                for clip in self._clips(reader.entries()):
                    self._check_clip(clip)
            except TarError as error:
                self._fault("tar", error.what, where=f"byte {error.offset}")
            for offset, what in reader.irregular:
                self._fault("tar", what, where=f"byte {offset}")
            if reader.sha256() != shard.sha256:
                self._fault("damaged", "its SHA-256 is not the one in dataset.json", where="")
        if len(self._keys) != shard.clips:
            self._fault("tar", f"{len(self._keys)} clips where dataset.json says {shard.clips}", where="")
        return size

    def _clips(self, entries: Iterator[Entry]) -> Iterator[_Clip]:
        """The entries by clip: those with one key stand together."""
        clip: _Clip | None = None
        for entry in entries:
            key, _, suffix = entry.name.partition(".")
            if clip is None or key != clip.key:
                if clip is not None:
                    yield clip
                clip = _Clip(key)
            member = self._members.get(suffix)
            if member is None:
                self._fault("tar", f"{suffix!r} is no member that dataset.json declares", where=entry.name)
            elif member.name in clip.entries:
                self._fault("duplicate", "occurs twice", where=entry.name)
            else:
                clip.entries[member.name] = entry
        if clip is not None:
            yield clip

    def _check_clip(self, clip: _Clip) -> None:
        place = len(self._keys)
        if clip.key in self._keys:
            self._fault("duplicate", "the key occurs twice in the tar", where=clip.key)
            return
        self._keys[clip.key] = place
        for member in self._check.members:
            if member.required and member.name not in clip.entries:
                self._fault("tar", f"the clip has no {member.suffix}", where=clip.key)
        if FILMSTRIP not in clip.entries and AUDIO not in clip.entries:
            self._fault("tar", "the clip has neither frames nor sound", where=clip.key)
        row = None
        if self._rows is not None:
            row = self._rows.get(clip.key)
            if row is None:
                self._catalog_fault(f"the clip is in {self._check.path} and not in the catalog", where=clip.key)
            else:
                self._compare(clip, row, place)
        contents = self._decode(clip, row, place)
        self._keep(clip, row, contents)

    def _compare(self, clip: _Clip, row: Mapping[str, Any], place: int) -> None:
        """The catalog's row with the tar's entries."""
        if row["place"] != place or row["shard"] != self._check.number:
            self._catalog_fault(
                f"the clip is number {place} in {self._check.path}, its row says otherwise", where=clip.key
            )
        for member in self._check.members:
            entry = clip.entries.get(member.name)
            stated = tuple(row[f"{member.name}_{part}"] for part in ("offset", "size"))
            found = (None, None) if entry is None else (entry.offset, entry.size)
            if stated != found:
                self._catalog_fault(
                    f"{member.name} at offset, size {stated} where {self._check.path} has {found}", where=clip.key
                )
            elif entry is not None and row[f"{member.name}_xxh3"] != entry.xxh3:
                where = f"{clip.key}.{member.suffix}, from byte {entry.offset}"
                self._fault("member", "the bytes do not have their checksum", where=where)

    def _decode(self, clip: _Clip, row: Mapping[str, Any] | None, place: int) -> dict[str, Any]:
        """The contents of the clip's members; of those that are not to be decoded, or cannot be, nothing."""
        chosen = self._check.decode is None or place in self._check.decode
        contents: dict[str, Any] = {}
        for member in self._check.members:
            entry = clip.entries.get(member.name)
            wanted = chosen or member.name in (*_ALWAYS, *self._moments)
            if entry is None or not wanted or not can_decode(member):
                continue
            if row is not None and row[f"{member.name}_xxh3"] != entry.xxh3:
                continue  # said already, and the decoder's complaint would add nothing
            try:
                if entry.data is None:
                    raise ValueError(f"{entry.size} bytes are too many for it")
                contents[member.name] = decode_member(member, entry.data, self._check.clip)
                if member.name == FILMSTRIP and self._check.clip.addressable:
                    check_offsets(entry.data, self._check.clip.frames)
            except (ValueError, NotAddressableError) as error:
                self._fault("content", str(error) or type(error).__name__, where=entry.name)
        self._decoded += chosen
        return contents

    def _keep(self, clip: _Clip, row: Mapping[str, Any] | None, contents: Mapping[str, Any]) -> None:
        """What the rest of the verification needs of the clip."""
        ordered = sorted(clip.entries.items(), key=lambda item: item[1].offset)
        suffixes = {member.name: member.suffix for member in self._check.members}
        self._index.append(
            " ".join(f"{suffixes[name]} {entry.offset} {entry.size} {entry.name}" for name, entry in ordered)
        )
        if "gaze" in contents and contents["gaze"].shape == (GAZE_STATISTICS,):
            self._gaze.add_one(contents["gaze"])
        for name in self._moments.keys() & contents.keys():
            self._moments[name].add_one(contents[name])
        description = contents.get(DESCRIPTION)
        if description is None:
            self._described = False
            return
        if not _describes(description, self._check, self._said_twice):
            self._described = False
            self._fault("content", "does not say what a clip's description says", where=f"{clip.key}.{DESCRIPTION}")
            return
        if row is not None:
            for field in self._said_twice:
                stated, described = row[field.name], description[field.name]
                if not _equal(stated, described):
                    what = f"{field.name} is {stated!r} in the catalog and {described!r} in the clip"
                    self._catalog_fault(what, where=clip.key)
        made = {"key": clip.key, "shard": 0, **{field.name: description[field.name] for field in self._said_twice}}
        for name, entry in ordered:
            made |= zip(member_columns(name), (entry.offset, entry.size, entry.xxh3), strict=True)
        self._made.append(made)

    # -- the catalog and the index

    def _read_rows(self) -> dict[str, dict[str, Any]]:
        """The shard's rows of the catalog by key, each with its place among them."""
        check = self._check
        table = catalog_rows(check.dataset / check.split, check.first_row, check.shard.clips)
        rows = {}
        for place, row in enumerate(table.to_pylist()):
            key = row["key"] or ""  # a row without a key is no clip's
            if key in rows:
                self._catalog_fault("the key has two rows", where=key)
            rows[key] = {**row, "place": place}
        return rows

    def _require_all_rows(self) -> None:
        for key in self._rows or ():
            if key not in self._keys:
                self._catalog_fault(f"the clip is not in {self._check.path}", where=key)

    def _check_index(self, expected: str, whole: bool) -> bool:
        """Whether the .idx is what it should be; what is wrong with it is told."""
        path = self._check.dataset / self._check.index_path
        if not is_plain_file(self._check.dataset, self._check.index_path):
            return False  # the check of the folder has said so
        mend = REMAKE if whole else DROP
        try:
            if path.stat().st_size > 2 * len(expected.encode()) + (1 << 20):
                self._faults.add("damaged", self._check.index_path, "too long for the shard's index", mend)
                return False
            data = path.read_bytes()
        except OSError as error:
            self._faults.add("damaged", self._check.index_path, f"cannot be read ({error.strerror})", mend)
            return False
        has_digest = hashlib.sha256(data).hexdigest() == self._check.shard.index_sha256
        if not has_digest:
            self._faults.add("damaged", self._check.index_path, "its SHA-256 is not the one in dataset.json", mend)
        if whole and data != expected.encode():
            found = data.decode("utf-8", "backslashreplace").split("\n")
            wanted = expected.split("\n")
            line = next((n for n, (a, b) in enumerate(zip_longest(found, wanted), 1) if a != b), 1)
            self._faults.add("index", self._check.index_path, "not the tar's index", mend, where=f"line {line}")
            return False
        return has_digest


def _describes(description: Mapping[str, Any], check: ShardCheck, columns: Sequence[Column]) -> bool:
    """Whether a clip's description has all that the catalog says, of the types that the catalog has."""
    return (
        description.get("corpus") == check.corpus
        and description.get("fps") == check.clip.fps
        and all(field.name in description and _fits(description[field.name], field) for field in columns)
    )


def _fits(value: Any, column: Column) -> bool:
    kind = column.type
    if column.source == "label" and value is None:
        return True
    if pa.types.is_floating(kind):
        return isinstance(value, (int, float))
    if pa.types.is_integer(kind):
        least, most = (0, 1 << kind.bit_width) if pa.types.is_unsigned_integer(kind) else (-128, 128)
        return isinstance(value, int) and least <= value < most
    return value is None or isinstance(value, str)


def _equal(stated: Any, described: Any) -> bool:
    """Whether a catalog's value is the description's, which has float64 where the catalog may have float32."""
    if isinstance(stated, float) and isinstance(described, (int, float)):
        return (math.isnan(stated) and math.isnan(described)) or stated in (described, float(np.float32(described)))
    return bool(stated == described)

"""Verification finds whatever is wrong with a dataset, harms nothing, and repairs what can be repaired."""

import hashlib
import io
import itertools
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import msgpack
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from loaders.dataset.catalog import open_catalog
from loaders.dataset.manifest import (
    MANIFEST,
    VERSION,
    Manifest,
    Shard,
    from_json,
    read_manifest,
    to_json,
    write_manifest,
)
from loaders.dataset.shards import Shards
from loaders.errors import InputError
from loaders.storage.atomic import sha256_of
from sharding import verify as command
from sharding.checks.repair import QUARANTINE, repair
from sharding.checks.report import Report
from sharding.media.filmstrip import encode_filmstrip
from sharding.packing.finish import write_rejected
from sharding.settings import BuildSettings
from sharding.sources.store import Store
from sharding.verify import verify
from tests.damage import edit_catalog
from tests.datasets import Contents, make_dataset
from tests.parses import counted_parses
from tests.s3 import s3_server

TINY = Contents(speakers={"train": 3, "test": 1}, shards={"train": 2, "test": 1}, videos=2, utterances=1, clips=2)
SETTINGS = BuildSettings(size=16, clip_seconds=0.25)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For reading only."""
    folder = tmp_path_factory.mktemp("datasets") / "tiny"
    make_dataset(folder, TINY, SETTINGS)
    return folder


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """To do harm to."""
    return Path(shutil.copytree(tiny, tmp_path / "dataset"))


def kinds(report: Report) -> set[tuple[str, str]]:
    return {(fault.kind, fault.path) for fault in report.faults}


def files(dataset: Path) -> list[Path]:
    return sorted(path for path in dataset.rglob("*") if path.is_file())


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in files(folder)}


def rewrite(dataset: Path, change: Callable[[Manifest], Manifest]) -> None:
    """Change dataset.json as someone would who can make its digest."""
    write_manifest(dataset, change(read_manifest(dataset)))


def with_shard(manifest: Manifest, split: str, number: int, **changes: Any) -> Manifest:
    entry = manifest.splits[split]
    shards = list(entry.shards)
    shards[number] = replace(shards[number], **changes)
    return replace(manifest, splits={**manifest.splits, split: replace(entry, shards=tuple(shards))})


def edit_tar(dataset: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> None:
    """A test split's tar that is wrong from the beginning: its SHA-256 is right, its catalog is not made for it."""
    path = dataset / "test" / "000000.tar"
    with tarfile.open(path) as tar:
        entries = [(info, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]
    change(entries)
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    rewrite(dataset, lambda m: with_shard(m, "test", 0, bytes=path.stat().st_size, sha256=sha256_of(path)))
    # Without a catalog the members are judged by what they hold.
    (dataset / "test" / "clips.parquet").unlink()


def set_column(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, pa.array(values, table.schema.field(name).type))


# -- whole datasets


def test_a_whole_dataset_has_no_fault_and_is_not_touched(dataset: Path) -> None:
    before = snapshot(dataset)
    report = verify(dataset, decode=True)
    assert report.is_whole, report.faults
    assert report.clips == report.decoded == sum(split.clips for split in read_manifest(dataset).splits.values())
    assert report.bytes == sum(path.stat().st_size for path in dataset.rglob("*.tar"))
    assert snapshot(dataset) == before


@pytest.mark.parametrize("sample", [0, 1, 7, 10_000])
def test_a_sample_is_as_large_as_asked_for(tiny: Path, sample: int) -> None:
    report = verify(tiny, sample=sample)
    assert report.is_whole
    assert report.decoded == min(sample, report.clips)


@pytest.mark.parametrize("audio_format", ["wav", "flac"])
def test_optional_members_and_formats_come_by_declaration(tmp_path: Path, audio_format: Any) -> None:
    make_dataset(tmp_path / "d", TINY, replace(SETTINGS, audio_format=audio_format, subsampling="4:4:4"))
    assert verify(tmp_path / "d", decode=True).is_whole


def test_worker_processes_find_the_same(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy / "train" / "000001.tar"
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr(command, "_SMALL", 0)
    alone, together = verify(copy, workers=1), verify(copy, workers=2)
    assert alone.faults == together.faults
    assert not alone.is_whole


# -- damage


def test_every_flipped_byte_is_found(copy: Path) -> None:
    """200 single bytes: half of them anywhere in the dataset, mostly in shards, and half in any file, however small."""
    draw = random.Random(0)
    paths = files(copy)
    assert {path.suffix for path in paths} == {".json", ".tar", ".idx", ".parquet", ".md"}
    sizes = [path.stat().st_size for path in paths]
    hit = draw.choices(paths, sizes, k=100) + draw.choices(paths, k=100)
    assert set(hit) == set(paths)
    for path in hit:
        whole = path.read_bytes()
        place = draw.randrange(len(whole))
        flipped = bytearray(whole)
        flipped[place] ^= draw.randrange(1, 256)
        path.write_bytes(flipped)
        report = verify(copy, sample=0)
        name = str(path.relative_to(copy))
        assert name in {fault.path for fault in report.faults}, f"byte {place} of {name}"
        path.write_bytes(whole)
    assert verify(copy).is_whole


def test_no_byte_of_the_manifest_can_change(tiny: Path) -> None:
    whole = (tiny / MANIFEST).read_text()
    manifest = from_json(whole, MANIFEST)
    assert to_json(manifest) == whole
    text = to_json(replace(manifest, gaze_mean=(0.25, -1.5e-7), gaze_std=None)).encode()  # shorter
    for place in range(len(text)):
        changed = text[:place] + bytes([text[place] ^ (1 << place % 8)]) + text[place + 1 :]
        with pytest.raises((InputError, UnicodeDecodeError)):
            from_json(changed.decode(), MANIFEST)
    for changed in (text + b"\n", text[:-1], text.replace(b"\n", b"\r\n"), text.replace(b": ", b":", 1)):
        with pytest.raises(InputError, match="its digest differs"):
            from_json(changed.decode(), MANIFEST)


def test_a_flip_is_told_by_the_clip_that_it_hits(tiny: Path, copy: Path) -> None:
    catalog = open_catalog(tiny, "train", ["audio"])
    row = len(catalog) - 1
    shard = copy / "train" / read_manifest(tiny).splits["train"].shards[int(catalog.shard[row])].name
    data = bytearray(shard.read_bytes())
    data[int(catalog.members["audio"].offset[row]) + 100] ^= 4
    shard.write_bytes(data)
    report = verify(copy)
    key = str(catalog.table(["key"])["key"][row])
    (member,) = (fault for fault in report.faults if fault.kind == "member")
    assert member.where.startswith(f"{key}.audio.wav")
    assert member.path == f"train/{shard.name}"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_shard_cut_off_anywhere_is_told(copy: Path, share: float) -> None:
    path = copy / "train" / "000000.tar"
    os.truncate(path, int(path.stat().st_size * share))
    assert ("damaged", "train/000000.tar") in kinds(verify(copy))


def test_every_missing_and_every_unknown_file_is_told(tiny: Path, tmp_path: Path) -> None:
    for number, path in enumerate(files(tiny)):
        dataset = shutil.copytree(tiny, tmp_path / str(number))
        name = str(path.relative_to(tiny))
        (dataset / name).unlink()
        expected = ("manifest" if name == MANIFEST else "missing", name)
        assert kinds(verify(dataset)) == {expected}
    for name in ("README", "train/000009.tar", "train/.000000.tar.77"):
        dataset = shutil.copytree(tiny, tmp_path / name.replace("/", "-"))
        (dataset / name).write_bytes(b"")
        assert kinds(verify(dataset)) == {("extra", name)}


def test_an_unfinished_build_is_told_and_not_repaired(copy: Path) -> None:
    (copy / ".build").mkdir()
    report = verify(copy)
    assert kinds(report) == {("extra", ".build")}
    with pytest.raises(InputError, match="build is at work"):
        repair(report)


def test_a_newer_version_and_what_is_no_dataset_are_told(copy: Path, tmp_path: Path) -> None:
    newer = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps({**newer, "version": VERSION + 1}))
    (fault,) = verify(copy).faults
    assert fault.path == MANIFEST
    assert "newer" in fault.what
    assert "upgrade" in fault.mend
    for text in ("", "[" * 100_000, "{}", '"x"', "[]", "null", '{"format": "filmstrip", "version": "1"}'):
        (copy / MANIFEST).write_text(text)
        assert kinds(verify(copy)) == {("manifest", MANIFEST)}
    with pytest.raises(InputError, match="no such folder"):
        verify(tmp_path / "nowhere")


def test_manifest_fields_must_have_their_types(tiny: Path) -> None:
    body = json.loads((tiny / MANIFEST).read_text())
    del body["digest"]

    def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if here[:1] == ("settings",):
            return []  # free
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [here, *(path for name, item in items for path in paths(item, (*here, name)))]

    for path in paths(body)[1:]:
        if path == ("gaze_mean",) or path == ("gaze_std",) or path[-1] in range(3, 103):
            continue
        changed = json.loads(json.dumps(body))
        holder = changed
        for name in path[:-1]:
            holder = holder[name]
        holder[path[-1]] = {"not": ["it"]}
        with pytest.raises(InputError):
            from_json(json.dumps(changed), MANIFEST)


# -- names that lead outside


@pytest.mark.parametrize("name", ["../outside.tar", "/tmp/outside.tar", "a/b.tar", "..", ".hidden.tar", "", "x.txt"])
def test_no_shard_lies_outside_its_folder(copy: Path, name: str) -> None:
    outside = copy.parent / "outside.tar"
    shutil.copyfile(copy / "train" / "000000.tar", outside)
    rewrite(copy, lambda m: with_shard(m, "train", 0, name=name))
    report = verify(copy)
    assert kinds(report) == {("manifest", MANIFEST)}
    with pytest.raises(InputError):
        repair(report)
    with pytest.raises(InputError, match=r"plain file name|no \.tar"):
        open_catalog(copy, "train", [])
    assert outside.exists()


def test_no_split_lies_outside_the_dataset(copy: Path) -> None:
    rewrite(copy, lambda m: replace(m, splits={"../train": m.splits["train"]}))
    assert kinds(verify(copy)) == {("manifest", MANIFEST)}


def test_links_are_told_and_not_followed(tiny: Path, copy: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tiny, elsewhere)
    before = snapshot(elsewhere)
    shutil.rmtree(copy / "test")
    (copy / "test").symlink_to(elsewhere / "test")
    (copy / "train" / "000000.tar").unlink()
    (copy / "train" / "000000.tar").symlink_to(elsewhere / "train" / "000000.tar")
    report = verify(copy)
    assert {("extra", "test"), ("missing", "test/000000.tar"), ("missing", "train/000000.tar")} <= kinds(report)
    repair(report)
    assert snapshot(elsewhere) == before
    assert verify(copy).is_whole
    assert read_manifest(copy).splits["test"].clips == 0


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../outside.audio.wav", tarfile.REGTYPE),
        ("/outside.audio.wav", tarfile.REGTYPE),
        ("a/b.audio.wav", tarfile.REGTYPE),
        ("link.audio.wav", tarfile.SYMTYPE),
        ("hard.audio.wav", tarfile.LNKTYPE),
        ("folder.audio.wav", tarfile.DIRTYPE),
        ("pipe.audio.wav", tarfile.FIFOTYPE),
        ("k" * 200 + ".audio.wav", tarfile.REGTYPE),  # comes as an extension header
    ],
)
def test_odd_entries_of_a_tar_are_told(copy: Path, name: str, kind: bytes) -> None:
    def add(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        info = tarfile.TarInfo(name)
        info.type = kind
        info.linkname = "/etc/hostname"
        entries.insert(1, (info, b""))

    edit_tar(copy, add)
    before = snapshot(copy.parent)
    (fault, *_) = (fault for fault in verify(copy).faults if fault.path == "test/000000.tar")
    assert fault.kind == "tar"
    assert fault.where.startswith("byte ")
    assert snapshot(copy.parent) == before


# -- bombs and wrong contents


def jpeg(width: int, height: int) -> bytes:
    """A small picture whose header claims another size."""
    out = io.BytesIO()
    Image.new("RGB", (16, 32)).save(out, "JPEG")
    data = bytearray(out.getvalue())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def npy(shape: tuple[int, ...], dtype: str = "<f4", numbers: bytes = b"") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": dtype, "fortran_order": False, "shape": shape})
    return out.getvalue() + numbers


BAD_MEMBERS = {
    "picture of 65500 × 65500": ("filmstrip.jpg", jpeg(65500, 65500)),
    "picture of one frame more": ("filmstrip.jpg", jpeg(16, 48)),
    "picture cut off": ("filmstrip.jpg", jpeg(16, 32)[:-40]),
    "picture that is a PNG": ("filmstrip.jpg", b"\x89PNG\r\n\x1a\n" + bytes(100)),
    "no picture": ("filmstrip.jpg", b""),
    "playlist for sound": ("audio.wav", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n"),
    "a sample too many": ("audio.wav", b"RIFF" + bytes(40)),
    "gaze of a terabyte": ("gaze.npy", npy((1 << 38,))),
    "gaze of another shape": ("gaze.npy", npy((3,), numbers=bytes(12))),
    "gaze of objects": ("gaze.npy", npy((103,), "|O", bytes(8 * 103))),
    "gaze not finite": ("gaze.npy", npy((103,), numbers=np.full(103, np.nan, "<f4").tobytes())),
    "map of 4 billion": ("clip.msg", b"\xdf\xff\xff\xff\xff"),
    "list of 4 billion": ("clip.msg", b"\xdd\xff\xff\xff\xff"),
    "text of 4 GB": ("clip.msg", b"\xdb\xff\xff\xff\xff"),
    "lists in lists": ("clip.msg", b"\x91" * 50_000 + b"\xc0"),
    "a long description": ("clip.msg", msgpack.packb({"a": ["b" * 4000] * 100})),
    "description of nothing": ("clip.msg", msgpack.packb({})),
}


def put_member(dataset: Path, suffix: str, data: bytes) -> str:
    """Give the first clip of the test split another member of this suffix; returns the member's name."""
    hit: list[str] = []

    def put(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        number = next(n for n, (info, _) in enumerate(entries) if info.name.endswith(suffix))
        entries[number] = (entries[number][0], data)
        hit.append(entries[number][0].name)

    edit_tar(dataset, put)
    return hit[0]


@pytest.mark.parametrize("name", BAD_MEMBERS)
def test_contents_that_are_not_as_declared_are_told(copy: Path, name: str) -> None:
    hit = put_member(copy, *BAD_MEMBERS[name])
    (fault,) = (fault for fault in verify(copy, decode=True).faults if fault.kind == "content")
    assert fault.path == "test/000000.tar"
    assert fault.where.startswith(hit.partition(".")[0])


def test_sound_of_another_length_or_rate_is_told(copy: Path) -> None:
    def stretch(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        number = next(n for n, (info, _) in enumerate(entries) if info.name.endswith("audio.wav"))
        info, data = entries[number]
        entries[number] = (info, data[:24] + struct.pack("<I", 8000) + data[28:])
        number = next(n for n in range(number + 1, len(entries)) if entries[n][0].name.endswith("audio.wav"))
        info, data = entries[number]
        entries[number] = (info, data[:40] + struct.pack("<I", len(data) - 46) + data[44:-2])

    edit_tar(copy, stretch)
    whats = [fault.what for fault in verify(copy, decode=True).faults if fault.kind == "content"]
    assert whats == ["8000 samples a second instead of 16000", "3999 samples instead of 4000"]


def test_missing_foreign_and_repeated_members_are_told(copy: Path) -> None:
    def spoil(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        key = entries[0][0].name.partition(".")[0]
        entries.append((tarfile.TarInfo(f"{key}.filmstrip.jpg"), b"again"))
        entries.append((tarfile.TarInfo("other.notes.txt"), b"what?"))
        del entries[1]

    edit_tar(copy, spoil)
    whats = " ".join(fault.what for fault in verify(copy).faults if fault.path == "test/000000.tar")
    assert "the clip has no audio.wav" in whats
    assert "the key occurs twice" in whats
    assert "'notes.txt' is no member" in whats


# -- catalogs, indices, splits


def shifted(table: pa.Table) -> pa.Table:
    return set_column(table, "audio_offset", [offset + 512 for offset in table["audio_offset"].to_pylist()])


CATALOG_FAULTS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "offset": shifted,
    "row missing": lambda table: table.slice(1),
    "rows turned round": lambda table: table.take(list(range(len(table)))[::-1]),
    "key": lambda table: set_column(table, "key", ["other", *table["key"].to_pylist()[1:]]),
    "key outside": lambda table: set_column(table, "key", ["../x", *table["key"].to_pylist()[1:]]),
    "speaker": lambda table: set_column(table, "speaker", ["someone", *table["speaker"].to_pylist()[1:]]),
    "start": lambda table: set_column(table, "start", [float("inf"), *table["start"].to_pylist()[1:]]),
    "class": lambda table: set_column(table, "emotion", ["bored", *table["emotion"].to_pylist()[1:]]),
    "class taken away": lambda table: set_column(table, "emotion", [None] * len(table)),
    "number": lambda table: set_column(table, "arousal", [1.01, *table["arousal"].to_pylist()[1:]]),
    "no number": lambda table: set_column(table, "arousal", [float("nan"), *table["arousal"].to_pylist()[1:]]),
    "column missing": lambda table: table.drop_columns(["start"]),
    "no table": lambda table: pa.table({"x": [1]}),
}


@pytest.mark.parametrize("name", CATALOG_FAULTS)
def test_catalogs_that_say_otherwise_are_told_and_made_again(tiny: Path, copy: Path, name: str) -> None:
    edit_catalog(copy, "train", CATALOG_FAULTS[name])
    report = verify(copy)
    assert ("catalog", "train/clips.parquet") in kinds(report)
    repair(report)
    assert snapshot_without_quarantine(copy) == snapshot(tiny)


def snapshot_without_quarantine(dataset: Path) -> dict[str, bytes]:
    return {name: data for name, data in snapshot(dataset).items() if not name.startswith(QUARANTINE)}


def test_an_index_that_is_not_the_tars_is_told(copy: Path) -> None:
    path = copy / "train" / "000001.idx"
    path.write_text(path.read_text().replace("audio.wav", "audio.wav ", 1))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    rewrite(copy, lambda m: with_shard(m, "train", 1, index_sha256=digest))
    (fault,) = verify(copy).faults
    assert (fault.kind, fault.path, fault.where) == ("index", "train/000001.idx", "line 2")


def test_counts_and_statistics_must_be_true(copy: Path) -> None:
    manifest = read_manifest(copy)
    assert manifest.gaze_mean is not None
    train = manifest.splits["train"]
    m = manifest.members[0]
    wrong = [
        replace(manifest, splits={**manifest.splits, "train": replace(train, speakers=train.speakers + 1)}),
        replace(manifest, splits={**manifest.splits, "train": replace(train, clips=train.clips + 1)}),
        with_shard(manifest, "train", 0, clips=train.shards[0].clips + 1),
        replace(manifest, rejected={"silent": 3}),
        replace(manifest, gaze_mean=(manifest.gaze_mean[0] + 0.01, *manifest.gaze_mean[1:])),
        replace(manifest, gaze_std=None),
        replace(manifest, members=tuple(m for m in manifest.members if m.name != "gaze")),
        replace(manifest, apart="hair"),
        with_shard(manifest, "train", 0, clips=1 << 70),
        with_shard(manifest, "train", 0, clips=-1),
        with_shard(manifest, "train", 0, bytes=1 << 70),
        *(replace(manifest, members=(replace(m, dtype=d), *manifest.members[1:])) for d in ("map", "O", "x", "")),
        replace(manifest, members=(replace(m, shape=(1 << 40, 16, 16, 3)), *manifest.members[1:])),
        replace(manifest, members=manifest.members[:-1]),
        with_shard(manifest, "train", 1, name=train.shards[0].name),
    ]
    for changed in wrong:
        write_manifest(copy, changed)
        assert not verify(copy).is_whole, changed


@pytest.mark.parametrize(("apart", "column"), [("speaker", "speaker"), ("speaker", "video"), ("video", "video")])
def test_what_leaks_between_splits_is_told(tiny: Path, copy: Path, apart: str, column: str) -> None:
    theirs = pq.read_table(tiny / "train" / "clips.parquet", columns=[column])[column][0].as_py()
    edit_catalog(copy, "test", lambda table: set_column(table, column, [theirs] * len(table)))
    rewrite(copy, lambda m: replace(m, apart=apart))
    leaks = [fault for fault in verify(copy).faults if fault.kind == "leak"]
    assert [(fault.where, column in fault.what) for fault in leaks] == [(theirs, True)]


def test_a_name_that_each_speaker_has_is_no_leak_and_a_speakers_own_is(namesakes: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(namesakes, tmp_path / "dataset"))
    for apart in ("speaker", "video"):
        rewrite(copy, lambda m, apart=apart: replace(m, apart=apart))  # type: ignore[misc]
        assert verify(copy, sample=0).is_whole
    edit_catalog(copy, "test", lambda table: set_column(table, "speaker", ["train-s0"] * len(table)))
    leaks = [fault for fault in verify(copy, sample=0).faults if fault.kind == "leak"]
    assert [(fault.where, "the video is also in train" in fault.what) for fault in leaks] == [
        (f"train-s0/v{number}", True) for number in range(3)
    ]
    rewrite(copy, lambda m: replace(m, video_names="corpus"))
    told = [(fault.kind, fault.what) for fault in verify(copy, sample=0).faults]
    assert ("catalog", f"3 videos where {MANIFEST} counts 15") in told


def test_a_repaired_catalog_counts_videos_as_the_build_did(namesakes: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(namesakes, tmp_path / "dataset"))
    (copy / "train/clips.parquet").unlink()
    repair(verify(copy, sample=0))
    assert read_manifest(copy) == read_manifest(namesakes)


def test_what_the_build_did_not_promise_is_no_leak(tiny: Path, copy: Path) -> None:
    theirs = pq.read_table(tiny / "train" / "clips.parquet", columns=["speaker"])["speaker"][0].as_py()
    edit_catalog(copy, "test", lambda table: set_column(table, "speaker", [theirs] * len(table)))
    rewrite(copy, lambda m: replace(m, apart="video"))
    assert "leak" not in {fault.kind for fault in verify(copy).faults}


def test_a_split_copied_into_another_is_told_twice_over(copy: Path) -> None:
    shutil.copytree(copy / "test", copy / "validation")
    rewrite(copy, lambda m: replace(m, splits={**m.splits, "validation": m.splits["test"]}))
    report = verify(copy)
    found = {fault.kind for fault in report.faults}
    assert found == {"duplicate", "leak"}
    clips = read_manifest(copy).splits["test"].clips
    assert sum(fault.kind == "duplicate" for fault in report.faults) == clips
    assert sum("the same clip" in fault.what for fault in report.faults) == clips


# -- repair


def test_repair_makes_catalogs_and_indices_again_to_the_byte(tiny: Path, copy: Path) -> None:
    (copy / "train" / "clips.parquet").write_bytes(b"rot")
    (copy / "test" / "clips.parquet").unlink()
    (copy / "train" / "000000.idx").unlink()
    (copy / "test" / "000000.idx").write_bytes(b"rot")
    (copy / "train" / "stray").write_bytes(b"kept")
    report = verify(copy)
    done = repair(report)
    assert snapshot_without_quarantine(copy) == snapshot(tiny)
    quarantined = snapshot(copy / QUARANTINE / "1")
    assert quarantined["train/clips.parquet"] == quarantined["test/000000.idx"] == b"rot"
    assert quarantined["train/stray"] == b"kept"
    assert any("stray" in line for line in done)


def test_repair_takes_out_faulty_shards_and_loses_nothing(tiny: Path, copy: Path) -> None:
    path = copy / "train" / "000000.tar"
    damaged = bytearray(path.read_bytes())
    damaged[600] ^= 255
    path.write_bytes(damaged)
    before, manifest = snapshot(copy), read_manifest(tiny)
    report = verify(copy)
    done = repair(report)
    assert any("train/000000.tar" in line and "moved" in line for line in done)
    quarantined = snapshot(copy / QUARANTINE / "1")
    assert quarantined["train/000000.tar"] == bytes(damaged)
    now = snapshot_without_quarantine(copy)
    for name, data in before.items():
        assert data in (now.get(name), quarantined.get(name)), name
    after = read_manifest(copy)
    assert after.splits["test"] == manifest.splits["test"]
    assert after.splits["train"].shards == manifest.splits["train"].shards[1:]
    assert after.splits["train"].clips == manifest.splits["train"].shards[1].clips
    assert verify(copy, decode=True).is_whole
    catalog = open_catalog(copy, "train", ["filmstrip", "audio"])
    shards = Shards(catalog)
    assert all(shards.read(member, row) is not None for member in catalog.members for row in range(len(catalog)))


def test_a_repair_that_was_killed_is_finished_by_the_next(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate(copy / "train" / "000001.tar", 1000)
    (copy / "test" / "000000.idx").unlink()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    report = verify(copy)
    with monkeypatch.context() as patch:
        patch.setattr("sharding.checks.repair.write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            repair(report)
    assert not verify(copy).is_whole
    repair(verify(copy))
    assert verify(copy).is_whole
    assert len(read_manifest(copy).splits["train"].shards) == 1


def test_repair_replaces_the_table_of_the_rejected(copy: Path) -> None:
    row = dict.fromkeys(("split", "speaker", "video", "utterance", "path", "reason", "detail"), "silent")
    digest = write_rejected(copy, [row])
    rewrite(copy, lambda m: replace(m, rejected={"silent": 1}, rejected_sha256=digest))
    assert verify(copy).is_whole
    (copy / "rejected.parquet").write_bytes(b"rot")
    repair(verify(copy))
    assert verify(copy).is_whole
    assert read_manifest(copy).rejected == {}
    assert from_json((copy / QUARANTINE / "1" / MANIFEST).read_text(), "").rejected == {"silent": 1}


def test_repair_refuses_where_nothing_would_be_left(copy: Path) -> None:
    for path in copy.rglob("*.tar"):
        os.truncate(path, 100)
    before = snapshot(copy)
    with pytest.raises(InputError, match="no shard of it is whole"):
        repair(verify(copy))
    assert snapshot(copy) == before


# -- the command line


def run(*arguments: str, capture: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["verify.py", *arguments])
    try:
        command.main()
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    out = capture.readouterr()
    return code, out.out + out.err


def test_exit_status_and_report(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with counted_parses() as parses:
        code, out = run(str(copy), capture=capsys, monkeypatch=monkeypatch)
    assert len(parses) == 1
    assert code == 0
    assert "whole" in out
    (copy / "train" / "000000.idx").write_bytes(b"rot")
    code, out = run(str(copy), "--json", capture=capsys, monkeypatch=monkeypatch)
    assert code == 1
    assert {fault["path"] for fault in json.loads(out)["faults"]} == {"train/000000.idx"}
    code, out = run(str(copy), "--repair", capture=capsys, monkeypatch=monkeypatch)
    assert code == 1
    assert "train/000000.idx" in out
    assert "made again" in out
    assert run(str(copy), capture=capsys, monkeypatch=monkeypatch)[0] == 0
    for wrong in (
        ["--sample", "-1"],
        ["--workers", "0"],
        ["--shortcut", "--repair"],
        ["--shortcut", "--sample", "5"],
        ["--decode", "--sample", "5"],
    ):
        code, out = run(str(copy), *wrong, capture=capsys, monkeypatch=monkeypatch)
        assert code == 2
        assert out.startswith("error: --")
    assert run(str(copy / "nowhere"), capture=capsys, monkeypatch=monkeypatch)[0] == 2


def test_it_runs_as_a_script(tiny: Path) -> None:
    script = [sys.executable, str(ROOT / "sharding" / "verify.py"), str(tiny), "--json"]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=60, cwd=tiny)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["whole"]


def test_shards_are_described_by_more_than_their_tar(tiny: Path) -> None:
    for split, entry in read_manifest(tiny).splits.items():
        shard: Shard
        for shard in entry.shards:
            assert sha256_of(tiny / split / shard.name) == shard.sha256
            assert sha256_of((tiny / split / shard.name).with_suffix(".idx")) == shard.index_sha256


# Of other tools -------------------------------------------------------------------------------------------------------


SIDECARS = {
    "Energon": (
        ".nv-meta/.info.json",
        ".nv-meta/index.sqlite",
        ".nv-meta/split.yaml",
        "train/000000.tar.idx",
        "test/.nv-meta/x",
    ),
    "wids": ("shardindex.json",),
    "the Hugging Face Hub": (".gitattributes", "train/README.md", ".cache/huggingface/download/x.metadata"),
    "a file system": (".DS_Store", "train/._000000.tar", "train/.nfs0000000002a4b1d300000001", "test/Thumbs.db"),
}


def with_sidecars(dataset: Path) -> dict[str, bytes]:
    for name in (name for names in SIDECARS.values() for name in names):
        (dataset / name).parent.mkdir(parents=True, exist_ok=True)
        (dataset / name).write_bytes(name.encode())
    return {name: (dataset / name).read_bytes() for names in SIDECARS.values() for name in names}


def test_what_other_tools_put_there_is_noted_and_no_fault(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_sidecars(copy)
    report = verify(copy)
    assert report.is_whole, report.faults
    assert set(report.beside) == set(SIDECARS)
    assert report.beside["Energon"] == (".nv-meta", "test/.nv-meta", "train/000000.tar.idx")
    monkeypatch.setattr(sys, "argv", ["verify.py", str(copy)])
    command.main()
    printed = capsys.readouterr().out
    assert "beside it, of Energon: .nv-meta, test/.nv-meta, train/000000.tar.idx\n" in printed
    monkeypatch.setattr(sys, "argv", ["verify.py", str(copy), "--json"])
    command.main()
    assert json.loads(capsys.readouterr().out)["beside"]["wids"] == ["shardindex.json"]


def test_a_repair_leaves_them_where_they_are(copy: Path) -> None:
    sidecars = with_sidecars(copy)
    (copy / "train/000000.tar").write_bytes(b"cut short")
    (copy / "train/notes.txt").write_text("not of any tool")
    done = repair(verify(copy))
    assert {name: (copy / name).read_bytes() for name in sidecars} == sidecars
    assert not (copy / "train/notes.txt").exists()
    told = [line for line in done if "tells of the dataset as it was" in line]
    assert sorted(line.split(": ")[0] for line in told) == [
        str(copy / name) for name in (".cache", ".nv-meta", "shardindex.json")
    ]
    assert verify(copy).is_whole


# In an object store ---------------------------------------------------------------------------------------------------


def test_a_remote_dataset_is_held_to_the_same(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    url = "s3://bucket/vox"
    with s3_server():
        store = Store(url=url, pause=0.01)
        with pytest.raises(InputError, match=f"{url}: no dataset there"):
            verify(Path(url))

        def upload() -> None:
            store.remove(store.sizes())
            for path in copy.rglob("*"):
                if path.is_file():
                    store.put(path, path.relative_to(copy).as_posix())

        def compared() -> list[tuple[str, str, str, str]]:
            local, remote = verify(copy, decode=True), verify(Path(url), decode=True)
            assert (remote.clips, remote.decoded, remote.bytes) == (local.clips, local.decoded, local.bytes)
            faults = [(fault.kind, fault.path, fault.where, fault.what) for fault in remote.faults]
            assert faults == [(fault.kind, fault.path, fault.where, fault.what) for fault in local.faults]
            return faults

        upload()
        assert compared() == []
        shutil.copytree(copy, tmp_path / "without")
        with_sidecars(copy)
        upload()
        assert compared() == []
        found = verify(Path(url)).beside
        assert set(found) == set(SIDECARS)
        assert found["wids"] == ("shardindex.json",)
        assert found["a file system"] == verify(copy).beside["a file system"]
        shutil.rmtree(copy)
        (tmp_path / "without").rename(copy)
        for name, at in (("train/000001.tar", 5000), ("test/000000.idx", 20), ("test/clips.parquet", 300)):
            data = bytearray((copy / name).read_bytes())
            data[at] ^= 4
            (copy / name).write_bytes(data)
        (copy / "train/000000.tar").unlink()
        (copy / "train/more.txt").write_text("not ours")
        upload()
        faulty = {path for _, path, _, _ in compared()}
        assert faulty >= {
            "train/000001.tar", "test/000000.idx", "test/clips.parquet", "train/000000.tar", "train/more.txt",
        }  # fmt: skip
        assert all("copy" in fault.mend for fault in verify(Path(url)).faults if "--repair" in fault.mend)
        (copy / "dataset.json").write_text((copy / "dataset.json").read_text() + " ")
        upload()
        assert [path for _, path, _, _ in compared()] == ["dataset.json"]
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("option", ["--repair", "--shortcut"])
def test_what_cannot_be_done_in_a_store_is_refused(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["verify.py", "s3://bucket/vox", option])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: s3://bucket/vox: --shortcut and --repair take a folder: copy the dataset to one\n"
    )


def test_offsets_that_are_false_are_a_fault_of_the_clip_and_none_at_all_are_not(tmp_path: Path) -> None:
    """With right checksums: what a build wrote so."""
    written = itertools.count()

    def encode(*arguments: Any, **options: Any) -> bytes:
        jpeg, number = encode_filmstrip(*arguments, **options), next(written)
        at = jpeg.index(b"filmstrip\0") + len(b"filmstrip\0")
        if number == 1:
            return jpeg[: at + 4] + jpeg[at : at + 4] + jpeg[at + 8 :]
        return jpeg if number else jpeg[: at - 14] + jpeg[at + 8 :]  # the first: as from before

    with mock.patch("sharding.packing.clips.encode_filmstrip", encode):
        make_dataset(tmp_path / "dataset", TINY, SETTINGS)
    report = verify(tmp_path / "dataset", decode=True)
    (fault,) = report.faults
    assert (fault.kind, fault.path) == ("content", "train/000000.tar")
    assert fault.where.endswith(".filmstrip.jpg")
    assert "frames do not lie where its header says" in fault.what

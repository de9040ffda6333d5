"""Shards as other programs read them, receipts, and files that are whole or absent."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from loaders.dataset.labels import Label
from loaders.storage.atomic import atomic_write, sha256_of
from sharding.members.declared import members_of
from sharding.packing.clips import EncodedClip
from sharding.packing.writer import Moments, ShardWriter, read_receipt, write_receipt
from sharding.settings import BuildSettings
from sharding.utterance import Utterance

MEMBERS = members_of(BuildSettings())
LABELS = (
    Label(name="mood", classes=("sad", "glad")),
    Label(name="sleep", classes=("deep", "light")),
    Label(name="level", low=0.0, high=1.0),
)
UTTERANCE = Utterance(
    corpus="c",
    split="train",
    speaker="s",
    video="v",
    utterance="u",
    video_path=Path("v.mp4"),
    labels={"mood": "glad", "level": 0.5},
)
CONTENTS = st.lists(
    st.fixed_dictionaries(
        {name: st.binary(max_size=2000) for name in ("filmstrip", "audio", "clip")},
        optional={"gaze": st.binary(min_size=1, max_size=2000)},
    ),
    min_size=1,
    max_size=5,
)


def clips(contents: list[dict[str, bytes]]) -> list[EncodedClip]:
    return [
        EncodedClip(key=f"k+{n:03d}", members=members, start=2.0 * n, padded=0.0, gaze=None, gaze_problem=None)
        for n, members in enumerate(contents)
    ]


def write(contents: list[dict[str, bytes]]) -> tuple[bytes, Any]:
    file = io.BytesIO()
    writer = ShardWriter(file, MEMBERS, LABELS)
    for clip in clips(contents):
        writer.add(UTTERANCE, clip)
    written = writer.close()
    return file.getvalue(), written


@given(CONTENTS)
def test_a_shard_is_a_tar_whose_members_lie_where_the_catalog_says(contents: list[dict[str, bytes]]) -> None:
    data, written = write(contents)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        files = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    assert len(data) == written.bytes
    assert hashlib.sha256(data).hexdigest() == written.sha256
    for row, members in zip(written.rows.to_pylist(), contents, strict=True):
        for member in MEMBERS:
            if member.name not in members:
                assert row[f"{member.name}_size"] is None
                continue
            content = members[member.name]
            offset = row[f"{member.name}_offset"]
            assert files.pop(f"{row['key']}.{member.suffix}") == content
            assert data[offset : offset + row[f"{member.name}_size"]] == content
            assert xxhash.xxh3_64_intdigest(content) == row[f"{member.name}_xxh3"]
            assert f"{member.suffix} {offset} {len(content)} {row['key']}.{member.suffix}" in written.index
        assert (row["speaker"], row["mood"], row["sleep"], row["level"]) == ("s", "glad", None, 0.5)
    assert not files


def test_webdataset_reads_it(tmp_path: Path) -> None:
    contents = [{"filmstrip": b"a", "audio": b"b", "clip": b"c"}, {"filmstrip": b"d", "audio": b"e", "clip": b"f"}]
    data, _ = write(contents)
    (tmp_path / "000000.tar").write_bytes(data)
    samples = list(webdataset.WebDataset(str(tmp_path / "000000.tar"), shardshuffle=False))
    assert [(s["__key__"], s["filmstrip.jpg"], s["audio.wav"], s["clip.msg"]) for s in samples] == [
        ("k+000", b"a", b"b", b"c"),
        ("k+001", b"d", b"e", b"f"),
    ]


@given(CONTENTS)
def test_the_same_clips_give_the_same_bytes(contents: list[dict[str, bytes]]) -> None:
    assert write(contents)[0] == write(contents)[0]


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(TypeError), atomic_write(path) as file:
        file.writelines([b"half", "no bytes"])  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []
    with atomic_write(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    with pytest.raises(ValueError, match="no"), atomic_write(path):
        raise ValueError("no")
    assert path.read_bytes() == b"whole"
    assert sha256_of(path) == hashlib.sha256(b"whole").hexdigest()


def test_a_receipt_comes_back(tmp_path: Path) -> None:
    _, written = write([{"filmstrip": b"a", "audio": b"b", "clip": b"c"}])
    facts = {"digest": "d", "clips": 1, "rejected": [{"path": "Größe"}]}
    write_receipt(tmp_path / "r.parquet", written.rows, facts)
    assert read_receipt(tmp_path / "r.parquet") == facts


@given(
    arrays(np.float64, st.tuples(st.integers(1, 30), st.just(3)), elements=st.floats(-1e3, 1e3)),
    st.lists(st.integers(0, 30), max_size=4),
)
def test_moments_are_those_of_all_vectors_however_they_are_joined(
    vectors: np.ndarray[Any, np.dtype[np.float64]], cuts: list[int]
) -> None:
    whole = Moments(3)
    for part in np.split(vectors, sorted(cuts)):
        moments = Moments(3)
        for vector in part:
            moments.add(1, vector, np.zeros(3))
        whole.add(moments.count, moments.mean, moments.squares)
    assert whole.count == len(vectors)
    np.testing.assert_allclose(whole.mean, vectors.mean(0), atol=1e-9)
    np.testing.assert_allclose(whole.deviation(), vectors.std(0), atol=1e-6)

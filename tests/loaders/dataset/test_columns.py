"""One table says what is said of a clip; a built dataset holds what it says, in its order."""

import tarfile
from dataclasses import fields
from pathlib import Path

import msgpack
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loaders.dataset.catalog import schema
from loaders.dataset.columns import (
    CATALOGUED,
    COLUMNS,
    DESCRIBED,
    NAME,
    NAMES,
    SAID_TWICE,
    member_columns,
    stated,
    values,
    with_labels,
)
from loaders.dataset.manifest import read_manifest
from sharding.packing.clips import EncodedClip
from sharding.settings import BuildSettings
from sharding.utterance import Rejection, Utterance
from tests.datasets import LABELS, Contents, make_dataset


def test_every_column_is_a_field_of_where_it_comes_from() -> None:
    sources = {"utterance": Utterance, "clip": EncodedClip, "settings": BuildSettings}
    for column in COLUMNS:
        assert column.in_catalog or column.in_description
        if column.source != "shard":
            assert column.name in {field.name for field in fields(sources[column.source])}, column.name
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)


def test_what_a_corpus_says_of_an_utterance_is_held_against_it_when_it_is_extended() -> None:
    """All that is the utterance's, but whose it is."""
    of_utterance = [column.name for column in COLUMNS if column.source == "utterance"]
    assert [name for name in of_utterance if name != "corpus"] == [*NAMES, *stated(())]
    assert stated(LABELS) == (*stated(()), "emotion", "arousal", "valence")
    assert set(NAMES) < {field.name for field in fields(Rejection)}


def test_a_column_that_nobody_gives_is_an_error() -> None:
    utterance = Utterance(corpus="c", split="s", speaker="a", video="b", utterance="d", video_path=Path())
    assert values(CATALOGUED[:2], utterance, {}, {"key": "k", "shard": 3}) == {"key": "k", "shard": 3}
    with pytest.raises(KeyError, match="shard"):
        values(CATALOGUED, utterance, {}, {"key": "k"})


def test_a_label_that_nobody_states_is_none() -> None:
    utterance = Utterance(corpus="c", split="s", speaker="a", video="b", utterance="d", video_path=Path())
    said = values(with_labels(CATALOGUED[:1], LABELS), utterance, {"valence": 0.5}, {"key": "k"})
    assert said == {"key": "k", "emotion": None, "arousal": None, "valence": 0.5}
    assert list(said) == ["key", "emotion", "arousal", "valence"]


def test_catalogs_and_descriptions_have_the_columns_of_the_table(tmp_path: Path) -> None:
    make_dataset(tmp_path, Contents(speakers={"train": 1}, shards={"train": 1}, videos=1, utterances=1, clips=1))
    manifest = read_manifest(tmp_path)
    of_members = {name: kind for member in manifest.members for name, kind in member_columns(member.name).items()}
    columns = [(column.name, column.type) for column in with_labels(CATALOGUED, manifest.labels)]
    assert columns[len(CATALOGUED) :] == [("emotion", NAME), ("arousal", pa.float32()), ("valence", pa.float32())]
    expected = pa.schema([*columns, *of_members.items()])
    assert pq.read_schema(tmp_path / "train/clips.parquet").equals(expected)
    assert schema(manifest.members, manifest.labels).equals(expected)
    row = pq.read_table(tmp_path / "train/clips.parquet").to_pylist()[0]
    with tarfile.open(tmp_path / "train/000000.tar") as tar:
        file = tar.extractfile(f"{row['key']}.clip.msg")
        assert file is not None
        described = msgpack.unpackb(file.read())
    assert list(described) == [column.name for column in with_labels(DESCRIBED, manifest.labels)]
    for column in with_labels(SAID_TWICE, manifest.labels):
        said = described[column.name]
        if said is not None and not pa.types.is_dictionary(column.type):
            said = pa.scalar(said, column.type).as_py()  # as narrow as in the catalog
        assert row[column.name] == said

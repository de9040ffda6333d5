"""The catalog's arrays are the columns of clips.parquet, and a catalog that is not the dataset's is refused."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loaders.dataset.catalog import open_catalog, schema, utterances
from loaders.dataset.columns import NAME
from loaders.dataset.manifest import CATALOG, read_manifest, write_manifest
from loaders.errors import InputError
from tests.damage import copy_of, declare_catalog, edit_catalog
from tests.datasets import CONTENTS, EMOTIONS

MEMBERS = ("filmstrip", "audio", "gaze", "clip")


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_arrays_are_the_tables_columns(dataset: Path, split: str) -> None:
    catalog = open_catalog(dataset, split, MEMBERS)
    rows = pq.read_table(dataset / split / CATALOG).to_pylist()
    assert len(catalog) == len(rows) == read_manifest(dataset).splits[split].clips
    for name in ("shard", "start"):
        assert getattr(catalog, name).tolist() == [row[name] for row in rows]
    for member in MEMBERS:
        for part in ("offset", "size", "xxh3"):
            stored = [row[f"{member}_{part}"] or 0 for row in rows]
            assert getattr(catalog.members[member], part).tolist() == stored


def test_the_types_are_those_declared(dataset: Path) -> None:
    catalog = open_catalog(dataset, "train", ["gaze"])
    kinds = {"shard": "i4", "speaker": "i4", "video": "i4", "utterance": "i4", "start": "f8"}
    assert {name: getattr(catalog, name).dtype.str[1:] for name in kinds} == kinds
    gaze = catalog.members["gaze"]
    assert [column.dtype.str[1:] for column in (gaze.offset, gaze.size, gaze.xxh3)] == ["u4", "u4", "u8"]


@pytest.mark.parametrize("name", ["speaker", "video", "utterance"])
def test_equal_numbers_are_equal_names_across_shards(dataset: Path, name: str) -> None:
    catalog = open_catalog(dataset, "train", [])
    names = catalog.table([name])[name].to_pylist()
    codes = getattr(catalog, name).tolist()
    assert len(set(zip(names, codes, strict=True))) == len(set(names)) == len(set(codes)) > 1
    shards = {shard for shard, code in zip(catalog.shard, codes, strict=True) if code == codes[0]}
    assert len(shards) > 1


@pytest.mark.parametrize("split", ["train", "test"])
def test_equal_numbers_are_equal_videos_whoever_shares_their_names(namesakes: Path, split: str) -> None:
    catalog = open_catalog(namesakes, split, [])
    speaker, video, utterance = (catalog.table([name])[name].to_pylist() for name in ("speaker", "video", "utterance"))
    videos, codes = list(zip(speaker, video, strict=True)), catalog.video.tolist()
    assert len(set(videos)) == CONTENTS.speakers[split] * CONTENTS.videos > len(set(video))
    assert len(set(zip(videos, codes, strict=True))) == len(set(codes)) == len(set(videos))
    assert catalog.video.dtype == np.int32
    assert max(codes) == len(set(codes)) - 1
    numbers = utterances(catalog).tolist()
    named = list(zip(videos, utterance, strict=True))
    assert len(set(zip(named, numbers, strict=True))) == len(set(numbers)) == len(set(named))


def test_names_of_the_whole_corpus_are_one_video_each(namesakes: Path, tmp_path: Path) -> None:
    """As of a YouTube id: where two speak in one video, it is one."""
    copy = copy_of(namesakes, tmp_path / "copy")
    write_manifest(copy, replace(read_manifest(copy), video_names="corpus"))
    ours, theirs = open_catalog(copy, "train", []), open_catalog(namesakes, "train", [])
    assert len(np.unique(ours.video)) == CONTENTS.videos
    assert utterances(ours).max() == utterances(theirs).max()  # one video's, and still of several speakers


def test_a_clip_without_gaze_has_a_size_of_nought(dataset: Path) -> None:
    sizes = open_catalog(dataset, "train", MEMBERS).members["gaze"].size
    assert set(np.unique(sizes)) == {0, 128 + 4 * 103}
    assert (open_catalog(dataset, "train", MEMBERS).members["filmstrip"].size > 0).all()


def test_only_what_is_asked_for_is_read(dataset: Path) -> None:
    assert set(open_catalog(dataset, "train", ["audio"]).members) == {"audio"}
    assert open_catalog(dataset, "train", ["audio"]).table(["key", "valence"]).column_names == ["key", "valence"]


def test_keys_are_unique_and_hold_no_dots(dataset: Path) -> None:
    keys = open_catalog(dataset, "train", []).table(["key"])["key"].to_pylist()
    assert len(set(keys)) == len(keys)
    assert not any("." in key or "/" in key for key in keys)


def test_the_table_has_the_columns_of_the_schema(dataset: Path) -> None:
    manifest = read_manifest(dataset)
    declared = schema(manifest.members, manifest.labels)
    assert pq.read_schema(dataset / "train" / CATALOG).equals(declared)


# -- labels


@pytest.mark.parametrize("more", [1 << 15, 1 << 16])
def test_a_label_may_have_more_classes_than_16_bits_count(dataset: Path, tmp_path: Path, more: int) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    manifest = read_manifest(copy)
    others = tuple(f"class {number}" for number in range(more))
    labels = tuple(
        replace(label, classes=(*others, *EMOTIONS)) if label.name == "emotion" else label for label in manifest.labels
    )
    write_manifest(copy, replace(manifest, labels=labels))
    few = open_catalog(dataset, "train", [], labels=["emotion"]).targets["emotion"]
    many = open_catalog(copy, "train", [], labels=["emotion"]).targets["emotion"]
    assert many.tolist() == [code if code < 0 else code + more for code in few.tolist()]


@pytest.mark.parametrize("split", ["train", "test"])
def test_targets_are_what_the_table_says_by_the_order_of_the_classes(dataset: Path, split: str) -> None:
    catalog = open_catalog(dataset, split, [], labels=["valence", "emotion"])
    table = catalog.table(["emotion", "valence"])
    emotion, valence = catalog.targets["emotion"], catalog.targets["valence"]
    assert (emotion.dtype, valence.dtype) == (np.int16, np.float32)
    assert emotion.tolist() == [-1 if name is None else EMOTIONS.index(name) for name in table["emotion"].to_pylist()]
    stated = [np.nan if number is None else number for number in table["valence"].to_pylist()]
    assert np.array_equal(valence, np.array(stated, np.float32), equal_nan=True)
    assert 0 < (emotion == -1).sum() < len(catalog)
    assert np.array_equal(np.isnan(valence), emotion == -1)
    assert emotion.flags.writeable  # copies: Arrow's memory is let go


def test_of_no_label_no_target_is_read(dataset: Path) -> None:
    assert open_catalog(dataset, "train", []).targets == {}
    assert set(open_catalog(dataset, "train", [], labels=["arousal"]).targets) == {"arousal"}


def test_a_label_of_which_nothing_is_stated_is_all_none(dataset: Path, tmp_path: Path) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    for name in ("emotion", "arousal"):
        edit_catalog(copy, "train", partial(set_column, name=name, values=[None] * 62))
    targets = open_catalog(copy, "train", [], labels=["emotion", "arousal"]).targets
    assert targets["emotion"].tolist() == [-1] * 62
    assert np.isnan(targets["arousal"]).all()


def test_a_class_that_is_not_declared_is_refused_by_name_and_one_that_nobody_has_is_not(
    dataset: Path, tmp_path: Path
) -> None:
    """A name in Arrow's dictionary alone, of rows that are gone, is nobody's."""
    copy = copy_of(dataset, tmp_path / "copy")
    column = pa.DictionaryArray.from_arrays(pa.array([None, 1, *[0] * 60], pa.int32()), ["fear", "anger", "boredom"])

    def change(table: pa.Table) -> pa.Table:
        return table.set_column(table.schema.get_field_index("emotion"), "emotion", column)

    edit_catalog(copy, "train", change)
    found = open_catalog(copy, "train", [], labels=["emotion"]).targets["emotion"]
    assert found[:3].tolist() == [-1, EMOTIONS.index("anger"), EMOTIONS.index("fear")]
    edit_catalog(copy, "train", partial(set_column, name="emotion", values=["fear", "boredom", *["anger"] * 60]))
    with pytest.raises(InputError, match=r"the emotion 'boredom', which is none of anger, disgust, .*verify"):
        open_catalog(copy, "train", [], labels=["emotion"])
    assert len(open_catalog(copy, "train", [])) == 62  # who does not ask is not told


def test_an_unknown_label_is_refused_with_those_that_there_are(dataset: Path) -> None:
    with pytest.raises(InputError, match="no label 'mood', only emotion, arousal, valence"):
        open_catalog(dataset, "train", [], labels=["emotion", "mood"])


def set_column(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    kind = table.schema.field(name).type
    column = pa.array(values, pa.string()).dictionary_encode() if kind == NAME else pa.array(values, kind)
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), column.cast(kind))


def refusal(dataset: Path, split: str = "train", members: tuple[str, ...] = MEMBERS) -> str:
    with pytest.raises(InputError) as refused:
        open_catalog(dataset, split, members)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_the_dataset_does_not_have_is_refused_by_name(dataset: Path, tmp_path: Path) -> None:
    assert "'validation'" in refusal(dataset, split="validation")
    assert "'smell'" in refusal(dataset, members=("filmstrip", "smell"))
    assert "no such folder" in refusal(tmp_path / "nowhere")


def test_a_catalog_of_another_length_is_refused(dataset: Path, tmp_path: Path) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    edit_catalog(copy, "train", lambda table: table.slice(1))
    assert "clips where dataset.json counts" in refusal(copy)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "no table", "columns gone"])
def test_a_catalog_that_cannot_be_read_is_refused(dataset: Path, tmp_path: Path, damage: str) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    path = copy / "train" / CATALOG
    if damage == "missing":
        path.unlink()
    elif damage == "columns gone":
        edit_catalog(copy, "train", lambda table: table.drop_columns(["audio_xxh3"]))
    else:
        path.write_bytes({"empty": b"", "cut": path.read_bytes()[:-100], "no table": bytes(5000)}[damage])
        assert "SHA-256" in refusal(copy)
        declare_catalog(copy, "train")
    assert "cannot be read as a catalog" in refusal(copy)


def test_no_flipped_bit_of_a_catalog_is_used(dataset: Path, tmp_path: Path, full: bool) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    path = copy / "train" / CATALOG
    whole = path.read_bytes()
    draw = np.random.default_rng(0)
    for at in draw.integers(0, 8 * len(whole), 1500 if full else 300).tolist():
        flipped = bytearray(whole)
        flipped[at // 8] ^= 1 << at % 8
        path.write_bytes(flipped)
        assert CATALOG in refusal(copy)
    path.write_bytes(whole)
    open_catalog(copy, "train", MEMBERS)


def test_strings_are_of_the_catalog_that_was_opened_or_none(dataset: Path, tmp_path: Path) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    catalog = open_catalog(copy, "train", MEMBERS)
    path = copy / "train" / CATALOG
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(InputError, match=CATALOG):
        catalog.table(["key"])


def test_a_relative_path_with_a_colon_is_a_path(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_of(dataset, tmp_path / "vox:1" / "ds")
    monkeypatch.chdir(tmp_path)
    catalog = open_catalog(Path("vox:1/ds"), "train", MEMBERS)
    assert len(catalog.table(["key"])) == len(catalog)


def test_numbers_agree_when_every_shard_has_a_dictionary_of_its_own(dataset: Path, tmp_path: Path) -> None:
    """Writers may store names anew in each row group; the same name must still be the same number."""
    copy = copy_of(dataset, tmp_path / "copy")
    path = copy / "train" / CATALOG
    table = pq.read_table(path)
    parts = [table.slice(first, 10) for first in range(0, len(table), 10)]
    own = [pa.Table.from_pylist(part.to_pylist(), schema=table.schema) for part in parts]
    with pq.ParquetWriter(path, table.schema) as writer:
        for part in own:
            writer.write_table(part)
    declare_catalog(copy, "train")
    again, catalog = open_catalog(copy, "train", []), open_catalog(dataset, "train", [])
    for name in ("speaker", "video", "utterance"):
        pairs = set(zip(getattr(again, name).tolist(), getattr(catalog, name).tolist(), strict=True))
        assert len(pairs) == len(np.unique(getattr(catalog, name)))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("shard", -1),
        ("shard", 99),
        ("shard", 2_000_000_000),
        ("filmstrip_size", -5),
        ("filmstrip_size", 3_000_000_000),
        ("filmstrip_size", 2**63 - 1),
        ("audio_offset", -1),
        ("audio_offset", 2**62),
        ("gaze_size", 10**12),
    ],
)
def test_members_outside_their_shards_are_refused_before_memory_is_lent_for_them(
    column: str, value: int, dataset: Path, tmp_path: Path
) -> None:
    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[7] = value
        place = table.schema.get_field_index(column)
        return table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))

    copy = copy_of(dataset, tmp_path / "copy")
    edit_catalog(copy, "train", change)
    with pytest.raises(InputError, match=r"row 7 .* outside its shard"):
        open_catalog(copy, "train", ["filmstrip", "audio", "gaze"])


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("shard", pa.string()),
        ("video", pa.string()),
        ("filmstrip_size", pa.float64()),
        ("start", pa.list_(pa.float64())),
        ("emotion", pa.string()),
        ("valence", pa.float64()),
    ],
)
def test_columns_of_other_types_are_refused_by_name(
    column: str, kind: pa.DataType, dataset: Path, tmp_path: Path
) -> None:
    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values = [str(v) for v in values] if pa.types.is_string(kind) else values
        values = [[v] for v in values] if pa.types.is_list(kind) else values
        return table.set_column(table.schema.get_field_index(column), column, pa.array(values, kind))

    copy = copy_of(dataset, tmp_path / "copy")
    edit_catalog(copy, "train", change)
    with pytest.raises(InputError, match=f"'{column}' is of type"):
        open_catalog(copy, "train", ["filmstrip"])

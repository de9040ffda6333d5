"""Answers are read as they were written; what is none, or of other utterances, is refused."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loaders.dataset.catalog import Catalog, open_catalog
from loaders.errors import InputError
from models.training.evaluation import MODALITIES, MatchPredictions, Predictions, TargetPredictions
from models.training.predictions import aligned, read_pairs, read_predictions, write_pairs, write_predictions
from tests.datasets import EMOTIONS, LABELS


@pytest.fixture(scope="module")
def catalog(dataset: Path) -> Catalog:
    return open_catalog(dataset, "test", [])


def drawn(seed: int, clips: list[int]) -> Predictions:
    draw = np.random.default_rng(seed)
    stated = np.random.default_rng(0).integers(-1, len(EMOTIONS), 100)[clips]
    numbers = np.where(stated < 0, np.nan, stated / 10).astype(np.float32)
    chances = draw.dirichlet(np.ones(len(EMOTIONS)), (3, len(clips))).astype(np.float32)
    return Predictions(
        clip=np.array(clips, np.int64),
        targets={
            "emotion": TargetPredictions(stated=stated, by=dict(zip(MODALITIES, chances, strict=True))),
            "arousal": TargetPredictions(stated=numbers, by=dict(zip(MODALITIES, chances[..., 0], strict=True))),
        },
    )


def test_predictions_are_read_as_they_were_written(catalog: Catalog, tmp_path: Path) -> None:
    path, wanted = tmp_path / "predictions.parquet", drawn(1, [0, 3, 7, 12])
    write_predictions(path, wanted, LABELS[:2], [catalog])
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    found = read_predictions(path)
    assert list(found) == ["emotion", "arousal"]
    names = catalog.table(["speaker", "video", "utterance"]).take([0, 3, 7, 12]).to_pylist()
    for name, answers in found.items():
        assert answers.keys == tuple(("drawn", "test", *row.values()) for row in names)
        assert len(set(answers.units)) == len({row["speaker"] for row in names})
        np.testing.assert_array_equal(answers.stated, wanted.targets[name].stated.astype(answers.stated.dtype))
        for modality in MODALITIES:
            np.testing.assert_array_equal(answers.by[modality], wanted.targets[name].by[modality])
    assert found["emotion"].classes == EMOTIONS
    # For people and for other programs: names, not codes, and nothing that has to be unpickled.
    table = pq.read_table(path)
    assert set(table.filter(pa.compute.equal(table["target"], "emotion"))["audio_class"].to_pylist()) <= {*EMOTIONS}
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_of_nothing_nothing_is_written_and_read(catalog: Catalog, tmp_path: Path) -> None:
    write_predictions(tmp_path / "none.parquet", drawn(1, []), LABELS[:2], [catalog])
    assert all(answers.keys == () for answers in read_predictions(tmp_path / "none.parquet").values())


def test_pairs_are_read_as_they_were_written(catalog: Catalog, tmp_path: Path) -> None:
    rounds = [
        MatchPredictions(
            clip=np.array([0, 1, 2]),
            audio_clip=np.array([0, 8 + number, 2]),
            match=np.array([1, 0, 1]),
            probability=np.array([0.25, 0.5, 0.75], np.float32) + number / 8,
        )
        for number in range(2)
    ]
    write_pairs(tmp_path / "pairs.parquet", {"shifted": rounds[:1], "other_video": rounds}, [catalog])
    several = read_pairs(tmp_path / "pairs.parquet")
    assert [len(answers.keys) for answers in several.values()] == [3, 6]
    found = several["other_video"]
    np.testing.assert_array_equal(found.stated, [1, 0, 1] * 2)
    np.testing.assert_array_equal(found.by["match"], np.concatenate([one.probability for one in rounds]))
    keys, speakers = catalog.table(["key"])["key"].to_pylist(), catalog.table(["speaker"])["speaker"].to_pylist()
    for row, (number, _, seen, seen_clip, _, heard, heard_clip) in enumerate(found.keys):
        one = rounds[row // 3]
        assert number == row // 3
        assert (seen_clip, heard_clip) == (keys[one.clip[row % 3]], keys[one.audio_clip[row % 3]])
        assert (seen, heard) == (speakers[one.clip[row % 3]], speakers[one.audio_clip[row % 3]])
        assert (found.units[row, 0] == found.units[row, 1]) == (seen == heard)


def test_answers_are_put_in_one_order(catalog: Catalog, tmp_path: Path) -> None:
    several = {}
    for name, clips in (("one", [0, 3, 7]), ("other", [7, 0, 3])):
        write_predictions(tmp_path / name, drawn(1, clips), LABELS[:1], [catalog])
        several[name] = read_predictions(tmp_path / name)["emotion"]
    one, other = aligned(several)
    assert one.keys == other.keys == tuple(sorted(several["other"].keys))
    np.testing.assert_array_equal(one.stated, other.stated)
    np.testing.assert_array_equal(one.units, other.units)
    place = several["other"].keys.index(one.keys[0])
    np.testing.assert_array_equal(other.by["audio"][0], several["other"].by["audio"][place])
    fewer = replace(several["one"], keys=several["one"].keys[:2], stated=several["one"].stated[:2])
    fewer = replace(fewer, units=fewer.units[:2], by={m: values[:2] for m, values in fewer.by.items()})
    with pytest.raises(InputError, match="a and b: 1 answers are of the first alone, 0 of the second"):
        aligned({"a": several["one"], "b": fewer})
    with pytest.raises(InputError, match="not the same is stated"):
        aligned({"a": several["one"], "b": replace(several["one"], stated=several["one"].stated + 1)})


def test_what_is_no_answers_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    for read in (read_predictions, read_pairs):
        with pytest.raises(InputError, match="no answers there: give a finished run"):
            read(path)
        with pytest.raises(InputError, match="Is a directory"):
            read(tmp_path)
    path.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(InputError, match="not the answers of a run"):
        read_predictions(path)
    pq.write_table(pa.table({"split": ["test"]}), path)
    for read in (read_predictions, read_pairs):
        with pytest.raises(InputError, match="no column"):
            read(path)
    write_predictions(path, drawn(1, [0, 1]), LABELS[:2], [catalog])
    with pytest.raises(InputError, match="no column negatives"):
        read_pairs(path)
    pq.write_table(pq.read_table(path).replace_schema_metadata({}), path)
    with pytest.raises(InputError, match="not the answers of a run"):
        read_predictions(path)
    write_predictions(path, drawn(1, [0, 1]), LABELS[:2], [catalog])
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(InputError, match=r"write them again by train\.py --stage evaluate"):
        read_predictions(path)

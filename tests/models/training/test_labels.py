"""What a run predicts comes from the dataset, and a run keeps it: other classes are refused by their names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from loaders.dataset.dataset import Dataset
from loaders.dataset.labels import Label
from loaders.dataset.manifest import read_manifest
from loaders.errors import InputError
from models.training.labels import chosen, difference, differences, from_json, moments, require_same, to_json
from tests.datasets import LABELS

EMOTION, AROUSAL, VALENCE = LABELS
GENDER = Label(name="gender", classes=("f", "m"))


@pytest.fixture
def opened(dataset: Path) -> Dataset:
    return Dataset.open(dataset)


def declaring(opened: Dataset, labels: Sequence[Label], name: str = "other") -> Dataset:
    """The dataset as if it declared these labels."""
    return Dataset(name, opened.folder, replace(opened.manifest, labels=tuple(labels)))


def changed(classes: Sequence[str]) -> Label:
    return replace(EMOTION, classes=tuple(classes))


def test_without_names_it_is_the_one_label_of_classes(opened: Dataset) -> None:
    assert chosen((), [opened]) == (EMOTION,)
    with pytest.raises(InputError, match=r"emotion, gender, age \(a number\): choose what to predict with --targets"):
        chosen((), [declaring(opened, (EMOTION, GENDER, replace(VALENCE, name="age")))])
    with pytest.raises(InputError, match=r"its labels are valence \(a number\): choose"):
        chosen((), [declaring(opened, (VALENCE,))])
    with pytest.raises(InputError, match="no labels to predict: build it again"):
        chosen((), [declaring(opened, ())])


def test_names_choose_labels_in_their_order(opened: Dataset) -> None:
    assert chosen(("valence", "emotion"), [opened]) == (VALENCE, EMOTION)
    with pytest.raises(InputError, match=r"--targets mood: .* only emotion, arousal \(a number\), valence"):
        chosen(("mood",), [opened])
    with pytest.raises(InputError, match="names a label twice"):
        chosen(("valence", "valence"), [opened])


def test_several_datasets_have_one_labels_classes_and_the_range_of_both(opened: Dataset) -> None:
    wide = declaring(opened, (replace(VALENCE, low=-3.0, high=0.5), EMOTION))
    assert chosen(("emotion", "valence"), [opened, wide]) == (EMOTION, replace(VALENCE, low=-3.0))
    assert EMOTION.classes is not None
    with pytest.raises(InputError, match="other: emotion lacks class 'surprise'"):
        chosen((), [opened, declaring(opened, (changed(EMOTION.classes[:-1]),))])


def test_a_run_is_scored_on_a_dataset_with_its_classes_alone(opened: Dataset) -> None:
    assert EMOTION.classes is not None
    require_same((EMOTION, VALENCE), [opened, declaring(opened, (VALENCE, EMOTION))], "run")
    require_same((VALENCE,), [declaring(opened, (replace(VALENCE, high=5.0),))], "run")
    for labels, problem in (
        ((VALENCE,), r"other: has no label 'emotion', which run predicts, only valence \(a number\)"),
        ((changed(EMOTION.classes[1:]),), "other: emotion lacks class 'anger'"),
        ((changed((*EMOTION.classes, "calm")),), "emotion has the new class 'calm'"),
        (
            (changed(("calm", "bored", *EMOTION.classes[2:])),),
            "lacks classes 'anger', 'disgust' and has the new classes",
        ),
        ((changed(EMOTION.classes[::-1]),), "emotion has its classes in another order"),
        ((replace(VALENCE, name="emotion"),), "emotion was one of classes and is a number"),
    ):
        with pytest.raises(InputError, match=problem) as refused:
            require_same((EMOTION,), [opened, declaring(opened, labels)], "run")
        assert "\n" not in str(refused.value)


def test_a_run_goes_on_with_its_targets_alone() -> None:
    assert differences((EMOTION, VALENCE), (EMOTION, replace(VALENCE, low=-2.0))) is None
    assert differences((EMOTION,), (EMOTION, VALENCE)) == "targets was emotion and is emotion, valence"
    assert differences((EMOTION, VALENCE), (VALENCE, EMOTION)) is not None
    assert differences((GENDER,), (replace(GENDER, classes=("f",)),)) == "gender lacks class 'm'"
    assert difference(GENDER, GENDER) is None


def test_targets_come_back_from_json() -> None:
    assert from_json(json.loads(json.dumps(to_json(LABELS))), "run") == LABELS


def test_moments_count_each_utterance_once(dataset: Path, opened: Dataset) -> None:
    columns = ["speaker", "video", "utterance", "valence"]
    rows = {tuple(row.values()) for row in pq.read_table(dataset / "train/clips.parquet", columns=columns).to_pylist()}
    stated = np.array([row[-1] for row in rows if row[-1] is not None])
    assert 1 < len(stated) < read_manifest(dataset).splits["train"].clips
    found = moments(LABELS, [opened.catalog("train", (), ("emotion", "arousal", "valence"))])
    assert found.keys() == {"arousal", "valence"}
    assert found["valence"] == (pytest.approx(stated.mean()), pytest.approx(stated.std()))
    catalog = opened.catalog("train", (), ("valence",))
    for value, expected in ((2.5, (2.5, 1.0)), (np.nan, (0.0, 1.0))):
        same = np.full(len(catalog), value, np.float32)
        assert moments((VALENCE,), [replace(catalog, targets={"valence": same})]) == {"valence": expected}

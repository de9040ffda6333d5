"""A split that a dataset's folder cannot have is refused before anything is built."""

import re
from pathlib import Path

import pytest

from loaders.errors import InputError
from sharding.packing.building import build
from sharding.packing.splits import require_possible_splits
from sharding.settings import BuildSettings
from sharding.utterance import Corpus, Utterance


@pytest.mark.parametrize(
    "split", ["dataset.json", "Dataset.JSON", "rejected.parquet", "README.md", "croissant.json", "é" * 101]
)
def test_a_split_that_cannot_be_is_refused_before_anything_is_built(tmp_path: Path, split: str) -> None:
    utterances = tuple(
        Utterance(corpus="own", split=name, speaker=name, video=name, utterance="1", video_path=tmp_path / "no film")
        for name in ("train", split)
    )
    with pytest.raises(InputError, match=rf"own: a split is called .*{split[:5]}"):
        build(Corpus(name="own", utterances=utterances), tmp_path / "data", BuildSettings(), 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ("Train", "train", "'Train' and 'train'"),
        ("STRASSE", "straße", "'STRASSE' and 'straße'"),
        ("caf\u00e9", "cafe\u0301", r"'cafe\u0301' and 'caf\xe9'"),
    ],
)
def test_splits_that_may_be_one_folder_are_refused_before_anything_is_built(
    tmp_path: Path, one: str, other: str, told: str
) -> None:
    """Each is a folder, and not every file system tells these apart: shards of one would replace the other's."""
    utterances = tuple(
        Utterance(corpus="own", split=name, speaker=name, video=name, utterance="1", video_path=tmp_path / "no film")
        for name in (one, other)
    )
    corpus = Corpus(name="own", utterances=utterances)
    for extend in (False, True):
        with pytest.raises(InputError, match=f"^own: splits are called {re.escape(told)}, which may be one folder"):
            build(corpus, tmp_path / "data", BuildSettings(), 1, extend=extend)
    assert not (tmp_path / "data").exists()


def test_all_others_may_be() -> None:
    require_possible_splits(["train", "dev.clean", "clips.parquet", "fold_1", "test-other", "a" * 200], "own")

"""A split that a dataset's folder cannot have is refused before anything is built."""

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


def test_all_others_may_be() -> None:
    require_possible_splits(["train", "dev.clean", "clips.parquet", "fold_1", "test-other", "a" * 200], "own")

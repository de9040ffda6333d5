"""A dataset that is opened once serves everybody, and one in a store as one in a folder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loaders import ClipLoader, Dataset, InputError
from loaders.dataset.manifest import read_manifest, write_manifest
from tests.batches import digests
from tests.damage import copy_of
from tests.parses import counted_parses

MEMBERS = ["filmstrip", "audio"]


def places(dataset: Path, tmp_path: Path) -> list[tuple[str, Path]]:
    """A dataset as it is given to a program, with a cache for it: in a folder, and as if in a store."""
    return [(str(dataset), tmp_path / "of-none"), (dataset.as_uri(), tmp_path / "cache")]


def test_loaders_of_a_dataset_that_is_opened_parse_nothing(dataset: Path, tmp_path: Path) -> None:
    for place, cache in places(dataset, tmp_path):
        with counted_parses() as parses, ClipLoader(place, batch_size=4, threads=1, cache=cache) as loader:
            expected = digests(list(loader))
        assert len(parses) == 1
        opened = Dataset.open(place, cache=cache)
        with counted_parses() as parses:
            for given in (opened, {opened: 1.0}):
                with ClipLoader(given, batch_size=4, threads=1, cache=cache) as loader:
                    assert digests(list(loader)) == expected
            with ClipLoader(opened, "test", batch_size=4, threads=1, cache=cache) as loader:
                assert sum(len(batch.clip) for batch in loader) == opened.manifest.splits["test"].clips
        assert parses == []


def test_in_a_store_and_in_a_folder_it_is_the_same(dataset: Path, tmp_path: Path) -> None:
    local, remote = (Dataset.open(place, cache=cache) for place, cache in places(dataset, tmp_path))
    assert local.manifest == remote.manifest == read_manifest(dataset)
    assert (local.origin, local.folder) == (None, dataset)
    assert remote.origin is not None
    assert remote.origin.url == remote.name == dataset.as_uri()
    for split in ("train", "test"):
        one, other = local.catalog(split, MEMBERS, ["emotion"]), remote.catalog(split, MEMBERS, ["emotion"])
        assert one.folder == dataset / split != other.folder
        assert len(one) == len(other)
        for name in ("shard", "speaker", "video", "utterance", "start"):
            assert np.array_equal(getattr(one, name), getattr(other, name))
        assert np.array_equal(one.targets["emotion"], other.targets["emotion"])
        for name in MEMBERS:
            assert np.array_equal(one.members[name].offset, other.members[name].offset)
    assert not list(remote.folder.rglob("*.tar"))


def test_a_catalog_is_read_once(dataset: Path, tmp_path: Path) -> None:
    for place, cache in places(dataset, tmp_path):
        opened = Dataset.open(place, cache=cache)
        assert opened.catalog("train", MEMBERS) is opened.catalog("train", tuple(MEMBERS))
        assert set(opened.catalog("train").members) == set()
        assert opened.catalog("train", MEMBERS).manifest is opened.manifest
        labelled = opened.catalog("train", ["audio"], ["emotion"])
        assert (set(labelled.members), set(labelled.targets)) == ({"audio"}, {"emotion"})
        assert opened.catalog("train", ["audio"]).targets == {}


def test_what_it_does_not_have_is_told_by_its_name(dataset: Path, tmp_path: Path) -> None:
    for place, cache in places(dataset, tmp_path):
        opened = Dataset.open(place, cache=cache, splits=["moon"])  # as far as it has them
        assert opened.require_split("test").clips == len(opened.catalog("test"))
        for asked in (opened.require_split, opened.catalog):
            with pytest.raises(InputError, match=f"^{place}: no split 'moon': it has test, train$"):
                asked("moon")
        with pytest.raises(InputError, match="its clips have no 'smell', only"):
            opened.catalog("train", ["smell"])
        with pytest.raises(InputError, match="its clips have no label 'mood', only emotion, arousal, valence"):
            opened.catalog("train", labels=["mood"])


def test_one_that_is_exchanged_has_to_be_opened_again(dataset: Path, tmp_path: Path) -> None:
    copy = copy_of(dataset, tmp_path / "copy")
    opened = Dataset.open(copy)
    (copy / "train" / "clips.parquet").write_bytes((dataset / "test" / "clips.parquet").read_bytes())
    with pytest.raises(InputError, match=r"its SHA-256 is not the one in dataset\.json"):
        opened.catalog("train")
    write_manifest(copy, replace(read_manifest(copy), corpus="another"))
    with pytest.raises(InputError, match=f"^{copy}: was exchanged after it was opened: open it again$"):
        opened.catalog("train")


def test_the_options_of_a_store_without_one_to_open_are_refused(dataset: Path) -> None:
    opened = Dataset.open(dataset)
    with pytest.raises(InputError, match="storage_options are of no dataset that is opened already"):
        ClipLoader(opened, storage_options={"key": "k"})


def test_shards_of_a_store_need_a_cache(dataset: Path, tmp_path: Path) -> None:
    local, remote = (Dataset.open(place, cache=cache) for place, cache in places(dataset, tmp_path))
    source = local.shards(local.catalog("test"))
    assert source.open(0).fileno() > 0
    with pytest.raises(ValueError, match="by way of a cache"):
        remote.shards(remote.catalog("test"))

"""Moments of members: from dataset.json to a tower, pooled over datasets, and the same whatever a batch holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from loaders.dataset.catalog import Catalog, open_catalog
from loaders.dataset.manifest import MemberMoments, from_json, impossible, read_manifest, to_json, write_manifest
from loaders.dataset.members import Member
from models.towers.egemaps import EgemapsTower, EgemapsTowerConfig
from models.towers.tower import Masked
from models.training.moments import take_moments
from tests.rebuilt import with_arrays

FUNCTIONALS = Member(name="egemaps", extension="npy", dtype="float32", shape=(88,), required=False)
#: Of two datasets' clips.
VALUES = np.random.default_rng(0).normal(50, 20, (30, 88))


def stated(values: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> MemberMoments:
    return MemberMoments(count=len(values), mean=tuple(values.mean(0).tolist()), std=tuple(values.std(0).tolist()))


@pytest.fixture(scope="module")
def functional(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moments") / "functional"
    return with_arrays(dataset, folder, {FUNCTIONALS: lambda *_: np.zeros(88, np.float32)})


def catalogs(functional: Path, *moments: MemberMoments | None) -> list[Catalog]:
    catalog = open_catalog(functional, "train", ["egemaps"])
    told = ({} if one is None else {"egemaps": one} for one in moments)
    return [replace(catalog, manifest=replace(catalog.manifest, moments=one)) for one in told]


def test_moments_of_several_datasets_are_those_of_all_their_clips(functional: Path) -> None:
    tower = EgemapsTowerConfig().tower()
    assert isinstance(tower, EgemapsTower)
    assert take_moments(tower, catalogs(functional, stated(VALUES[:7]), stated(VALUES[7:]))) == ()
    np.testing.assert_allclose(tower.standardise.mean, VALUES.mean(0), rtol=1e-6)
    np.testing.assert_allclose(tower.standardise.variance, VALUES.var(0), rtol=1e-6)


def test_no_batch_changes_them_and_ranks_with_other_batches_agree(functional: Path) -> None:
    batches = [torch.tensor(VALUES[:8] + 9).float(), torch.tensor(VALUES[8:16]).float()]
    mask = torch.ones(8, dtype=torch.bool)
    after = []
    for batch in batches:  # of two ranks
        tower = EgemapsTowerConfig().tower().train()
        assert isinstance(tower, EgemapsTower)
        take_moments(tower, catalogs(functional, stated(VALUES)))
        tower(Masked(batch, mask))
        after.append(tower.standardise)
    assert torch.equal(after[0].mean, after[1].mean)
    assert torch.equal(after[0].variance, after[1].variance)
    expected = (VALUES[8:16] - VALUES.mean(0)) / VALUES.std(0)
    np.testing.assert_allclose(after[0](batches[1], mask), expected, atol=1e-4)


def test_where_a_dataset_states_none_they_are_measured_and_that_is_told(functional: Path) -> None:
    for moments in ((None,), (stated(VALUES), None), (MemberMoments(count=0, mean=(0.0,) * 88, std=(0.0,) * 88),)):
        tower = EgemapsTowerConfig().tower().train()
        assert isinstance(tower, EgemapsTower)
        assert take_moments(tower, catalogs(functional, *moments)) == ("egemaps",)
        tower(Masked(torch.tensor(VALUES).float(), torch.ones(30, dtype=torch.bool)))
        np.testing.assert_allclose(tower.standardise.mean, VALUES.mean(0), rtol=1e-5)


def test_dataset_json_has_them_only_where_there_are_any(functional: Path, tmp_path: Path) -> None:
    manifest = read_manifest(functional)
    assert '"moments"' not in to_json(manifest)
    told = replace(manifest, moments={"egemaps": stated(VALUES)})
    assert from_json(to_json(told), "it") == told
    write_manifest(tmp_path, told)
    assert read_manifest(tmp_path) == told
    for moments in ({"other": stated(VALUES)}, {"egemaps": stated(VALUES[:, :5])}, {"clip": stated(VALUES)}):
        assert "moments of" in str(impossible(replace(told, moments=moments))) or "means of" in str(
            impossible(replace(told, moments=moments))
        )

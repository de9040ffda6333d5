"""croissant.json has every file with its SHA-256, and a record for every row and every file of a clip.

That mlcroissant finds no fault in it and reads the records, `tests.interop.test_plain_tools` says.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loaders.dataset.about import About
from loaders.dataset.catalog import schema
from loaders.dataset.columns import COLUMNS
from loaders.dataset.labels import Label
from loaders.dataset.manifest import CATALOG, REJECTED, Manifest, read_manifest
from loaders.storage.atomic import sha256_of
from sharding.cards.croissant import croissant
from sharding.cards.told import COLUMNS_MEAN


@pytest.fixture(scope="module")
def manifest(dataset: Path) -> Manifest:
    return read_manifest(dataset)


@pytest.fixture(scope="module")
def body(manifest: Manifest) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(croissant(manifest))
    return parsed


def test_every_file_has_its_sha256(dataset: Path, body: dict[str, Any], manifest: Manifest) -> None:
    files = {part["contentUrl"]: part for part in body["distribution"] if part["@type"] == "cr:FileObject"}
    tars = {f"{name}/{shard.name}" for name, split in manifest.splits.items() for shard in split.shards}
    assert files.keys() == {REJECTED, *(f"{name}/{CATALOG}" for name in manifest.splits), *tars}
    for path, part in files.items():
        assert part["sha256"] == sha256_of(dataset / path)
        if path in tars:
            assert part["contentSize"] == f"{(dataset / path).stat().st_size} B"


def test_what_is_referred_to_is_there(body: dict[str, Any]) -> None:
    ids = [part["@id"] for part in body["distribution"]]
    ids += [records["@id"] for records in body["recordSet"]]
    ids += [field["@id"] for records in body["recordSet"] for field in records["field"]]
    assert len(set(ids)) == len(ids)
    for part in body["distribution"]:
        assert {held["@id"] for held in part.get("containedIn", ())} <= set(ids)
    for records in body["recordSet"]:
        assert records["key"]["@id"] in ids
        for field in records["field"]:
            source = field["source"]
            assert (source.get("fileObject") or source["fileSet"])["@id"] in ids


def test_records_have_every_column_but_those_that_pandas_rounds(body: dict[str, Any], manifest: Manifest) -> None:
    rows = next(records for records in body["recordSet"] if records["@id"] == "train")
    names = [field["name"] for field in rows["field"]]
    assert set(schema(manifest.members, manifest.labels).names) - set(names) == {"gaze_xxh3"}
    assert all(field["description"] for field in rows["field"])


def test_every_column_has_its_meaning() -> None:
    assert {column.name for column in COLUMNS} == COLUMNS_MEAN.keys()


def test_only_what_is_stated_is_claimed(body: dict[str, Any], manifest: Manifest) -> None:
    assert not {"license", "citeAs", "url", "datePublished", "creator", "version"} & body.keys()
    about = About(title="T", description="D", license="MIT", citation="C", url="https://x.org/y")
    stated = json.loads(croissant(replace(manifest, about=about)))
    told = {name: stated[name] for name in ("name", "description", "license", "citeAs", "url")}
    assert told == {"name": "T", "description": "D", "license": "MIT", "citeAs": "C", "url": "https://x.org/y"}
    assert {name: value for name, value in stated.items() if name not in told} == {
        name: value for name, value in body.items() if name not in told
    }


def test_names_are_as_they_are_and_no_markup(manifest: Manifest) -> None:
    """It stands in pages within a script, which any `</script>` in it would end."""
    name = "</script><b>&lt; | `x`"
    text = croissant(replace(manifest, corpus=name, labels=(Label(name="mood", classes=("calm", name)),)))
    assert "<" not in text
    assert json.loads(text)["name"] == name
    says = [field.get("description") for records in json.loads(text)["recordSet"] for field in records["field"]]
    assert f"One of calm, {name}; null: nothing is stated." in says

"""dataset.json says back what was written into it, and anything else is refused in one line."""

import json
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders import ClipLoader, Dataset
from loaders.dataset.labels import Label
from loaders.dataset.manifest import (
    MANIFEST,
    VERSION,
    VIDEO_NAMES,
    ClipFormat,
    Manifest,
    Member,
    Shard,
    from_json,
    read_manifest,
    require_split,
    to_json,
    write_manifest,
)
from loaders.errors import InputError
from tests.datasets import LABELS
from tests.limits import unprivileged

names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
counts = st.integers(0, 1 << 50)
numbers = st.floats(allow_nan=False, allow_infinity=False)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
plain = st.none() | st.booleans() | st.integers() | numbers | st.text(max_size=8)
moments = st.none() | st.lists(numbers, max_size=4).map(tuple)

clip_formats = st.builds(
    ClipFormat,
    seconds=numbers,
    fps=numbers,
    frames=counts,
    size=counts,
    sample_rate=counts,
    samples=counts,
    addressable=st.booleans(),
)
members = st.builds(
    Member,
    name=names,
    extension=names,
    dtype=names,
    shape=st.lists(counts, max_size=4).map(tuple),
    required=st.booleans(),
    variable=st.booleans(),
)
labels = st.builds(Label, name=names, classes=st.lists(names, max_size=4).map(tuple)) | st.builds(
    Label, name=names, low=numbers, high=numbers
)
shards = st.builds(
    Shard, name=names.map(lambda name: f"{name}.tar"), clips=counts, bytes=counts, sha256=digests, index_sha256=digests
)
# The rest of a description is as in the small dataset.
changes = st.fixed_dictionaries(
    {},
    optional={
        "corpus": st.text(max_size=8),
        "clip": clip_formats,
        "members": st.lists(members, max_size=3).map(tuple),
        "labels": st.lists(labels, max_size=3).map(tuple),
        "documents": st.dictionaries(names, digests, max_size=3),
        "gaze_mean": moments,
        "gaze_std": moments,
        "rejected": st.dictionaries(names, counts, max_size=3),
        "settings": st.dictionaries(names, plain, max_size=3),
        "video_names": st.sampled_from(list(VIDEO_NAMES)),
    },
)


@given(changes, st.dictionaries(names, st.lists(shards, max_size=3).map(tuple), max_size=3))
def test_what_is_written_is_read_back(
    dataset: Path, changes: dict[str, Any], splits: dict[str, tuple[Shard, ...]]
) -> None:
    built = read_manifest(dataset)
    others = {name: replace(built.splits["train"], shards=shards) for name, shards in splits.items()}
    manifest = replace(built, splits=others, **changes)
    text = to_json(manifest)
    assert from_json(text, "here") == manifest
    assert to_json(from_json(text, "here")) == text


def refusal(text: str) -> str:
    with pytest.raises(InputError, match=r"^here: ") as refused:
        from_json(text, "here")
    assert "\n" not in str(refused.value)
    return str(refused.value)


@given(st.data())
@settings(max_examples=200)
def test_any_changed_character_is_noticed(dataset: Path, data: st.DataObject) -> None:
    text = (dataset / MANIFEST).read_text(encoding="utf-8")
    at = data.draw(st.integers(0, len(text) - 1))
    to = data.draw(st.sampled_from(sorted(set('0123456789abcdefnulrst"{}[]:,. \n') - {text[at]})))
    refusal(text[:at] + to + text[at + 1 :])


@given(st.data())
@settings(max_examples=50)
def test_a_cut_description_is_noticed(dataset: Path, data: st.DataObject) -> None:
    text = (dataset / MANIFEST).read_text(encoding="utf-8")
    refusal(text[: data.draw(st.integers(0, len(text) - 1))])


def test_what_is_missing_is_named(dataset: Path) -> None:
    whole = json.loads((dataset / MANIFEST).read_text(encoding="utf-8"))
    may_be_missing = {field.name for field in fields(Manifest) if field.default_factory is not MISSING}
    for name in whole:
        said = refusal(json.dumps({key: value for key, value in whole.items() if key != name}))
        assert name in may_be_missing or name in said


@pytest.mark.parametrize("text", ["", "null", "7", "[]", "{}", '"filmstrip"', "[" * 100_000, '{"format": "tar"}'])
def test_what_is_no_description_is_refused(text: str) -> None:
    refusal(text)


def test_a_newer_version_is_refused_with_the_mend(dataset: Path) -> None:
    body = json.loads((dataset / MANIFEST).read_text(encoding="utf-8"))
    assert "upgrade" in refusal(json.dumps({**body, "version": VERSION + 1}))


@pytest.mark.parametrize("version", [1, 0])
def test_an_older_version_is_refused_with_the_mend(dataset: Path, version: int) -> None:
    """Before anything else of it is looked at: it may have other fields."""
    body = json.loads((dataset / MANIFEST).read_text(encoding="utf-8"))
    assert refusal(json.dumps({**body, "version": version})).endswith("no longer reads: build the dataset again")
    assert "build the dataset again" in refusal(json.dumps({"format": "filmstrip", "version": version}))


def test_whose_names_videos_have_is_said(dataset: Path, namesakes: Path) -> None:
    assert read_manifest(dataset).video_names == "corpus"
    assert read_manifest(namesakes).video_names == "speaker"


def test_names_of_videos_that_are_nobodys_are_refused(dataset: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path, replace(read_manifest(dataset), video_names="moon"))
    with pytest.raises(InputError, match="'moon', not by corpus or speaker"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd.tar", "/etc/passwd.tar", "..", ".hidden.tar", "a\\b.tar", "a.zip", ""]
)
def test_a_shard_outside_the_dataset_is_refused(dataset: Path, name: str) -> None:
    manifest = read_manifest(dataset)
    train = manifest.splits["train"]
    elsewhere = replace(train, shards=(replace(train.shards[0], name=name), *train.shards[1:]))
    refusal(to_json(replace(manifest, splits={**manifest.splits, "train": elsewhere})))


@pytest.mark.parametrize("name", ["..", "../train", "/train", "a/b", ""])
def test_a_split_outside_the_dataset_is_refused(dataset: Path, name: str) -> None:
    manifest = read_manifest(dataset)
    refusal(to_json(replace(manifest, splits={name: manifest.splits["train"]})))


@pytest.mark.parametrize("name", ["..", "../README.md", "/README.md", "a/b", ""])
def test_a_document_outside_the_dataset_is_refused(dataset: Path, name: str) -> None:
    refusal(to_json(replace(read_manifest(dataset), documents={name: "0" * 64})))


def test_a_written_description_lies_under_its_name_and_nothing_else_does(dataset: Path, tmp_path: Path) -> None:
    manifest = read_manifest(dataset)
    write_manifest(tmp_path, manifest)
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]
    assert read_manifest(tmp_path) == manifest
    assert (tmp_path / MANIFEST).read_bytes() == (dataset / MANIFEST).read_bytes()


def test_a_folder_that_is_none_and_one_without_a_dataset_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder, problem in (
        (tmp_path / "none", "no such folder"),
        (tmp_path / "file", "no such folder"),
        (tmp_path, "no dataset"),
    ):
        with pytest.raises(InputError, match=problem) as refused:
            read_manifest(folder)
        assert str(folder) in str(refused.value)


def test_a_folder_that_cannot_be_looked_into_is_refused_in_one_line(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "dataset").mkdir(parents=True)
    closed.chmod(0)
    try:
        with unprivileged(), pytest.raises(InputError, match="Permission denied: make it readable") as refused:
            read_manifest(closed / "dataset")
    finally:
        closed.chmod(0o755)
    assert str(closed / "dataset") in str(refused.value)


def test_a_name_longer_than_any_folders_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="File name too long: give the --output"):
        read_manifest(Path("x" * 300))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match=MANIFEST):
        read_manifest(tmp_path)


def test_members_are_found_by_name(dataset: Path) -> None:
    manifest = read_manifest(dataset)
    found = manifest.member("filmstrip")
    assert found is not None
    assert found.suffix == "filmstrip.jpg"
    assert manifest.member("smell") is None


def test_labels_are_found_by_name(dataset: Path) -> None:
    manifest = read_manifest(dataset)
    assert tuple(manifest.label(label.name) for label in LABELS) == LABELS == manifest.labels
    assert manifest.label("mood") is None


def test_a_split_must_be_there_and_hold_a_clip(dataset: Path) -> None:
    manifest = read_manifest(dataset)
    assert require_split(manifest, "test", dataset) is manifest.splits["test"]
    with pytest.raises(InputError, match=r"'validation'.* it has test, train"):
        require_split(manifest, "validation", dataset)
    empty = replace(manifest, splits={"train": replace(manifest.splits["train"], clips=0)})
    with pytest.raises(InputError, match="no clip"):
        require_split(empty, "train", dataset)


@pytest.mark.parametrize(
    "changes",
    [
        *({"frames": frames} for frames in (10**12, 0, -1, 8, 32)),
        *({"size": size} for size in (10**9, 0, -32, 64)),
        *({"samples": samples} for samples in (10**12, -1, 0, 16_000)),
        *({"fps": fps} for fps in (0.0, float("nan"), float("inf"), 4.0)),
        *({"seconds": seconds} for seconds in (0.0, float("nan"), 1.0)),
        {"sample_rate": 1},
        {"seconds": 1.0, "frames": 8, "samples": 16_000},  # consistent in itself, and not with the members
        {"frames": 4, "size": 64},
    ],
)
def test_a_format_that_no_clip_can_have_is_refused(dataset: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    manifest = read_manifest(dataset)
    write_manifest(tmp_path, replace(manifest, clip=replace(manifest.clip, **changes)))
    with pytest.raises(InputError, match=MANIFEST) as refused:
        read_manifest(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("shape", [(8, 32, 32, 3), (16, 64, 64, 3), (16, 32, 32, 1), ()])
def test_members_that_are_not_of_the_clips_format_are_refused(
    dataset: Path, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    manifest = read_manifest(dataset)
    members = tuple(replace(m, shape=shape) if m.name == "filmstrip" else m for m in manifest.members)
    write_manifest(tmp_path, replace(manifest, members=members))
    with pytest.raises(InputError, match="'filmstrip'"):
        read_manifest(tmp_path)


NPY = {"name": "more", "extension": "npy", "dtype": "float32", "shape": (4, 2), "required": False}


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "object"},
        {"shape": (0, 2)},
        {"shape": (1 << 20, 1 << 20)},
        {"name": "gaze"},  # a second of that name
        {"name": "audio", "extension": "wav", "shape": (32_000,)},
    ],
)
def test_a_member_that_no_dataset_has_is_refused_at_the_opening(
    dataset: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Under a digest of its own; that it is the loader's opening, too."""
    manifest = read_manifest(dataset)
    write_manifest(tmp_path, replace(manifest, members=(*manifest.members, Member(**{**NPY, **changes}))))
    for opened in (read_manifest, Dataset.open, ClipLoader):
        with pytest.raises(InputError, match=f"the member '{changes.get('name', 'more')}' is declared") as refused:
            opened(tmp_path)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "label",
    [
        Label(name="speaker", classes=("a", "b")),  # a column that there is
        Label(name="gaze_size", low=0.0, high=1.0),
        Label(name="emotion", low=0.0, high=1.0),  # a second of that name
        Label(name="two words", classes=("a", "b")),
        Label(name="mood", classes=()),
        Label(name="mood", classes=("a", "a")),
        Label(name="mood", classes=("a", "b"), low=0.0, high=1.0),
        Label(name="mood", low=1.0, high=0.0),
        Label(name="mood", low=0.0),
        Label(name="mood", low=0.0, high=float("inf")),
    ],
)
def test_a_label_that_no_dataset_has_is_refused_by_name(dataset: Path, tmp_path: Path, label: Label) -> None:
    manifest = read_manifest(dataset)
    write_manifest(tmp_path, replace(manifest, labels=(*manifest.labels, label)))
    with pytest.raises(InputError, match=f"label .*{label.name!r}") as refused:
        read_manifest(tmp_path)
    assert "\n" not in str(refused.value)

"""Arrays and labels of the clips come with their frames, whatever they are and whoever has none."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from loaders import Batch, ClipLoader, InputError
from loaders.dataset.catalog import open_catalog
from loaders.dataset.labels import Label
from loaders.dataset.manifest import Member, read_manifest
from loaders.reader import TooManyBadClipsError
from loaders.reference import reference_batches
from tests.batches import digests, tensors
from tests.damage import flip_byte
from tests.datasets import EMOTIONS, Contents, make_dataset
from tests.rebuilt import Files, npy, rebuilt, redeclared, with_arrays

MARKS = Member(name="marks", extension="npy", dtype="float32", shape=(6, 2), required=False)
TOKENS = Member(name="tokens", extension="npy", dtype="int32", shape=(7,), required=False, variable=True)
RATE = Member(name="rate", extension="npy", dtype=">i2", shape=(), required=False)
EVERY: dict[str, Any] = {"members": ("marks", "tokens", "rate"), "targets": ("emotion", "arousal", "valence")}


def marks(split: str, row: int) -> NDArray[Any] | None:
    return None if row % 3 == 0 else np.random.default_rng([row, len(split)]).normal(size=(6, 2)).astype(np.float32)


def tokens(split: str, row: int) -> NDArray[Any] | None:
    """Of 0 … 7 rows: one may have none of what it has."""
    return None if row % 5 == 4 else np.arange(row, row + row % 8, dtype=np.int32)


def rate(split: str, row: int) -> NDArray[Any]:
    return np.array(-row, ">i2")


ARRAYS: Mapping[Member, Callable[[str, int], NDArray[Any] | None]] = {MARKS: marks, TOKENS: tokens, RATE: rate}


@pytest.fixture(scope="module")
def arrayed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small dataset with further arrays, for reading only."""
    return with_arrays(dataset, tmp_path_factory.mktemp("datasets") / "arrayed", ARRAYS)


def loader_of(dataset: Any, split: str = "train", **changes: Any) -> ClipLoader:
    return ClipLoader(dataset, split, **{"batch_size": 8, "seed": 3, "threads": 1, **changes})


def refusal(dataset: Any, **changes: Any) -> str:
    with pytest.raises(InputError) as refused:
        loader_of(dataset, **changes)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# -- what they are


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("reading_threads", [1, 3])
def test_they_are_those_of_the_clip_that_is_seen(arrayed: Path, split: str, reading_threads: int) -> None:
    with loader_of(arrayed, split, reading_threads=reading_threads, **EVERY) as loader:
        batches = list(loader)
    for batch in batches:
        size = len(batch)
        shapes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors(batch) if "." in name}
        assert shapes == {
            "targets.emotion": ((size,), torch.int64),
            "targets.arousal": ((size,), torch.float32),
            "targets.valence": ((size,), torch.float32),
            "members.marks": ((size, 6, 2), torch.float32),
            "members.tokens": ((size, 7), torch.int32),
            "members.rate": ((size,), torch.int16),
            "masks.marks": ((size,), torch.bool),
            "masks.tokens": ((size, 7), torch.bool),
            "masks.rate": ((size,), torch.bool),
        }
        for index, row in enumerate(batch.clip.tolist()):
            array = marks(split, row)
            assert batch.masks["marks"][index] == (array is not None)
            assert batch.members["marks"][index].tolist() == (np.zeros((6, 2)) if array is None else array).tolist()
            array = tokens(split, row)
            there = [] if array is None else array.tolist()
            assert batch.members["tokens"][index].tolist() == there + [0] * (7 - len(there))
            assert batch.masks["tokens"][index].tolist() == [True] * len(there) + [False] * (7 - len(there))
            assert batch.members["rate"][index] == -row
            assert batch.masks["rate"][index]


@pytest.mark.parametrize("reading_threads", [1, 3])
def test_those_of_the_audio_are_of_the_clip_that_is_heard(arrayed: Path, reading_threads: int) -> None:
    """In pairs, of which half are of two clips; the others stay with the frames."""
    settings: dict[str, Any] = {"members": ("marks", "rate"), "of_audio": ("rate",), "seed": 3, "batch_size": 8}
    with loader_of(arrayed, reading_threads=reading_threads, **settings) as loader:
        batches = list(loader)
    assert any((batch.clip != batch.audio_clip).any() for batch in batches)
    reference = reference_batches(arrayed, "train", rank=0, world_size=1, **settings)
    for batch, expected in zip(batches, reference, strict=True):
        assert batch.members["rate"].tolist() == (-batch.audio_clip).tolist()
        there = [marks("train", row) is not None for row in batch.clip.tolist()]
        assert batch.masks["marks"].tolist() == there
        assert digests([batch]) == digests([expected])
    assert "of_audio names 'tokens', which is none of the members" in refusal(arrayed, of_audio=["tokens"])


def test_a_member_of_the_whole_sound_does_not_give_away_which_time_of_the_video_is_heard(arrayed: Path) -> None:
    """With a window it tells of more than is heard; where the times of one video are told apart, that is refused."""
    heard: dict[str, Any] = {"members": ("rate",), "of_audio": ("rate",), "frames": 4}
    for negatives in ({"shifted": 1}, {0: {"other_video": 1}, 3: {"other_video": 1, "shifted": 0.5}}):
        told = refusal(arrayed, negatives=negatives, **heard)
        assert "of_audio names 'rate', which is of whole clips, and a window has 4 of their 16 frames" in told
        assert told.endswith("leave out the window, shifted, or the member")
        # Each of the others goes.
        for fine in ({"frames": 16}, {"frames": 4, "sample": "even"}, {"of_audio": ()}, {"negatives": None}):
            loader_of(arrayed, **{"negatives": negatives, **heard, **fine}).close()
    loader_of(arrayed, negatives={"other_video": 1, "shifted": 0}, **heard).close()


def test_targets_are_what_the_catalog_states(arrayed: Path) -> None:
    table = open_catalog(arrayed, "train", []).table(["emotion", "arousal"]).to_pylist()
    with loader_of(arrayed, targets=["arousal", "emotion"]) as loader:
        batches = list(loader)
    assert all(list(batch.targets) == ["arousal", "emotion"] for batch in batches)
    found = [
        (row, code, number)
        for batch in batches
        for row, code, number in zip(
            batch.clip.tolist(), batch.targets["emotion"].tolist(), batch.targets["arousal"].tolist(), strict=True
        )
    ]
    for row, code, number in found:
        said = table[row]
        assert code == (-1 if said["emotion"] is None else EMOTIONS.index(said["emotion"]))
        assert np.isnan(number) if said["arousal"] is None else number == said["arousal"]
    assert 0 < sum(code == -1 for _, code, _ in found) < len(found)


@pytest.mark.parametrize(
    "settings", [{"negatives": None}, {"split": "test", "batch_size": 5, "rank": 1, "world_size": 2}]
)
def test_the_reference_makes_the_same_of_the_samples(arrayed: Path, settings: dict[str, Any]) -> None:
    settings = {"split": "train", "batch_size": 8, "rank": 0, "world_size": 1, "seed": 3, **EVERY, **settings}
    with loader_of(arrayed, **settings) as loader:
        batches = list(loader)
    for one, other in zip(batches, reference_batches(arrayed, **settings), strict=True):
        for (name, ours), (same, theirs) in zip(tensors(one), tensors(other), strict=True):
            assert (name, ours.dtype, ours.shape) == (same, theirs.dtype, theirs.shape)
            assert torch.equal(ours.nan_to_num(9.0), theirs.nan_to_num(9.0)), name


def test_what_is_drawn_does_not_depend_on_what_is_asked_for(arrayed: Path) -> None:
    """A state of one goes on in another, and all that both have is the same."""
    with loader_of(arrayed) as plain, loader_of(arrayed, **EVERY) as full:
        for _ in range(3):
            next(iter(plain)), next(iter(full))
        assert plain.state_dict() == full.state_dict()
        state = json.loads(json.dumps(full.state_dict()))
        rest = list(full)
    with loader_of(arrayed) as resumed:
        resumed.load_state_dict(state)
        for one, other in zip(resumed, rest, strict=True):
            assert (one.targets, one.members, one.masks) == ({}, {}, {})
            assert digests([one]) == digests([replace(other, targets={}, members={}, masks={})])


def test_one_of_the_builds_own_members_is_loaded_by_its_name(dataset: Path, tmp_path: Path) -> None:
    """Of a required member that the catalog knows nothing of, and that no clip has."""
    member = Member(name="gaze_frames", extension="npy", dtype="float32", shape=(50, 13), required=True)
    with_arrays(dataset, tmp_path / "bare", {member: lambda split, row: None})
    with loader_of(tmp_path / "bare", members=["gaze_frames"]) as loader:
        batch = next(iter(loader))
    assert batch.members["gaze_frames"].shape == (8, 50, 13)
    assert not batch.members["gaze_frames"].any()
    assert not batch.masks["gaze_frames"].any()


# -- what is not as declared


def test_a_file_that_is_not_what_is_declared_is_a_bad_clip(dataset: Path, tmp_path: Path) -> None:
    """Of right checksum; and one without it. Both give way, and are counted and named."""
    wrong: dict[int, Files] = {
        4: {"marks": npy(np.zeros((2, 6), np.float32))},
        7: {"marks": npy(np.zeros((6, 2), np.float64))},
        11: {"tokens": npy(np.zeros(8, np.int32))},
        13: {"tokens": b"no array"},
        20: {"rate": npy(np.zeros(1, ">i2"))},
    }

    def change(split: str, row: int, files: Files) -> Files:
        made = {member.name: of(split, row) for member, of in ARRAYS.items()}
        files = files | {name: npy(array) for name, array in made.items() if array is not None}
        return files | (wrong.get(row, {}) if split == "train" else {})

    folder = rebuilt(dataset, tmp_path / "wrong", (*read_manifest(dataset).members, *ARRAYS), change)
    flip_byte(folder, "train", 31, "marks", at=1)
    bad = {*wrong, 31}
    with loader_of(folder, max_bad_fraction=0.2, **EVERY) as loader:
        batches = [*loader, *loader]
        stats = loader.stats()
    assert stats.bad_clips == len(bad) <= stats.substitutions
    for batch in batches:
        rows = batch.clip.tolist()
        assert not bad & set(rows)
        for index, row in enumerate(rows):  # what takes a place has all of its own
            array = marks("train", row)
            assert batch.masks["marks"][index] == (array is not None)
            assert array is None or batch.members["marks"][index].tolist() == array.tolist()
            assert batch.masks["tokens"][index].sum() == (0 if row % 5 == 4 else row % 8)
            assert batch.members["rate"][index] == -row
    with loader_of(folder, max_bad_fraction=0.0) as loader:  # who does not ask does not mind
        list(loader)
    with (
        loader_of(folder, "train", max_bad_fraction=0.0, members=["marks"], training=False) as loader,
        pytest.raises(TooManyBadClipsError),
    ):
        list(loader)


def test_arrays_of_a_clip_whose_picture_cannot_be_decoded_give_way_with_it(arrayed: Path, tmp_path: Path) -> None:
    def change(split: str, row: int, files: Files) -> Files:
        strip = files["filmstrip"]
        return files | {"filmstrip": strip[: len(strip) // 2]} if (split, row) == ("test", 9) else files

    folder = rebuilt(arrayed, tmp_path / "cut", read_manifest(arrayed).members, change)
    for decoder, of_audio in (("dali", ()), ("turbo", ("rate",))):
        settings = {"max_bad_fraction": 0.1, "cpu_decoder": decoder, "of_audio": of_audio, **EVERY}
        with loader_of(folder, "test", **settings) as loader:
            batches = list(loader)
            assert loader.stats().bad_clips == 1
        for batch in batches:
            for index, row in enumerate(batch.clip.tolist()):
                assert row != 9
                assert batch.members["rate"][index] == -(batch.audio_clip[index] if of_audio else row)
                assert batch.masks["marks"][index] == (row % 3 != 0)


# -- what is refused


def test_an_unknown_name_is_refused_with_those_that_there_are(arrayed: Path) -> None:
    assert "no label 'mood', only emotion, arousal, valence" in refusal(arrayed, targets=["mood"])
    assert "have no 'smell', only filmstrip, audio, gaze, clip, marks" in refusal(arrayed, members=["smell"])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("filmstrip", "in every batch, as video"),
        ("audio", "in every batch, as audio"),
        ("gaze", "in every batch, as gaze and gaze_valid"),
        ("clip", "as an .msg, and only arrays"),
    ],
)
def test_what_is_no_further_array_is_refused_with_the_reason(arrayed: Path, name: str, why: str) -> None:
    assert why in refusal(arrayed, members=["marks", name])


@pytest.mark.parametrize("option", ["members", "targets"])
def test_names_are_a_sequence_of_each_once(arrayed: Path, option: str) -> None:
    assert f"{option} is 'marks': give names in a tuple, as ('marks',)" in refusal(arrayed, **{option: "marks"})
    assert f"{option} names 'marks' twice" in refusal(arrayed, **{option: ["marks", "rate", "marks"]})


# -- several datasets


@pytest.fixture
def second(tmp_path: Path) -> Path:
    make_dataset(tmp_path / "plain", Contents(speakers={"train": 3}, shards={"train": 2}, seed=5))
    return with_arrays(tmp_path / "plain", tmp_path / "second", ARRAYS)


def test_of_several_datasets_each_clip_has_its_own(arrayed: Path, second: Path) -> None:
    redeclared(second, labels=(replace_label(second, "arousal", low=-5.0, high=5.0)))
    with loader_of({arrayed: 1.0, second: 2.0}, batch_size=4, **EVERY) as loader:
        batches = list(loader)
        places = [[loader.locate(row) for row in batch.clip.tolist()] for batch in batches]
        stated = [catalog.targets for catalog in loader.catalogs]
    for batch, rows in zip(batches, places, strict=True):
        for index, (number, row) in enumerate(rows):
            assert batch.members["rate"][index] == -row
            array = marks("train", row)
            assert batch.members["marks"][index].tolist() == (np.zeros((6, 2)) if array is None else array).tolist()
            assert batch.targets["emotion"][index] == stated[number]["emotion"][row]
            arousal = [float(batch.targets["arousal"][index]), float(stated[number]["arousal"][row])]
            assert np.array_equal(arousal[:1], arousal[1:], equal_nan=True)
    assert {number for rows in places for number, _ in rows} == {0, 1}


def replace_label(dataset: Path, name: str, **changes: Any) -> tuple[Label, ...]:
    return tuple(replace(one, **changes) if one.name == name else one for one in read_manifest(dataset).labels)


def test_datasets_that_mean_other_things_by_a_name_are_refused(arrayed: Path, second: Path) -> None:
    both = {arrayed: 1.0, second: 1.0}
    kept = read_manifest(second)
    redeclared(second, labels=replace_label(second, "emotion", classes=EMOTIONS[::-1]))
    said = refusal(both, targets=["emotion"])
    assert f"{second}: its label 'emotion' is one of surprise, sad" in said
    assert f"that of {arrayed} one of anger, disgust" in said
    with loader_of(both, targets=["valence"]) as loader:
        next(iter(loader))
    redeclared(second, labels=())
    assert f"{second}: its clips have no label 'emotion', only none" in refusal(both, targets=["emotion"])
    members = [replace(m, shape=(4, 3)) if m.name == "marks" else m for m in kept.members]
    redeclared(second, labels=kept.labels, members=tuple(members))
    assert f"{second}: its marks is float32 (4, 3), that of {arrayed} float32 (6, 2)" in refusal(
        both, members=["marks"]
    )
    redeclared(second, members=tuple(m for m in kept.members if m.name != "gaze"))
    with loader_of(both, members=["rate"]) as loader:  # of gaze alone there may be none
        next(iter(loader))


def test_a_state_that_is_held_is_not_changed_by_later_batches(arrayed: Path) -> None:
    with loader_of(arrayed, **EVERY) as loader:
        held: list[Batch] = [*loader]
        before = digests(held)
        list(loader)
    assert digests(held) == before

"""A dataset that grows: what was there stays to the byte, what is new is added, and nothing in between is ever seen."""

import errno
import hashlib
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from loaders.dataset.labels import Label
from loaders.dataset.manifest import CATALOG, REJECTED, read_manifest
from loaders.errors import InputError
from loaders.loader import ClipLoader
from sharding.checks.repair import QUARANTINE, repair
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.packing import exchange as exchanging
from sharding.packing.building import build
from sharding.packing.extend import require_same_build
from sharding.settings import BuildSettings
from sharding.utterance import Corpus
from sharding.verify import verify
from tests import forked
from tests.films import shades, tone, write_film, write_table
from tests.parses import counted_parses

FIRST, ALL = 20, 42  # films that the existing dataset is built of, and the extended one
SETTINGS = BuildSettings(size=16, fps=4.0, clip_seconds=0.5)
MOODS = ("sad", "glad", "calm")
LABELS = (Label(name="mood", classes=MOODS), Label(name="level", low=0.0, high=1.0))


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write_sources(folder: Path, numbers: range) -> None:
    """Films of four speakers; every seventh film is too short, every third has no gaze table."""
    for number in numbers:
        names = f"s{number % 4}/v{number}/1"
        seconds = 0.25 if number % 7 == 6 else 1.0
        sound = tone(seconds, level=0.1 + 0.01 * number)
        write_film(folder / f"mp4/{names}.mp4", seconds, fps=8, picture=shades(16, 16), sound=sound)
        if number % 3:
            write_table(folder / f"csv/{names}.csv", 8, 8, seed=number)


def read(folder: Path, **options: Any) -> Corpus:
    tables = folder / "csv"
    given = {"openface": tables if tables.is_dir() else None, "test_fraction": 0.4, **options}
    return read_voxceleb(VoxcelebSources(source=folder / "mp4", **given))


def labelled(corpus: Corpus, numbers: range) -> Corpus:
    """The utterances of some of the videos, of which every fourth states nothing."""

    def stated(number: int) -> dict[str, str | float]:
        return {"mood": MOODS[number % 3], "level": number / ALL} if number % 4 else {}

    chosen = [
        replace(u, labels=stated(n)) for u, n in ((u, int(u.video[1:])) for u in corpus.utterances) if n in numbers
    ]
    return replace(corpus, labels=LABELS, utterances=tuple(chosen), rejected=())


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sources, the dataset of their first half, and the same extended to the whole. For reading only."""
    folder = tmp_path_factory.mktemp("grown")
    sources = folder / "sources"
    write_sources(sources, range(FIRST))
    (sources / "mp4/s0/v0/link.mp4").symlink_to(write_film(folder / "outside.mp4", 2, fps=5))
    build(read(sources), folder / "existing", SETTINGS, 1)
    write_sources(sources, range(FIRST, ALL))
    shutil.copytree(folder / "existing", folder / "extended")
    build(read(sources), folder / "extended", SETTINGS, 1, extend=True)
    return {"sources": sources, "existing": folder / "existing", "extended": folder / "extended"}


@pytest.fixture
def existing(grown: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the existing dataset, to extend."""
    return Path(shutil.copytree(grown["existing"], tmp_path / "dataset"))


@pytest.fixture
def sources(grown: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the sources, to change."""
    return Path(shutil.copytree(grown["sources"], tmp_path / "sources", symlinks=True))


def keys(dataset: Path, split: str) -> list[str]:
    values: list[str] = pq.read_table(dataset / split / CATALOG, columns=["key"])["key"].to_pylist()
    return values


def test_what_was_there_stays_and_what_is_new_is_added(grown: dict[str, Path]) -> None:
    before, after = digests(grown["existing"]), digests(grown["extended"])
    kept = {name: digest for name, digest in before.items() if name.endswith((".tar", ".idx"))}
    assert kept.items() <= after.items()
    old, new = read_manifest(grown["existing"]), read_manifest(grown["extended"])
    corpus = read(grown["sources"])
    for split, entry in new.splits.items():
        shards = old.splits[split].shards
        assert entry.shards[: len(shards)] == shards
        assert [shard.name for shard in entry.shards] == [f"{n:06d}.tar" for n in range(len(entry.shards))]
        assert keys(grown["extended"], split)[: old.splits[split].clips] == keys(grown["existing"], split)
    built = {key.rpartition("+")[0] for split in new.splits for key in keys(grown["extended"], split)}
    rejected = pq.read_table(grown["extended"] / REJECTED).to_pylist()
    short = {row["utterance"] + row["video"] for row in rejected if row["reason"] == "too_short"}
    assert built == {u.key for u in corpus.utterances if u.utterance + u.video not in short}
    assert len(short) == sum(number % 7 == 6 for number in range(ALL))
    assert new.rejected == {"outside_source": 1, "too_short": len(short)}
    assert set(old.splits) == set(new.splits) == {"train", "test"}
    assert not list(grown["extended"].parent.glob(".extended*"))


def test_the_result_is_whole_and_loads(grown: dict[str, Path]) -> None:
    report = verify(grown["extended"], decode=True)
    assert report.is_whole, report.faults
    with ClipLoader(grown["extended"], batch_size=8, training=False, negatives=None) as loader:
        assert sum(len(batch.clip) for batch in loader) == read_manifest(grown["extended"]).splits["train"].clips


def test_gaze_statistics_are_those_of_all_training_clips(grown: dict[str, Path]) -> None:
    folder, manifest = grown["extended"] / "train", read_manifest(grown["extended"])
    values = []
    for row in pq.read_table(folder / CATALOG).to_pylist():
        if row["gaze_size"]:
            with (folder / manifest.splits["train"].shards[row["shard"]].name).open("rb") as file:
                file.seek(row["gaze_offset"])
                values.append(np.frombuffer(file.read(row["gaze_size"])[-103 * 4 :], np.float32))
    assert 0 < len(values) < manifest.splits["train"].clips
    np.testing.assert_allclose(manifest.gaze_mean, np.mean(values, 0, dtype=np.float64), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(manifest.gaze_std, np.std(values, 0, dtype=np.float64), rtol=1e-7, atol=1e-9)


def test_the_same_bytes_from_any_number_of_workers(grown: dict[str, Path], existing: Path) -> None:
    build(read(grown["sources"]), existing, SETTINGS, 2, extend=True)
    assert digests(existing) == digests(grown["extended"])


def test_nothing_new_changes_nothing(grown: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(grown["extended"], tmp_path / "dataset"))
    inode = copy.stat().st_ino
    build(read(grown["sources"]), copy, SETTINGS, 1, extend=True)
    assert copy.stat().st_ino == inode
    assert digests(copy) == digests(grown["extended"])
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_a_new_split_and_further_extensions(sources: Path, existing: Path) -> None:
    corpus = read(sources)
    known = [u for u in corpus.utterances if int(u.video[1:]) < FIRST]
    fresh = [
        replace(u, split="validation", speaker="new", video=f"n{u.video}")
        for u in corpus.utterances
        if int(u.video[1:]) >= FIRST
    ]
    for count in (len(fresh) // 2, len(fresh)):
        now = replace(corpus, utterances=(*known, *fresh[:count]))
        build(now, existing, SETTINGS, 1, extend=True)
        assert verify(existing, decode=True).is_whole
    validation = read_manifest(existing).splits["validation"]
    assert [shard.name for shard in validation.shards] == ["000000.tar", "000001.tar"]


def test_a_split_that_is_a_link_is_refused_and_not_written_through(
    grown: dict[str, Path], existing: Path, tmp_path: Path
) -> None:
    (existing / "train").rename(tmp_path / "elsewhere")
    (existing / "train").symlink_to(tmp_path / "elsewhere")
    before = digests(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"dataset/train: a link.*put the folder itself there"):
        build(read(grown["sources"]), existing, SETTINGS, 1, extend=True)
    assert digests(tmp_path / "elsewhere") == before


def test_whatever_else_lies_in_the_folder_is_kept(grown: dict[str, Path], existing: Path) -> None:
    (existing / "NOTES.txt").write_text("ours")
    (existing / "train/link").symlink_to("nowhere")
    build(read(grown["sources"]), existing, SETTINGS, 1, extend=True)
    assert (existing / "NOTES.txt").read_text() == "ours"
    assert (existing / "train/link").is_symlink()


def test_what_a_repair_took_out_comes_back(grown: dict[str, Path], existing: Path) -> None:
    """Its utterances are in neither catalog nor rejected.parquet: they are new."""
    lost = existing / "train/000000.tar"
    damaged = bytearray(lost.read_bytes())
    damaged[600] ^= 255
    lost.write_bytes(damaged)
    whole = set(keys(existing, "train"))
    repair(verify(existing))
    assert set(keys(existing, "train")) < whole
    build(read(grown["sources"]), existing, SETTINGS, 1, extend=True)
    report = verify(existing, decode=True)
    assert report.is_whole, report.faults
    assert sorted(keys(existing, "train")) == sorted(keys(grown["extended"], "train"))
    assert (existing / QUARANTINE).is_dir()


# Refused --------------------------------------------------------------------------------------------------------------


def refused(message: str, corpus: Corpus, dataset: Path, settings: BuildSettings = SETTINGS, **options: Any) -> None:
    before = digests(dataset)
    with pytest.raises(InputError, match=message):
        build(corpus, dataset, settings, 1, extend=True, **options)
    assert digests(dataset) == before
    assert not list(dataset.parent.glob(f".{dataset.name}*"))


@pytest.mark.parametrize("changed", [{"size": 32}, {"quality": 80}, {"shard_mb": 12}, {"pad_short": True}])
def test_other_settings_are_refused_by_name(grown: dict[str, Path], existing: Path, changed: dict[str, Any]) -> None:
    option = "--" + next(iter(changed)).replace("_", "-")
    refused(f"was built with {option} ", read(grown["sources"]), existing, replace(SETTINGS, **changed))


def test_another_split_is_refused(grown: dict[str, Path], existing: Path) -> None:
    refused("are apart by speaker, not by video", read(grown["sources"], split_by="video"), existing)
    corpus = read(grown["sources"])
    moved = tuple(replace(u, split="train") for u in corpus.utterances)
    refused(r"v\d+/1.mp4: is in train now, and was in test", replace(corpus, utterances=moved), existing)


def longer(path: Path) -> None:
    write_film(path, 1.5, fps=8, picture=shades(16, 16))


def one_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def alike(folder: Path, speakers: int, videos: int = 3) -> Path:
    """Speakers who all have films of the same names."""
    for speaker, video in np.ndindex(speakers, videos):
        sound = tone(0.5, level=0.1 + 0.01 * (videos * speaker + video))
        path = folder / f"mp4/s{speaker}/v{video}/1.mp4"
        if not path.exists():
            write_film(path, 0.5, fps=8, picture=shades(16, 16), sound=sound)
    return folder


def test_whose_names_videos_have_stays_where_it_counts(tmp_path: Path) -> None:
    """A dataset in which no two share a name takes either way; from then on it is kept."""
    sources, dataset = alike(tmp_path / "sources", 1), tmp_path / "dataset"
    build(read(sources, test_fraction=0.0), dataset, SETTINGS, 1)
    assert read_manifest(dataset).video_names == "corpus"
    other = Path(shutil.copytree(dataset, tmp_path / "other"))
    alike(sources, 3)
    both = {names: read(sources, test_fraction=0.0, video_names=names) for names in ("speaker", "corpus")}
    for folder, names, count in ((dataset, "speaker", 9), (other, "corpus", 3)):
        manifest = build(both[names], folder, SETTINGS, 1, extend=True).manifest
        assert (manifest.video_names, manifest.splits["train"].videos) == (names, count)
        assert verify(folder).is_whole
    refused("'v0', and it was built with --video-names speaker, not corpus: give the same", both["corpus"], dataset)
    refused("'v0', and it was built with --video-names corpus, not speaker: give the same", both["speaker"], other)


CHANGES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "film": (longer, "mp4/s1/v1/1.mp4", r"s1/v1/1.mp4: it, its sound, gaze, boxes or arrays have changed"),
    "film by a byte": (one_byte, "mp4/s1/v1/1.mp4", r"s1/v1/1.mp4: it, .* have changed"),
    "gaze by a byte": (one_byte, "csv/s1/v1/1.csv", r"s1/v1/1.mp4: it, .* have changed"),
    "gaze gone": (Path.unlink, "csv/s1/v1/1.csv", r"s1/v1/1.mp4: it, .* have changed"),
    "film gone": (Path.unlink, "mp4/s1/v1/1.mp4", "its utterance s1/v1/1 of .* is not in the sources now"),
    "rejected film that is longer now": (longer, "mp4/s2/v6/1.mp4", r"s2/v6/1.mp4: it, .* have changed"),
    "rejected film gone": (Path.unlink, "mp4/s2/v6/1.mp4", r"v6/1.mp4: was rejected \(too_short\), and is so no"),
    "link gone": (Path.unlink, "mp4/s0/v0/link.mp4", r"link.mp4: was rejected \(outside_source\), and is so no longer"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_sources_that_changed_are_refused_by_name(sources: Path, existing: Path, name: str) -> None:
    change, path, message = CHANGES[name]
    change(sources / path)
    refused(message, read(sources), existing)


def test_other_labels_are_refused_by_name(grown: dict[str, Path], tmp_path: Path) -> None:
    corpus, existing = labelled(read(grown["sources"]), range(6)), tmp_path / "labelled"
    build(corpus, existing, SETTINGS, 1)
    (victim,) = (n for n, u in enumerate(corpus.utterances) if u.video == "v1")
    for name, value in (("mood", "calm"), ("mood", None), ("level", 0.5), ("level", None)):
        utterances = list(corpus.utterances)
        stated = {**utterances[victim].labels, name: value}
        stated = {label: one for label, one in stated.items() if one is not None}
        utterances[victim] = replace(utterances[victim], labels=stated)
        refused(f"v1/1.mp4: its {name} is {value} now", replace(corpus, utterances=tuple(utterances)), existing)
    told = r"was built with the labels mood \(class\), level \(number\), not mood \(class\)"
    refused(told, replace(corpus, labels=LABELS[:1]), existing)


def test_new_classes_come_after_those_that_are_there_and_ranges_grow(grown: dict[str, Path], tmp_path: Path) -> None:
    existing = tmp_path / "labelled"
    build(labelled(read(grown["sources"]), range(6)), existing, SETTINGS, 1)
    corpus = labelled(read(grown["sources"]), range(9))
    labels = (Label(name="mood", classes=("angry", "calm", "glad", "sad")), Label(name="level", low=-1.0, high=0.9))
    new = [u for u in corpus.utterances if int(u.video[1:]) >= 6]
    utterances = [replace(u, labels={"mood": "angry"}) if u is new[0] else u for u in corpus.utterances]
    build(replace(corpus, labels=labels, utterances=tuple(utterances)), existing, SETTINGS, 1, extend=True)
    assert read_manifest(existing).labels == (
        Label(name="mood", classes=(*MOODS, "angry")),
        Label(name="level", low=-1.0, high=1.0),
    )
    assert verify(existing).is_whole


@pytest.mark.parametrize("kind", ["speaker", "video"])
def test_leaks_against_the_clips_that_are_there_are_refused(grown: dict[str, Path], existing: Path, kind: str) -> None:
    corpus = read(grown["sources"], video_names="corpus")
    theirs = next(u for u in corpus.utterances if u.split == "train" and int(u.video[1:]) < FIRST)
    changed = {"speaker": "someone", "video": "new", "split": "test", kind: getattr(theirs, kind)}
    number, new = next((n, u) for n, u in enumerate(corpus.utterances) if int(u.video[1:]) >= FIRST)
    utterances = list(corpus.utterances)
    utterances[number] = replace(new, utterance="leaks", **changed)
    leaking = replace(corpus, utterances=tuple(utterances))
    refused(f"{kind} '{getattr(theirs, kind)}' is in the splits train and test", leaking, existing)
    # Test keeps its own, so that the train split would lose clips that it has.
    refused(f"is rejected now .its {kind} .* is in test too", leaking, existing, on_leak="reject")
    # Where test has the clips already, the new ones are left out.
    theirs = next(u for u in corpus.utterances if u.split == "test" and int(u.video[1:]) < FIRST)
    changed |= {"split": "train", kind: getattr(theirs, kind)}
    utterances[number] = replace(new, utterance="leaks", **changed)
    leaking = replace(corpus, utterances=tuple(utterances))
    manifest = build(leaking, existing, SETTINGS, 1, "reject", extend=True).manifest
    assert manifest.rejected["leak"] == 1
    assert verify(existing).is_whole


def test_a_faulty_a_foreign_and_no_dataset_are_refused(grown: dict[str, Path], existing: Path, tmp_path: Path) -> None:
    corpus = read(grown["sources"])
    refused("was built from voxceleb, not from omg", replace(corpus, name="omg"), existing)
    with pytest.raises(InputError, match="no such folder"):
        build(corpus, tmp_path / "nowhere", SETTINGS, 1, extend=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no dataset there"):
        build(corpus, tmp_path / "empty", SETTINGS, 1, extend=True)
    os.truncate(existing / "train/000000.tar", 100)
    refused(r"train/000000.tar: is not as dataset.json says: run sharding/verify.py --repair", corpus, existing)
    shutil.copy(grown["existing"] / "train/000000.tar", existing / "train/000000.tar")
    (existing / "test/clips.parquet").unlink()
    refused(r"test/clips.parquet: is not as dataset.json says", corpus, existing)


def test_a_file_system_without_hard_links_is_told(
    grown: dict[str, Path], existing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    before = digests(existing)
    monkeypatch.setattr("sharding.packing.folder_output.os.link", no_links)
    with pytest.raises(InputError, match="hard links"):
        build(read(grown["sources"]), existing, SETTINGS, 1, extend=True)
    monkeypatch.undo()
    assert digests(existing) == before
    build(read(grown["sources"]), existing, SETTINGS, 1, extend=True)  # it goes on from the shards that are there
    assert digests(existing) == digests(grown["extended"])


# Broken off -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("step", ["finish", "exchange", "half exchanged", "clear"])
def test_broken_off_anywhere_the_dataset_is_the_one_or_the_other(
    grown: dict[str, Path], existing: Path, monkeypatch: pytest.MonkeyPatch, step: str, at_once: bool
) -> None:
    """Where the file system cannot exchange folders in one step there is a moment without any: the rerun mends it."""

    def killed(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    def impossible(*_: Any) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    rename = Path.rename

    def stopping(path: Path, target: Path) -> Path:
        if path.name == ".dataset":
            raise KeyboardInterrupt
        return rename(path, target)

    corpus, before = read(grown["sources"]), digests(existing)
    if step == "half exchanged" and at_once:
        pytest.skip("an exchange in one step has no half")
    with monkeypatch.context() as patch:
        if not at_once:
            patch.setattr(exchanging, "_exchange_at_once", impossible)
        if step == "finish":
            patch.setattr("sharding.packing.finish.write_manifest", killed)
        elif step == "exchange":
            patch.setattr("sharding.packing.folder_output.exchange", killed)
        elif step == "half exchanged":
            patch.setattr(Path, "rename", stopping)
        else:
            patch.setattr("sharding.packing.folder_output.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            build(corpus, existing, SETTINGS, 1, extend=True)
    if step == "half exchanged":
        assert not existing.exists()
    else:
        assert verify(existing).is_whole
        assert digests(existing) == (digests(grown["extended"]) if step == "clear" else before)
    build(corpus, existing, SETTINGS, 1, extend=True)
    assert digests(existing) == digests(grown["extended"])
    assert [path.name for path in existing.parent.iterdir() if path.name != "sources"] == ["dataset"]


def test_folders_change_places(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    exchanging.exchange(tmp_path / "a", tmp_path / "b")
    assert [(tmp_path / name / "file").read_text() for name in "ab"] == ["b", "a"]
    with pytest.raises(OSError, match="a"):
        exchanging.exchange(tmp_path / "a", tmp_path / "c")


def test_killed_at_random_moments_it_ends_the_same(grown: dict[str, Path], existing: Path) -> None:
    """kill -9; in between, the dataset is whole and readable: the existing, or the extended one."""
    command = [
        *("sharding/build.py", "voxceleb", "--extend", "--workers", "2"),
        *("--source", grown["sources"] / "mp4", "--openface", grown["sources"] / "csv"),
        *("--output", existing, "--test-fraction", "0.4", "--size", "16", "--fps", "4", "--clip-seconds", "0.5"),
    ]
    draw = random.Random(4)
    ends = (digests(grown["existing"]), digests(grown["extended"]))
    for _ in range(2):
        process = forked.script(command, session=True)
        stage = existing.with_name(f".{existing.name}.extension") / ".build"
        while not stage.exists() and process.poll() is None and existing.exists():
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 2.5))
        process.kill()
        process.communicate()
        assert digests(existing) in ends
    process = forked.script(command)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert digests(existing) == ends[1]


def test_what_is_complete_is_parsed_once(grown: dict[str, Path], tmp_path: Path) -> None:
    whole, corpus = Path(shutil.copytree(grown["extended"], tmp_path / "dataset")), read(grown["sources"])
    for extend in (True, False):
        with counted_parses() as parses:
            build(corpus, whole, SETTINGS, 1, extend=extend)
        assert len(parses) == 1


def test_a_description_that_cannot_be_read_is_not_extended(existing: Path, sources: Path) -> None:
    (existing / "dataset.json").write_bytes(b"{}")
    before = digests(existing)
    with pytest.raises(InputError, match="not a dataset description"):
        build(read(sources), existing, SETTINGS, 1, extend=True)
    assert digests(existing) == before
    assert not existing.with_name(f".{existing.name}.extension").exists()


def test_a_dataset_of_before_there_was_a_choice_of_trackers_has_openfaces(grown: dict[str, Path]) -> None:
    manifest = read_manifest(grown["extended"])
    corpus = read(grown["sources"])
    before = replace(manifest, settings={name: value for name, value in manifest.settings.items() if name != "gaze"})
    require_same_build(before, corpus, SETTINGS, "it")
    with pytest.raises(InputError, match="was built with --gaze openface, not mediapipe"):
        require_same_build(before, corpus, replace(SETTINGS, gaze="mediapipe"), "it")

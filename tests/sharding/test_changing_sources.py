"""Sources that are replaced, go away or fail under a build: it stops by name, and ends in the bytes of a fresh one."""

import errno
import hashlib
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from loaders.dataset.manifest import REJECTED
from loaders.errors import InputError
from sharding.corpora.boxes import read_boxes
from sharding.corpora.tree import read_tree
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.gaze.statistics import read_table
from sharding.media.probe import probe_seconds
from sharding.media.reader import Media, read_media
from sharding.packing.building import build
from sharding.packing.clips import RejectedError
from sharding.packing.plan import ShardJob
from sharding.packing.shard import ShardResult, build_shard
from sharding.packing.survey import require_all_unchanged
from sharding.settings import BuildSettings
from sharding.sources.fingerprint import fingerprint
from sharding.sources.read_errors import SourceError
from sharding.sources.store import Store
from sharding.sources.watched_file import WatchedFile
from sharding.utterance import BoxesFile, Corpus, Utterance
from tests.films import shades, tone, write_film, write_table
from tests.limits import unprivileged
from tests.s3 import S3

SETTINGS = BuildSettings(size=16, fps=4.0, clip_seconds=0.5)
FAILING = Path("/proc/self/mem")  # a file that opens, and can neither be read at its beginning nor be measured
UNREADABLE = "(Input/output error|Invalid argument)"

Spoil = Callable[[Path, Path], None]  # of a source, with another film at hand


def film(path: Path, number: int, seconds: float = 0.5) -> Path:
    return write_film(path, seconds, fps=8, picture=shades(16, 16), sound=tone(seconds, level=0.1 + 0.002 * number))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films for two shards, one of them broken, and one beside them. For reading only."""
    folder = tmp_path_factory.mktemp("films")
    for number in range(34):
        film(folder / f"mp4/s{number % 8}/v{number}/1.mp4", number)
        if number % 3:
            write_table(folder / f"csv/s{number % 8}/v{number}/1.csv", 4, 8, seed=number)
    (folder / "mp4/s0/v0/1.mp4").write_bytes(b"no film")
    film(folder / "other.mp4", 99, 1.0)
    return folder


@pytest.fixture
def source(films: Path, tmp_path: Path) -> Path:
    """The same films, to be changed."""
    return Path(shutil.copytree(films, tmp_path / "films"))


def corpus_of(source: Path) -> Corpus:
    return read_voxceleb(VoxcelebSources(source=source / "mp4", openface=source / "csv", test_fraction=0.0))


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def fresh(source: Path, output: Path) -> dict[str, str]:
    """The files of a build of the sources as they are now."""
    shutil.rmtree(output, ignore_errors=True)
    build(corpus_of(source), output, SETTINGS, 1)
    return digests(output)


def killed(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def before_shard(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[ShardJob], object]) -> None:
    """Do something before a build begins with its shard of this number; built is what comes in the plan's order."""

    def and_build(job: ShardJob) -> ShardResult:
        if job.number == number:
            act(job)
        return build_shard(job)

    monkeypatch.setattr("sharding.packing.building.build_shard", and_build)


def overwrite(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def replace(path: Path, other: Path) -> None:
    shutil.copy(other, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def remove(path: Path, _: Path) -> None:
    path.unlink()


# Between two runs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_a_resumed_build_takes_its_sources_as_they_are_now(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """A film that became another, a table too, and a broken film that is whole now; other shards are kept."""
    output, corpus = tmp_path / "dataset", corpus_of(source)

    monkeypatch.setattr("sharding.packing.building.finish_dataset", killed)
    jobs: list[ShardJob] = []
    before_shard(monkeypatch, 0, jobs.append)
    with pytest.raises(KeyboardInterrupt):
        build(corpus, output, SETTINGS, 1)
    monkeypatch.undo()
    built = {path: path.stat().st_mtime_ns for path in output.rglob("*.tar")}
    assert len(built) == 2
    (job,) = jobs
    broken = next((u for u in job.utterances if u.video == "v0"), job.utterances[0])
    replace(broken.video_path, source / "other.mp4")
    tabled = next(u for u in job.utterances if u.gaze_path is not None)
    assert tabled.gaze_path is not None
    write_table(tabled.gaze_path, 4, 8, seed=999)
    build(corpus_of(source), output, SETTINGS, workers)
    kept = {path.stem for path, at in built.items() if path.stat().st_mtime_ns == at}
    assert kept == {"000001"}
    assert digests(output) == fresh(source, tmp_path / "fresh")


def test_a_broken_film_that_is_whole_now_is_taken(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "dataset"
    monkeypatch.setattr("sharding.packing.building.finish_dataset", killed)
    with pytest.raises(KeyboardInterrupt):
        build(corpus_of(source), output, SETTINGS, 1)
    monkeypatch.undo()
    film(source / "mp4/s0/v0/1.mp4", 0)
    build(corpus_of(source), output, SETTINGS, 1)
    assert pq.read_table(output / REJECTED)["reason"].to_pylist() == []
    assert digests(output) == fresh(source, tmp_path / "fresh")


def test_a_shard_that_has_no_clip_any_more_leaves_no_index(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "dataset"
    jobs: list[ShardJob] = []
    before_shard(monkeypatch, 0, jobs.append)
    monkeypatch.setattr("sharding.packing.building.finish_dataset", killed)
    with pytest.raises(KeyboardInterrupt):
        build(corpus_of(source), output, SETTINGS, 1)
    monkeypatch.undo()
    for utterance in jobs[0].utterances:
        utterance.video_path.write_bytes(b"broken")
    build(corpus_of(source), output, SETTINGS, 1)
    assert digests(output) == fresh(source, tmp_path / "fresh")
    assert not (output / "train/000000.idx").exists()


def test_a_receipt_vouches_for_its_own_shard_alone(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sources become others, the shard is built anew and its receipt never written; then they are again what they were.

    Tars are padded: the lengths of both are the same.
    """
    output = tmp_path / "dataset"
    jobs: list[ShardJob] = []

    before_shard(monkeypatch, 0, jobs.append)
    monkeypatch.setattr("sharding.packing.building.finish_dataset", killed)
    with pytest.raises(KeyboardInterrupt):
        build(corpus_of(source), output, SETTINGS, 1)
    path = next(u.video_path for u in jobs[0].utterances if u.video != "v0")
    before, shard = path.read_bytes(), output / "train/000000.tar"
    length, content = shard.stat().st_size, shard.read_bytes()
    film(path, 50)
    monkeypatch.setattr("sharding.packing.shard.write_receipt", killed)
    with pytest.raises(KeyboardInterrupt):
        build(corpus_of(source), output, SETTINGS, 1)
    assert shard.stat().st_size == length
    assert shard.read_bytes() != content
    monkeypatch.undo()
    path.write_bytes(before)
    build(corpus_of(source), output, SETTINGS, 1)
    assert digests(output) == fresh(source, tmp_path / "fresh")


def test_a_build_into_a_store_is_resumed_with_the_sources_as_they_are_now(
    source: Path, tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a shard has no clip any more: nothing of it is left there. And nothing is probed twice."""
    store = Store(url="s3://bucket/resumed")
    jobs: list[ShardJob] = []
    before_shard(monkeypatch, 0, jobs.append)
    monkeypatch.setattr("sharding.packing.building.finish_dataset", killed)
    with pytest.raises(KeyboardInterrupt):
        build(corpus_of(source), Path(store.url), SETTINGS, 1)
    monkeypatch.undo()
    assert "train/000000.tar" in store.sizes()
    for utterance in jobs[0].utterances:
        utterance.video_path.write_bytes(b"broken")
    probed: list[Utterance] = []
    monkeypatch.setattr("sharding.packing.survey.probe_seconds", lambda u: (probed.append(u), probe_seconds(u))[1])
    build(corpus_of(source), Path(store.url), SETTINGS, 1)
    # All the broken ones have one content, and so one length.
    assert {u.key for u in probed} <= {u.key for u in jobs[0].utterances}
    monkeypatch.undo()
    expected = fresh(source, tmp_path / "fresh")
    assert store.sizes() == {name: (tmp_path / "fresh" / name).stat().st_size for name in expected}
    for name in ("dataset.json", "rejected.parquet", "train/000001.tar"):
        assert hashlib.sha256(store.get(name) or b"").hexdigest() == expected[name]


# In mid-build ---------------------------------------------------------------------------------------------------------


def test_sources_that_go_away_stop_the_build_and_it_goes_on_when_they_are_back(
    films: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, away = tmp_path / "dataset", tmp_path / "away"
    before_shard(monkeypatch, 1, lambda _: source.rename(away))
    with pytest.raises(InputError, match=rf"^{source}/mp4/s\d/v\d+/1\.mp4: is gone since the build began: put it back"):
        build(corpus_of(source), output, SETTINGS, 1)
    monkeypatch.undo()
    assert not (output / "dataset.json").exists()
    (kept,) = output.rglob("*.tar")
    at = kept.stat().st_mtime_ns
    away.rename(source)
    build(corpus_of(source), output, SETTINGS, 1)
    assert kept.stat().st_mtime_ns == at
    assert digests(output) == fresh(source, tmp_path / "fresh")


@pytest.mark.parametrize(
    ("what", "spoil", "when"),
    [("video_path", overwrite, 0), ("video_path", remove, 1), ("gaze_path", replace, 1), ("gaze_path", remove, 0)],
)
def test_a_source_that_changes_before_its_shard_is_built_or_after_stops_the_build(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, spoil: Spoil, when: int
) -> None:
    """It is of shard 0; the change comes as that begins, and as the last one does."""
    output = tmp_path / "dataset"
    planned: list[ShardJob] = []

    def change(_: ShardJob) -> None:
        paths = [path for u in planned[0].utterances if u.video != "v0" and (path := getattr(u, what)) is not None]
        spoil(paths[-1], source / "other.mp4")

    def and_build(job: ShardJob) -> ShardResult:
        planned.append(job)
        if job.number == when:
            change(job)
        return build_shard(job)

    monkeypatch.setattr("sharding.packing.building.build_shard", and_build)
    with pytest.raises(SourceError, match=f"^{source}/.*run the build again, it goes on from here$"):
        build(corpus_of(source), output, SETTINGS, 1)
    monkeypatch.undo()
    assert not (output / "dataset.json").exists()
    build(corpus_of(source), output, SETTINGS, 1)
    assert digests(output) == fresh(source, tmp_path / "fresh")


@pytest.mark.parametrize("first", [True, False])
def test_a_source_that_changes_while_it_is_read_is_not_trusted(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """Before its pictures are decoded, or after."""
    from sharding.packing import clips

    def and_change(utterance: Utterance, *rest: Any) -> Any:
        if utterance.video != "v7":
            return clips.encode_utterance(utterance, *rest)
        if first:
            overwrite(utterance.video_path, source / "other.mp4")
        encoded = clips.encode_utterance(utterance, *rest)
        overwrite(utterance.video_path, source / "other.mp4")
        return encoded

    monkeypatch.setattr("sharding.packing.shard.encode_utterance", and_change)
    with pytest.raises(SourceError, match=r"v7/1\.mp4: it, its sound, gaze, boxes or arrays changed"):
        build(corpus_of(source), tmp_path / "dataset", SETTINGS, 1)
    assert len(list((tmp_path / "dataset").rglob("*.tar"))) < 2  # its shard was not written
    monkeypatch.undo()
    build(corpus_of(source), tmp_path / "dataset", SETTINGS, 1)
    assert digests(tmp_path / "dataset") == fresh(source, tmp_path / "fresh")


@pytest.mark.parametrize("reason", ["missing", "unreadable"])
def test_what_was_away_for_a_moment_is_not_rejected(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    def blink(*_: Any) -> Any:
        raise RejectedError(reason, "it was not there")

    monkeypatch.setattr("sharding.packing.shard.encode_utterance", blink)
    with pytest.raises(SourceError, match="run the build again"):
        build(corpus_of(source), tmp_path / "dataset", SETTINGS, 1)


def test_what_was_listed_and_is_gone_when_the_build_is_planned_stops_it(source: Path, tmp_path: Path) -> None:
    corpus = corpus_of(source)
    gone = source / "mp4/s1/v1/1.mp4"
    gone.unlink()
    with pytest.raises(SourceError, match=f"^{gone}: is gone since the build began"):
        build(corpus, tmp_path / "dataset", SETTINGS, 1)


def test_what_was_missing_from_the_start_is_rejected(source: Path, tmp_path: Path) -> None:
    """Sound that the tree of sounds lacks, a link to nowhere, a film that may not be read."""
    write_film(source / "wav/s1/v1/1.wav.m4a", 0.5)
    shutil.rmtree(source / "csv")
    for path in sorted((source / "mp4").rglob("*.mp4"))[4:]:
        path.unlink()
    films = sorted((source / "mp4").rglob("*.mp4"))
    for path in films:
        names = path.relative_to(source / "mp4")
        film(source / "m4a" / names.with_suffix(".m4a"), 1)
    (source / "m4a" / films[3].relative_to(source / "mp4")).with_suffix(".m4a").unlink()
    films[2].unlink()
    films[2].symlink_to(source / "mp4/nowhere.mp4")
    corpus = read_voxceleb(VoxcelebSources(source=source / "mp4", audio=source / "m4a", test_fraction=0.0))
    build(corpus, tmp_path / "dataset", SETTINGS, 1)
    assert sorted(pq.read_table(tmp_path / "dataset" / REJECTED)["reason"].to_pylist()) == [
        "missing", "missing", "undecodable",
    ]  # fmt: skip


def test_a_film_that_may_not_be_read_is_rejected() -> None:
    with tempfile.TemporaryDirectory(prefix="filmstrip-test-") as name:
        root = Path(name)
        root.chmod(0o777)
        for number in range(3):
            film(root / f"mp4/s/v{number}/1.mp4", number)
        (root / "mp4/s/v1/1.mp4").chmod(0o000)
        (root / "mp4/s/v2").chmod(0o444)  # may be listed, and not entered
        try:
            with unprivileged():
                corpus = read_voxceleb(VoxcelebSources(source=root / "mp4", test_fraction=0.0))
                build(corpus, root / "dataset", SETTINGS, 1)
        finally:
            (root / "mp4/s/v2").chmod(0o755)
        rows = pq.read_table(root / "dataset" / REJECTED).to_pylist()
        assert {row["video"]: row["reason"] for row in rows} == {"v1": "undecodable", "v2": "unreadable"}


def test_sources_change_at_random_moments(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    """One of them is replaced, overwritten or removed at a moment drawn from the time that a build takes.

    The dataset is that of a fresh build of the sources as they are then, or the build stops, and is such when it has
    been run again. 3 times; with ``--full`` 20.
    """
    checked: list[float] = []

    def and_note(*arguments: Any) -> None:
        checked.append(time.monotonic())
        require_all_unchanged(*arguments)

    monkeypatch.setattr("sharding.packing.building.require_all_unchanged", and_note)
    draw, outcomes = random.Random(5), {"stopped": 0, "ended": 0, "changed after it was looked at last": 0}
    began = time.monotonic()
    fresh(films, tmp_path / "fresh")
    seconds = time.monotonic() - began
    for number in range(20 if full else 3):
        source, output = Path(shutil.copytree(films, tmp_path / f"films{number}")), tmp_path / f"dataset{number}"
        path = draw.choice(sorted(source.glob("*/s*/v*/1.*")))
        spoil, content, changed = draw.choice([overwrite, replace, remove]), path.read_bytes(), []

        def change(path: Path = path, spoil: Spoil = spoil, source: Path = source, at: list[float] = changed) -> None:
            at.append(time.monotonic())
            spoil(path, source / "other.mp4")

        timer = threading.Timer(draw.uniform(0, seconds), change)
        timer.start()
        workers = draw.choice((1, 2)) if full else 1
        message = _built_or_stopped(source, output, workers)
        timer.cancel()
        timer.join()
        is_late = message == "" and changed and changed[0] >= checked[-1]
        outcomes["stopped" if message else "changed after it was looked at last" if is_late else "ended"] += 1
        if message:
            assert f"/{path.parent.parent.name}/{path.parent.name}/1." in message  # of the utterance, which file ever
            assert _built_or_stopped(source, output, workers) == ""
        result = digests(output)
        expected = [fresh(source, tmp_path / "fresh")]
        if is_late:
            path.write_bytes(content)
            expected.append(fresh(source, tmp_path / "fresh"))
        assert result in expected
    print(outcomes)


def _built_or_stopped(source: Path, output: Path, workers: int) -> str:
    """The message, where the build stops."""
    try:
        build(corpus_of(source), output, SETTINGS, workers)
    except InputError as error:
        return str(error)
    return ""


# A file system that fails ---------------------------------------------------------------------------------------------


class Failing(WatchedFile):
    """A file of which only so many bytes can be read."""

    bytes = 0

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = _FailingRaw(path, Failing.bytes)  # type: ignore[assignment]


class _FailingRaw:
    def __init__(self, path: Path, limit: int) -> None:
        self._file, self._limit = path.open("rb", buffering=0), limit
        self.seek, self.tell, self.close = self._file.seek, self._file.tell, self._file.close

    def read(self, size: int) -> bytes:
        room = self._limit - self._file.tell()
        if room <= 0 and self._file.tell() < os.fstat(self._file.fileno()).st_size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._file.read(min(size, max(room, 1)))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "webm"])
def test_reading_that_fails_midway_is_no_shorter_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """FFmpeg takes it for the file's end, or for damage, and does not tell."""
    noise = np.random.default_rng(0).integers(0, 255, (50, 32, 32, 3), dtype=np.uint8)
    path = write_film(tmp_path / f"film.{suffix}", 2, picture=lambda at: noise[int(at * 25) % 50])
    whole = read_media(path, fps=8, size=16)
    monkeypatch.setattr("sharding.media.reader.WatchedFile", Failing)
    size, failed = path.stat().st_size, 0
    for number in range(20):
        Failing.bytes = size * number // 20
        error, media = _error_or_media(path)
        if media is None:
            assert (error.errno, error.filename) == (errno.EIO, str(path))
            failed += 1
        else:  # what is not needed is not read
            assert np.array_equal(media.frames, whole.frames)
            assert np.array_equal(media.audio, whole.audio)
    assert failed >= 15


def _error_or_media(path: Path) -> tuple[OSError, Media | None]:
    try:
        return OSError(), read_media(path, fps=8, size=16)
    except OSError as error:
        return error, None


def of(path: Path, **files: Any) -> Utterance:
    return Utterance(corpus="c", split="train", speaker="s", video="v", utterance="u", video_path=path, **files)


@pytest.mark.parametrize(
    "read",
    [
        lambda path: probe_seconds(of(path)),
        lambda path: probe_seconds(of(path, boxes=BoxesFile(path=path))),
        lambda path: fingerprint(of(path)),
        read_table,
        read_boxes,
    ],
)
def test_what_cannot_be_read_is_no_fault_of_the_file(read: Callable[[Path], object], tmp_path: Path) -> None:
    link = tmp_path / "link.mp4"
    link.symlink_to(FAILING)
    with pytest.raises(SourceError, match=f"^{link}: {UNREADABLE}: see to its file system"):
        read(link)


def test_a_film_that_cannot_be_read_stops_the_build(source: Path, tmp_path: Path) -> None:
    path = source / "mp4/s1/v1/1.mp4"
    corpus = corpus_of(source)
    path.unlink()
    path.symlink_to(FAILING)
    with pytest.raises(SourceError, match=f"^{path}: {UNREADABLE}"):
        build(corpus, tmp_path / "dataset", SETTINGS, 1)


def test_an_error_in_the_middle_of_a_shard_stops_the_build(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of reading a film, though its ends can be read."""

    class Middle(WatchedFile):
        def read(self, size: int) -> bytes:
            if "/v7/" in self.name:
                return self._failed(OSError(errno.ESTALE, os.strerror(errno.ESTALE)), b"")
            return super().read(size)

    monkeypatch.setattr("sharding.media.reader.WatchedFile", Middle)
    with pytest.raises(SourceError, match=r"v7/1\.mp4: Stale file handle: see to its file system"):
        build(corpus_of(source), tmp_path / "dataset", SETTINGS, 1)


@pytest.mark.parametrize(
    ("number", "what"), [(errno.ESTALE, "Stale file handle"), (errno.ENOENT, "went while it was listed")]
)
def test_a_folder_that_cannot_be_listed_for_now_is_no_rejection(
    films: Path, monkeypatch: pytest.MonkeyPatch, number: int, what: str
) -> None:
    scandir = os.scandir

    def fail(path: Path) -> Iterator[Any]:
        if str(path).endswith("s3"):
            raise OSError(number, os.strerror(number), str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", fail)
    with pytest.raises(SourceError, match=f"s3: {what}"):
        read_tree(films / "mp4", (".mp4",))

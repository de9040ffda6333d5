"""Builds that are killed, and builds whose disk fills: run again, they end in the very bytes of one that was not."""

import fcntl
import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from loaders.errors import InputError
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.packing.building import build
from sharding.settings import BuildSettings
from sharding.utterance import Corpus
from sharding.verify import verify
from tests import forked
from tests.films import shades, tone, write_film, write_table
from tests.processes import children, ended

SETTINGS = BuildSettings(size=16, fps=4.0, clip_seconds=0.5)


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films for four shards of the training split and one of the test split."""
    folder = tmp_path_factory.mktemp("films")
    for number in range(80):
        names = f"s{number % 8}/v{number}/1"
        sound = tone(0.5, level=0.1 + 0.002 * number)
        write_film(folder / f"mp4/{names}.mp4", 0.5, fps=8, picture=shades(16, 16), sound=sound)
        if number % 3:
            write_table(folder / f"csv/{names}.csv", 4, 8, seed=number)
    (folder / "mp4/s0/v0/broken.mp4").write_bytes(b"no film")
    return folder


def corpus_of(source: Path) -> Corpus:
    return read_voxceleb(VoxcelebSources(source=source / "mp4", openface=source / "csv"))


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset, built without interruption. For reading only."""
    output = tmp_path_factory.mktemp("whole") / "dataset"
    build(corpus_of(source), output, SETTINGS, 1)
    return output


class Run:
    """A build from the command line, in a process group of its own."""

    def __init__(self, source: Path, output: Path, workers: int) -> None:
        # Whoever was killed holds no lock: a new one tells that this run has come to its work.
        lock = output / ".build/lock"
        lock.unlink(missing_ok=True)
        command = [
            *("sharding/build.py", "voxceleb", "--workers", workers),
            *("--source", source / "mp4", "--openface", source / "csv", "--output", output),
            *("--size", "16", "--fps", "4", "--clip-seconds", "0.5"),
        ]
        self.process = forked.script(command, session=True)
        while not lock.exists() and self.process.poll() is None:
            time.sleep(0.002)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self) -> None:
        _, errors = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, errors


def test_killed_at_random_moments_a_build_ends_the_same(source: Path, whole: Path, tmp_path: Path, full: bool) -> None:
    """``kill -9`` of a build and its workers, again and again, then a run to the end: the same files, the same SHA-256.

    The moments are drawn from the whole time that a build takes, with one worker or two. A build that is done before
    its moment comes is compared and begun anew. 4 kills; with ``--full`` 20.
    """
    output, expected = tmp_path / "dataset", digests(whole)
    began = time.monotonic()
    Run(source, tmp_path / "timed", 1).end()
    seconds = time.monotonic() - began
    assert digests(tmp_path / "timed") == expected
    draw = random.Random(20)
    states = set()
    kills = 0
    while kills < (20 if full else 4):
        run = Run(source, output, draw.choice((1, 2)))
        time.sleep(draw.uniform(0, 0.5 * seconds))
        if run.process.poll() is not None:
            run.end()
        else:
            run.kill()
            kills += 1
            states.add(frozenset(path.name for path in output.rglob("*") if path.is_file()))
        if (output / "dataset.json").exists() and not (output / ".build").exists():
            assert digests(output) == expected
            shutil.rmtree(output)
    Run(source, output, 2).end()
    assert digests(output) == expected
    print(f"{kills} kills, {len(states)} states of the folder")


def test_killed_alone_a_build_leaves_no_process_and_ends_the_same(
    source: Path, whole: Path, tmp_path: Path, full: bool
) -> None:
    """``kill -9`` of the parent and of nothing else, as the OOM killer does it: its workers go with it.

    2 kills; with ``--full`` 20.
    """
    output, expected = tmp_path / "dataset", digests(whole)
    draw = random.Random(21)
    kills = workers = 0
    while kills < (20 if full else 2):
        run = Run(source, output, 2)
        time.sleep(draw.uniform(0, 3))
        there = children(run.process.pid)
        run.process.send_signal(signal.SIGKILL)
        run.process.communicate()
        ended(there)
        if run.process.returncode == 0:  # it was faster
            assert digests(output) == expected
            shutil.rmtree(output)
            continue
        kills += 1
        workers += len(there)
    Run(source, output, 2).end()
    assert digests(output) == expected
    print(f"{kills} kills, {workers} processes that went with them")


@pytest.mark.parametrize(("number", "everyone"), [("TERM", False), ("TERM", True), ("INT", True), ("HUP", True)])
def test_told_to_stop_it_ends_in_order(source: Path, whole: Path, tmp_path: Path, number: str, everyone: bool) -> None:
    """A line, a status, no process, nothing half-written; a scheduler signals the workers too, as Ctrl-C does."""
    output = tmp_path / "dataset"
    run = Run(source, output, 2)
    until = time.monotonic() + 30
    while not (there := children(run.process.pid)) or not list(output.glob("train/.*.tar.*")):
        assert time.monotonic() < until
        assert run.process.poll() is None
    asked = getattr(signal, f"SIG{number}")
    began = time.monotonic()
    (os.killpg if everyone else os.kill)(run.process.pid, asked)
    _, errors = run.process.communicate(timeout=20)
    assert time.monotonic() - began < 10  # not as long as a shard may take
    assert run.process.returncode == 128 + asked
    said = "interrupted" if number == "INT" else f"stopped by SIG{number}"
    assert errors == f"{said}: run it again, it goes on from here\n"
    ended(there)
    assert not [path for path in output.rglob(".*") if path.name != ".build"]
    if not everyone:
        Run(source, output, 2).end()
        assert digests(output) == digests(whole)


def test_killed_while_it_cleared_up_it_is_finished(
    source: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dataset.json is there, and what the build worked with is not yet gone."""

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    output, corpus = tmp_path / "dataset", corpus_of(source)
    monkeypatch.setattr("sharding.packing.folder_output.remove_work_folder", killed)
    with pytest.raises(KeyboardInterrupt):
        build(corpus, output, SETTINGS, 1)
    monkeypatch.undo()
    assert (output / "dataset.json").exists()
    with pytest.raises(InputError, match="was built with --size 16, not 32"):
        build(corpus, output, BuildSettings(size=32, fps=4.0, clip_seconds=0.5), 1)
    build(corpus, output, SETTINGS, 1)
    assert digests(output) == digests(whole)


def test_a_second_build_is_refused(source: Path, whole: Path, tmp_path: Path) -> None:
    """Into the same folder, and into the same extension."""
    for output, extend in ((tmp_path / "new", False), (tmp_path / "old", True)):
        work = output
        if extend:
            shutil.copytree(whole, output)
            work = tmp_path / ".old.extension"
        (work / ".build").mkdir(parents=True)
        before = digests(tmp_path)
        with (work / ".build/lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(InputError, match="another build is at work there"):
                build(corpus_of(source), output, SETTINGS, 1, extend=extend)
        assert before.items() <= digests(tmp_path).items()


# A disk that fills ----------------------------------------------------------------------------------------------------


class Disk:
    """A file system in memory, of a size that can be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, size: int) -> None:
        subprocess.run(
            ["mount", "-o", f"remount,size={size}", str(self.folder)], check=True, capture_output=True, timeout=10
        )


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("file systems cannot be mounted here: root may")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True, timeout=10)


@pytest.mark.parametrize(("share", "workers"), [(0.1, 1), (0.5, 2), (0.97, 1)])
def test_a_disk_that_fills_is_told_and_after_that_the_build_goes_on(
    source: Path, whole: Path, disk: Disk, share: float, workers: int
) -> None:
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    disk.resize(int(share * size))
    output = disk.folder / "dataset"
    with pytest.raises(InputError) as caught:
        build(corpus_of(source), output, SETTINGS, workers)
    message = str(caught.value)
    name, _, rest = message.partition(": ")
    assert rest == "No space left on device: mend that and run the build again"
    assert Path(name).suffix in (".tar", ".idx", ".parquet", ".json")
    assert Path(name).is_relative_to(output)
    assert not (output / "dataset.json").exists()
    built = {path: path.stat().st_mtime_ns for path in output.rglob("*.tar")}
    disk.resize(64 << 20)
    build(corpus_of(source), output, SETTINGS, workers)
    assert digests(output) == digests(whole)
    kept = sum(path.stat().st_mtime_ns == at for path, at in built.items())
    assert kept >= len(built) - workers  # of those being built, the receipt may not have found room


def test_a_disk_that_fills_leaves_an_extended_dataset_as_it_was(source: Path, disk: Disk, tmp_path: Path) -> None:
    corpus = corpus_of(source)
    part = Corpus(name=corpus.name, utterances=corpus.utterances[::4], rejected=corpus.rejected)
    output = disk.folder / "dataset"
    build(part, output, SETTINGS, 1)
    before = digests(output)
    size = sum(path.stat().st_size for path in output.rglob("*"))
    shutil.copytree(output, tmp_path / "dataset")
    build(corpus, tmp_path / "dataset", SETTINGS, 1, extend=True)
    disk.resize(int(1.8 * size))
    with pytest.raises(InputError, match="No space left on device"):
        build(corpus, output, SETTINGS, 1, extend=True)
    assert digests(output) == before
    assert verify(output).is_whole
    disk.resize(64 << 20)
    build(corpus, output, SETTINGS, 1, extend=True)
    assert digests(output) == digests(tmp_path / "dataset")

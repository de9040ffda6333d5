"""Build a dataset: ``python sharding/build.py {demo,voxceleb,omg} --help``.

A killed build, run again with the same settings, goes on where it was; nothing counts as a dataset before dataset.json
is there.
"""

import fcntl
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from loaders.dataset import MANIFEST, Manifest
from loaders.errors import InputError, reported
from loaders.filesystem import url_of
from sharding.corpora.demo import DemoSettings, make_demo
from sharding.corpora.leaks import OnLeak, settle_leaks
from sharding.corpora.omg import read_omg
from sharding.corpora.utterance import Corpus
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.engine import default_workers, run
from sharding.finish import Lacks, NothingBuiltError, finish_dataset
from sharding.openface import require_openface
from sharding.plan import ShardJob, plan_shards
from sharding.probe import probe_seconds
from sharding.remote import RemoteOutput, default_scratch, remote_output
from sharding.settings import BuildSettings
from sharding.shard import build_shard, clean_work_folder, is_built, remove_work_folder
from sharding.stages import STAGES, Stage
from sharding.views import face_detector
from sharding.writer import WORK_FOLDER

console = Console()


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """Make a corpus of talking heads with voices, in VoxCeleb's and OMG's layouts: no download, no real person."""

    output: Path
    """Folder to make; it must not be there, or be empty."""
    workers: int = field(default_factory=default_workers)
    """Processes that draw and speak."""
    settings: Annotated[DemoSettings, tyro.conf.arg(name="")] = field(default_factory=DemoSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteOptions:
    """Where ``--output`` is a URL."""

    scratch: Path = field(default_factory=default_scratch)
    """Local folder that holds a shard a worker until it is uploaded and read back."""
    break_lock: str | None = None
    """Name of a build that holds the URL, as the refusal tells it, and is known to be dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Voxceleb:
    """Build a dataset from VoxCeleb1, VoxCeleb2 or any tree of <speaker>/<video>/<utterance> files."""

    sources: Annotated[VoxcelebSources, tyro.conf.arg(name="")]
    output: Path
    """The dataset's folder, or a URL such as s3://bucket/vox."""
    on_leak: OnLeak = "refuse"
    """Where a speaker or video is on both sides of the split: refuse to build, or reject its utterances from all splits
    but one: test keeps its own, then validation."""
    workers: int = field(default_factory=default_workers)
    """Processes that build shards."""
    remote: Annotated[RemoteOptions, tyro.conf.arg(name="")] = field(default_factory=RemoteOptions)
    settings: Annotated[BuildSettings, tyro.conf.arg(name="")] = field(default_factory=BuildSettings)

    def read(self) -> Corpus:
        """The corpus that these arguments name."""
        return read_voxceleb(self.sources)


@dataclass(frozen=True, slots=True, kw_only=True)
class Omg:
    """Build a dataset from OMG-Emotion: splits "train" and "validation", with emotion, arousal and valence."""

    source: Path
    """The folder that holds <video>/<utterance> files: here, or a URL such as s3://bucket/OMG, as any source."""
    train_csv: Path
    """omg_TrainVideos.csv, as published."""
    validation_csv: Path
    """omg_ValidationVideos.csv, as published."""
    output: Path
    """The dataset's folder, or a URL such as s3://bucket/vox."""
    openface: Path | None = None
    """A folder with OpenFace's table of each utterance, <video>/<utterance>.csv or <video>_<utterance>.csv."""
    on_leak: OnLeak = "refuse"
    """Where a video is in both tables: refuse to build, or reject its utterances of the train table."""
    workers: int = field(default_factory=default_workers)
    """Processes that build shards."""
    remote: Annotated[RemoteOptions, tyro.conf.arg(name="")] = field(default_factory=RemoteOptions)
    settings: Annotated[BuildSettings, tyro.conf.arg(name="")] = field(
        default_factory=lambda: BuildSettings(crop="face", pad_short=True)
    )

    def read(self) -> Corpus:
        """The corpus that these arguments name."""
        return read_omg(
            self.source, train_csv=self.train_csv, validation_csv=self.validation_csv, openface=self.openface
        )


def main() -> None:
    """The command line."""
    command: Demo | Voxceleb | Omg = tyro.cli(
        Annotated[Demo, tyro.conf.subcommand("demo")]
        | Annotated[Voxceleb, tyro.conf.subcommand("voxceleb")]
        | Annotated[Omg, tyro.conf.subcommand("omg")],
        description=__doc__,
    )
    with reported():
        if command.workers < 1:
            raise InputError(f"--workers is {command.workers}: use 1 or more")
        if isinstance(command, Demo):
            if url_of(command.output) is not None:
                raise InputError(f"--output {url_of(command.output)}: a demo corpus is made in a folder: give one")
            summary = make_demo(command.output, command.settings, workers=command.workers)
            console.print(
                f"{command.output}: {summary.voxceleb} utterances in VoxCeleb's layout, {summary.omg_train} + "
                f"{summary.omg_validation} in OMG's, {summary.seconds / 60:.0f} minutes, {summary.bytes / 1e6:.0f} MB"
            )
        else:
            build(
                command.read(),
                command.output,
                command.settings,
                command.workers,
                command.on_leak,
                remote=command.remote,
            )


def build(
    corpus: Corpus,
    output: Path,
    settings: BuildSettings,
    workers: int,
    on_leak: OnLeak = "refuse",
    *,
    remote: RemoteOptions | None = None,
) -> Manifest:
    """Build a corpus into a dataset, with a progress bar and a table at the end.

    Raises:
        InputError: a setting is out of range or needs a program that is not installed, the corpus has a leak, the
            output holds something else, another build is at work there, nothing of the corpus can be used, the disk
            is full, or a store fails for longer than it is asked again.
    """
    settings.check()
    if settings.crop == "face":
        face_detector()
    if settings.openface_bin is not None:
        require_openface(settings.openface_bin)
    corpus = settle_leaks(corpus, on_leak)
    for note in corpus.notes:
        console.print(f"{corpus.name}: {note}")
    began = time.perf_counter()
    url = url_of(output)
    with _sole_builder(output) if url is None else _sole_remote_builder(url, remote or RemoteOptions()) as place:
        folder = output if place is None else place.folder
        with ThreadPoolExecutor(4 * workers) as pool:
            seconds = list(pool.map(probe_seconds, corpus.utterances))
        jobs = plan_shards(corpus.utterances, seconds, settings, folder)
        if place is None:
            clean_work_folder(folder, jobs)
            missing = [job for job in jobs if not is_built(job)]
        else:
            missing = place.missing(jobs)
        if len(missing) < len(jobs):
            console.print(f"{len(jobs) - len(missing)} of {len(jobs)} shards are there already")
        try:
            speed = _build_shards(missing, workers)
            if place is not None:
                place.fetch_receipts(jobs)
            manifest, lacks = finish_dataset(folder, corpus.name, jobs, settings, corpus.rejected, apart=corpus.apart)
        except OSError as error:
            raise InputError(
                f"{error.filename or output}: {error.strerror}: mend that and run the build again"
            ) from error
        if place is None:
            remove_work_folder(folder)
        else:
            place.publish(manifest)
    _summarise(manifest, url or str(output), lacks, speed, time.perf_counter() - began)
    return manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast shards were built."""

    clips: int
    seconds: Mapping[Stage, float]  #: of all processes, by stage

    def __str__(self) -> str:
        total = sum(self.seconds.values())
        if not total:
            return "nothing was left to build"
        shares = ", ".join(f"{stage} {spent / total:.0%}" for stage, spent in self.seconds.items())
        return f"{self.clips / total:.1f} clips/s a process: {shares}"


def _build_shards(jobs: Sequence[ShardJob], workers: int) -> Speed:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("utterances, {task.fields[clips]} clips, {task.fields[rejected]} rejected"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        total = sum(len(job.utterances) for job in jobs)
        task = progress.add_task("building", total=total, clips=0, rejected=0)
        clips = rejected = 0
        seconds: Counter[Stage] = Counter()
        for result in run(build_shard, jobs, workers=workers):
            clips += result.clips
            rejected += result.rejected
            seconds.update(result.seconds)
            progress.update(task, advance=result.utterances, clips=clips, rejected=rejected)
    return Speed(clips=clips, seconds={stage: seconds[stage] for stage in STAGES if seconds[stage]})


@contextmanager
def _sole_remote_builder(url: str, options: RemoteOptions) -> Iterator[RemoteOutput]:
    """Hold a URL for this build alone; nothing is left there if nothing came of it."""
    with remote_output(url, options.scratch, options.break_lock) as place:
        try:
            yield place
        except NothingBuiltError as error:
            place.remove_work()
            raise NothingBuiltError(str(error).replace(str(place.folder), url)) from error


@contextmanager
def _sole_builder(output: Path) -> Iterator[None]:
    """Hold the output folder for this build alone; a folder that was made for it goes again if nothing came of it."""
    if (output / MANIFEST).exists():
        raise InputError(f"{output}: a finished dataset is there: give another --output, or remove it first")
    work = output / WORK_FOLDER
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: not a folder: give another --output")
    if output.exists() and any(output.iterdir()) and not work.exists():
        raise InputError(f"{output}: holds other files: give an --output that is empty or not there")
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = (work / "lock").open("w")
    except OSError as error:
        raise InputError(f"{output}: {error.strerror}: give an --output that can be written") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"{output}: another build is at work there: wait for it, or give another --output"
            ) from error
        try:
            yield
        except NothingBuiltError:
            shutil.rmtree(output)
            raise


def _summarise(manifest: Manifest, output: str, lacks: Lacks, speed: Speed, seconds: float) -> None:
    clips = sum(split.clips for split in manifest.splits.values())
    table = Table(title=f"{output}: {clips} clips of {manifest.clip.seconds:g} s, {clips / seconds:.1f} clips/s")
    for name in ("split", "clips", "speakers", "videos", "shards", "MB"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for name, split in manifest.splits.items():
        size = sum(shard.bytes for shard in split.shards) / 1e6
        numbers = (split.clips, split.speakers, split.videos, len(split.shards), round(size, 1))
        table.add_row(name, *map(str, numbers))
    console.print(table)
    if speed.seconds:
        console.print(str(speed))
    for reason, count in manifest.rejected.items():
        console.print(f"utterances rejected, {reason}: {count}")
    for reason, count in sorted(lacks.clips.items()):
        console.print(f"clips left out, {reason}: {count}")
    for reason, count in sorted(lacks.gaze.items()):
        console.print(f"clips without gaze, {reason}: {count}")


if __name__ == "__main__":
    main()

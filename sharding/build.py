"""Build a dataset: ``python sharding/build.py CORPUS --help``.

A killed build, run again with the same settings, goes on where it was; nothing counts as a dataset before dataset.json
is there. With --extend, a finished dataset gets the utterances that its corpus has gained since.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loaders.dataset.manifest import MANIFEST, Manifest, read_manifest
from loaders.errors import InputError, reported
from loaders.progress import progress
from loaders.storage.urls import url_of
from sharding.corpora.duplicates import OnDuplicate, reject_duplicates
from sharding.corpora.leaks import OnLeak, emptied, settle_leaks
from sharding.corpora.registry import Sources, registered
from sharding.crops.views import face_detector
from sharding.demo.command import Demo
from sharding.engines.local import Engine, LocalEngine, WorkerDiedError, default_workers
from sharding.engines.ray import RayEngine, require_ray
from sharding.engines.stopping import stopped_in_order
from sharding.gaze.openface import require_openface
from sharding.packing.extend import (
    extension_folder,
    finish_extension,
    is_leftover,
    plan_extension,
    put_right,
    remove_extension,
    require_same_build,
    untouched_unless_begun,
)
from sharding.packing.finish import Lacks, NothingBuiltError, finish_dataset
from sharding.packing.former import read_former
from sharding.packing.plan import ShardJob, plan_shards
from sharding.packing.remote import clear_up, default_scratch, is_being_extended, remote_output
from sharding.packing.same import require_same, require_same_remotely
from sharding.packing.shard import build_shard, is_built
from sharding.packing.survey import require_all_unchanged, survey
from sharding.packing.workfolder import clean_work_folder, remove_half_written, remove_work_folder, sole_builder, undo
from sharding.packing.writer import LENGTHS, WORK_FOLDER
from sharding.settings import BuildSettings
from sharding.sources.store import Store
from sharding.stages import STAGES, Stage
from sharding.utterance import Corpus

console = Console(soft_wrap=True, markup=False)  # a path stays in one piece, whatever it holds


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteOptions:
    """Where ``--output`` is a URL."""

    scratch: Path = field(default_factory=default_scratch)
    """Local folder that holds a shard a worker until it is uploaded and read back."""
    break_lock: str | None = None
    """Name of a build that holds the URL, as the refusal tells it, and is known to be dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Where shards are built: this changes none of their bytes."""

    engine: Literal["local", "ray"] = "local"
    """Processes on this machine, or Ray tasks."""
    address: str | None = None
    """With --engine ray: of the Ray cluster, host:port or auto, whose machines see the sources and the output under
    the same paths. Otherwise a Ray of --workers cores is started here."""

    def make(self, workers: int) -> Engine:
        """The engine.

        Raises:
            InputError: Ray is wanted and not installed, or an address is given without it.
        """
        if self.engine == "ray":
            require_ray()
            return RayEngine(address=self.address, workers=workers)
        if self.address is not None:
            raise InputError(f"--address {self.address} goes with --engine ray: give both or none")
        return LocalEngine(workers=workers)


S = TypeVar("S", bound=Sources)


@dataclass(frozen=True, slots=True, kw_only=True)
class Build(Generic[S]):
    """Build a dataset from a corpus: the options that every build has, beside those of its sources."""

    sources: Annotated[S, tyro.conf.arg(name="")]
    output: Path
    """The dataset's folder, or a URL such as s3://bucket/vox."""
    on_leak: OnLeak = "refuse"
    """Where a speaker or video is on both sides of the split: refuse to build, or reject its utterances from all splits
    but one: test keeps its own, then validation."""
    on_duplicate: OnDuplicate = "warn"
    """Where utterances have the same sources under several names: say so when the dataset is built, as far as their
    sizes and ends tell; reject all but one (test keeps its own, then validation), which reads the ends of all sources
    before anything is built, and those that are alike whole; or say nothing."""
    workers: int = field(default_factory=default_workers)
    """Processes that build shards."""
    remote: Annotated[RemoteOptions, tyro.conf.arg(name="")] = field(default_factory=RemoteOptions)
    running: Annotated[Running, tyro.conf.arg(name="")] = field(default_factory=Running)
    extend: bool = False
    """The output is a finished dataset of a part of these utterances, built with these settings: build shards of the
    others and add them. Until that is done, the dataset is what it was."""
    settings: Annotated[BuildSettings, tyro.conf.arg(name="")] = field(default_factory=BuildSettings)


def parse(arguments: Sequence[str] | None = None) -> Demo | Build[Sources]:
    """The command of a command line: that of the demo corpus, or of a corpus of `sharding.corpora.registry`.

    Args:
        arguments: None: those of this process.

    Raises:
        SystemExit: after tyro's own words: with 2 where it is no command line, with 0 after --help.
    """
    commands: Any = Annotated[Demo, tyro.conf.subcommand("demo")]
    for found in registered().values():
        default = Build(
            sources=tyro.MISSING_NONPROP, output=tyro.MISSING_NONPROP, settings=BuildSettings(**found.settings)
        )
        options = Build[found.sources]  # type: ignore[name-defined]
        commands |= Annotated[options, tyro.conf.subcommand(found.name, default=default, description=found.says)]
    command: Demo | Build[Sources] = tyro.cli(commands, args=arguments, description=__doc__)
    return command


def main() -> None:
    """The command line."""
    command = parse()
    mend = "run it again, from the beginning" if isinstance(command, Demo) else "run it again, it goes on from here"
    with reported(), stopped_in_order(mend):
        if command.workers < 1:
            raise InputError(f"--workers is {command.workers}: use 1 or more")
        if isinstance(command, Demo):
            console.print(str(command.make()))
        else:
            engine = command.running.make(command.workers)
            console.print("listing the sources")
            with _mendable(command.output):
                corpus = command.sources.read()
            build(
                corpus,
                command.output,
                command.settings,
                command.workers,
                command.on_leak,
                remote=command.remote,
                engine=engine,
                extend=command.extend,
                on_duplicate=command.on_duplicate,
            )


def build(
    corpus: Corpus,
    output: Path,
    settings: BuildSettings,
    workers: int,
    on_leak: OnLeak = "refuse",
    *,
    engine: Engine | None = None,
    extend: bool = False,
    remote: RemoteOptions | None = None,
    on_duplicate: OnDuplicate = "warn",
) -> Manifest:
    """Build a corpus into a dataset, with a progress bar and a table at the end.

    Args:
        corpus: what to build.
        output: the dataset's folder, or its URL.
        settings: of the build.
        workers: processes.
        on_leak: what to do about a speaker or video on both sides of the split.
        engine: where shards are built; None: in ``workers`` processes here. The bytes are the same.
        extend: ``output`` is a finished dataset of a part of the corpus: add the rest, in new shards.
        remote: for an ``output`` that is a URL.
        on_duplicate: what to do about utterances with the same sources.

    Raises:
        InputError: a setting is out of range or needs a program that is not installed, the corpus has a leak, the
            output holds something else, another build is at work there, nothing of the corpus can be used, the disk
            is full, or a store fails for longer than it is asked again; with ``extend`` also where the dataset is not
            of a part of this corpus, built with these settings.
    """
    settings.check()
    if settings.crop == "face":
        face_detector()
    if settings.openface_bin is not None:
        require_openface(settings.openface_bin)
    url = url_of(output)
    whole, corpus = corpus, settle_leaks(corpus, on_leak)
    console.print(f"{corpus.name}: {len(corpus.utterances)} utterances")
    for note in corpus.notes:
        console.print(f"{corpus.name}: {note}", markup=False)
    for split in emptied(whole, corpus):
        console.print(f"[bold red]warning[/]: {escape(split)} will be empty: every utterance of it leaks", markup=True)
    if on_duplicate == "reject":
        corpus = _without_duplicates(corpus, workers)
    began = time.perf_counter()
    work = _Work(corpus, settings, workers, engine or LocalEngine(workers=workers))
    if url is not None:
        manifest, outcome = _build_remotely(work, url, remote or RemoteOptions(), extend=extend)
    elif extend:
        manifest, outcome = _extend(work, output)
    else:
        manifest, outcome = _build_here(work, output)
    if outcome is not None:
        _summarise(manifest, url or str(output), *outcome, time.perf_counter() - began)
        for line in outcome[0].alike.warnings() if on_duplicate == "warn" else ():
            console.print(line, style="bold red" if line.startswith("WARNING") else None, markup=False)
    return manifest


def _without_duplicates(corpus: Corpus, workers: int) -> Corpus:
    with progress("looking for duplicates", len(corpus.utterances), "utterances", console=console) as bar:
        return reject_duplicates(corpus, 4 * workers, bar.advance)


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be built, and by whom."""

    corpus: Corpus
    settings: BuildSettings
    workers: int
    engine: Engine

    def plan(self, folder: Path, first_numbers: Mapping[str, int] | None = None) -> list[ShardJob]:
        """The shards of the corpus, as its sources are now."""
        with progress(
            "looking at the sources", len(self.corpus.utterances), "utterances", console=console, transient=True
        ) as bar:
            found = survey(self.corpus, folder, self.engine, bar.advance)
        return plan_shards(found.utterances, found.seconds, self.settings, folder, first_numbers)

    def build(self, missing: Sequence[ShardJob], jobs: Sequence[ShardJob]) -> "Speed":
        """Build the shards that are missing of all these.

        Raises:
            SourceError: a source of any of them, built or missing, is not what it was when they were planned.
        """
        if len(missing) < len(jobs):
            console.print(f"{len(jobs) - len(missing)} of {len(jobs)} shards are there already")
        try:
            speed = _build_shards(missing, self.engine)
        except BaseException:
            with suppress(OSError):  # the disk may be gone; what is left, the next build removes
                remove_half_written([job for job in missing if job.upload is None])
            raise
        if missing:
            utterances = [utterance for job in jobs for utterance in job.utterances]
            what = "looking at the sources again"
            with progress(what, len(utterances), "utterances", console=console, transient=True) as bar:
                require_all_unchanged(utterances, self.engine, bar.advance)
        return speed


_Outcome = tuple[Lacks, "Speed"] | None  # None where nothing had to be built


def _build_here(work: _Work, output: Path) -> tuple[Manifest, _Outcome]:
    if not output.exists():
        put_right(output)
    if (output / MANIFEST).exists() and not os.path.lexists(output / WORK_FOLDER):
        former = read_former(output)
        require_same(former, work.corpus, work.settings, str(output))
        console.print(f"{output}: is built already, nothing to do")
        return former.manifest, None
    with sole_builder(output):
        if (output / MANIFEST).exists():
            return _clear_up(work.corpus, output, work.settings), None
        try:
            with _mendable(output):
                jobs = work.plan(output)
                clean_work_folder(output, jobs)
                missing = [job for job in jobs if not is_built(job)]
                speed = work.build(missing, jobs)
                _require_visible(missing)
                corpus = work.corpus
                manifest, lacks = finish_dataset(
                    output,
                    corpus.name,
                    jobs,
                    work.settings,
                    corpus.rejected,
                    apart=corpus.apart,
                    video_names=corpus.video_names,
                )
                remove_work_folder(output)
        except NothingBuiltError:
            undo(output)  # nothing is left where nothing came of it
            raise
    return manifest, (lacks, speed)


def _extend(work: _Work, output: Path) -> tuple[Manifest, _Outcome]:
    folder = extension_folder(output)
    with sole_builder(folder, lambda: is_leftover(folder, output)):
        with untouched_unless_begun(folder):
            what = "looking at the dataset's sources"
            with progress(what, None, "utterances", console=console, transient=True) as bar:
                extension = plan_extension(work.corpus, output, work.settings, work.workers, tell=bar.advance)
        if extension.is_empty:
            console.print(f"{output}: holds all of these utterances already")
            remove_extension(folder)
            return extension.former.manifest, None
        work = replace(work, corpus=extension.corpus)
        with _mendable(output):
            jobs = work.plan(folder, extension.first_numbers)
            clean_work_folder(folder, jobs)
            missing = [job for job in jobs if not is_built(job)]
            speed = work.build(missing, jobs)
            _require_visible(missing)
            manifest, lacks = finish_extension(extension, folder, jobs, work.settings)
    return manifest, (lacks, speed)


def _build_remotely(work: _Work, url: str, options: RemoteOptions, *, extend: bool) -> tuple[Manifest, _Outcome]:
    store = Store(url=url, attempts=3)  # a wrong address should not take a minute to be told
    found = store.sizes()
    if not extend and MANIFEST in found and not is_being_extended(found):
        same = require_same_remotely(store, found, work.corpus, work.settings)
        clear_up(store, found, options.break_lock)
        console.print(f"{url}: is built already, nothing to do")
        return same.manifest, None
    with remote_output(url, options.scratch, options.break_lock) as place:
        first_numbers = None
        with _mendable(options.scratch):
            former = place.former()
        if former is None and extend:
            raise InputError(f"{url}: no dataset there ({MANIFEST} is missing): build it, or let its build finish")
        if former is not None:
            extension = plan_extension(work.corpus, url, work.settings, work.workers, former)
            if extension.is_empty:
                console.print(f"{url}: holds all of these utterances already")
                place.remove_work()
                return former.manifest, None
            if not extend:
                more = f"{len(extension.corpus.utterances)} utterances and {len(extension.corpus.rejected)} rejected"
                raise InputError(f"{url}: a finished dataset is there, without {more} of these: --extend it")
            work, first_numbers = replace(work, corpus=extension.corpus), extension.first_numbers
        with _mendable(options.scratch), place.kept(f"{WORK_FOLDER}/{LENGTHS}"):
            jobs = work.plan(place.folder, first_numbers)
        missing = place.missing(jobs, former)
        with _mendable(options.scratch):
            speed = work.build(missing, jobs)
            place.fetch_receipts(jobs)
            corpus = work.corpus
            try:
                manifest, lacks = finish_dataset(
                    place.folder,
                    corpus.name,
                    jobs,
                    work.settings,
                    corpus.rejected,
                    apart=corpus.apart,
                    video_names=corpus.video_names,
                    former=former,
                )
            except NothingBuiltError as error:
                place.remove_work()  # nothing is left where nothing came of it
                raise error.renamed(str(place.folder), url) from error
        place.publish(manifest, former)
    return manifest, (lacks, speed)


@contextmanager
def _mendable(output: Path | str) -> Iterator[None]:
    """Turn what stops a build, and leaves it to be gone on with, into one line."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename or output}: {error.strerror}: mend that and run the build again") from error
    except WorkerDiedError as error:
        raise InputError(f"{output}: {error} Run the build again, it goes on from here", try_again=True) from error


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


def _build_shards(jobs: Sequence[ShardJob], engine: Engine) -> Speed:
    total = sum(len(job.utterances) for job in jobs)
    with progress("building", total, "utterances", console=console, text="0 clips, 0 rejected") as bar:
        clips = rejected = 0
        seconds: Counter[Stage] = Counter()
        for result in engine.run(build_shard, jobs):
            clips += result.clips
            rejected += result.rejected
            seconds.update(result.seconds)
            bar.advance(result.utterances, f"{clips} clips, {rejected} rejected")
    return Speed(clips=clips, seconds={stage: seconds[stage] for stage in STAGES if seconds[stage]})


def _clear_up(corpus: Corpus, output: Path, settings: BuildSettings) -> Manifest:
    """What is left of a build that was killed when dataset.json was there and its work folder not yet gone."""
    manifest = read_manifest(output)
    require_same_build(manifest, corpus, settings, output)
    remove_work_folder(output)
    console.print(f"{output}: was built already but for clearing up")
    return manifest


def _require_visible(jobs: Sequence[ShardJob]) -> None:
    """Raise InputError where another machine built a shard that this one does not see."""
    unseen = next((job for job in jobs if not is_built(job)), None)
    if unseen is not None:
        raise InputError(
            f"{unseen.output / unseen.split / unseen.stem}.tar: was built and is not here: give an --output on a file "
            "system that all machines of the cluster share"
        )


def _summarise(manifest: Manifest, output: str, lacks: Lacks, speed: Speed, seconds: float) -> None:
    clips = sum(split.clips for split in manifest.splits.values())
    table = Table(title=f"{output}: {clips} clips of {manifest.clip.seconds:g} s, {speed.clips / seconds:.1f} clips/s")
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
    for name, reasons in sorted(lacks.splits.items()):
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        console.print(
            f"[bold red]warning[/]: {escape(name)} holds no clip: its utterances were rejected, {counts}", markup=True
        )


if __name__ == "__main__":
    main()

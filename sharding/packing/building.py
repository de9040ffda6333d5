"""A build, wherever its dataset is made: what is there, the plan, what is missing of it, the shards, the catalogs.

What a folder and an object store do differently, `sharding.packing.output` names, and nothing here asks which it is.
"""

import errno
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from loaders.dataset.about import About
from loaders.dataset.manifest import MANIFEST, Manifest
from loaders.errors import InputError, first_line
from loaders.progress import progress
from loaders.storage.urls import url_of
from sharding.corpora.duplicates import OnDuplicate, reject_duplicates
from sharding.corpora.leaks import OnLeak, emptied, settle_leaks
from sharding.crops.crop_plan import face_detector
from sharding.engines.local import Engine, LocalEngine, WorkerDiedError
from sharding.gaze.mediapipe import require_mediapipe
from sharding.gaze.openface import require_openface
from sharding.members.beside import with_arrays
from sharding.members.declared import files_of_members, members_of
from sharding.packing.existing import ExistingDataset
from sharding.packing.extend import AGAIN, plan_extension, require_same_build
from sharding.packing.faceless import faceless_line
from sharding.packing.figures import BuildFigures
from sharding.packing.finish import Lacks, NothingBuiltError, finish_dataset
from sharding.packing.folder_output import FolderOutput
from sharding.packing.labels import joined, require_alike, require_as_declared, require_declared, require_possible
from sharding.packing.output import HeldOutput, Output
from sharding.packing.parts import parts_sha256
from sharding.packing.plan import ShardJob, plan_shards
from sharding.packing.remote import RemoteOptions, RemoteOutput
from sharding.packing.same import require_same, require_same_sources, require_stated
from sharding.packing.shard import build_shard
from sharding.packing.splits import require_possible_splits
from sharding.packing.survey import require_all_unchanged, survey
from sharding.settings import BuildSettings
from sharding.stages import STAGES, Stage
from sharding.utterance import Corpus


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a build that had something to do tells of it."""

    lacks: Lacks
    speed: Speed
    seconds: float  #: that it took, from the plan to the end
    alike: tuple[str, ...] = ()  #: lines about utterances with the same sources, where they are to be told
    faceless: str | None = None  #: a line where hardly any face was seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What is there now."""

    output: str  #: the dataset's name
    manifest: Manifest
    made: Made | None  #: None where nothing had to be done


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
    about: About | None = None,
    console: Console | None = None,
    figures: BuildFigures | None = None,
) -> Built:
    """Build a corpus into a dataset.

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
        about: what its owner says of the dataset; of one that is extended, what is not given here stays.
        console: where to tell how far it is; None: nowhere.
        figures: what counts how far it is, for who looks from elsewhere.

    Raises:
        InputError: a setting is out of range or needs a program that is not installed, the corpus has a leak, the
            output holds something else, another build is at work there, nothing of the corpus can be used, the disk
            is full, or a store fails for longer than it is asked again; with ``extend`` also where the dataset is not
            of a part of this corpus, built with these settings.
    """
    console = console or Console(quiet=True)
    settings.check()
    files = files_of_members(settings)
    require_possible(corpus.labels, members_of(settings), corpus.name)
    require_possible_splits((utterance.split for utterance in corpus.utterances), corpus.name)
    about = about or About()
    if (problem := about.problem()) is not None:
        raise InputError(f"{problem}: state it, or leave the option away")
    if settings.crop == "face":
        face_detector()
    if settings.openface_bin is not None:
        require_openface(settings.openface_bin)
    if settings.gaze == "mediapipe":
        _require_no_tables(corpus)
        require_mediapipe()
    place = output_at(output, remote or RemoteOptions())
    corpus = with_arrays(corpus, files, 4 * workers)
    whole, corpus = corpus, settle_leaks(corpus, on_leak)
    _say(console, f"{corpus.name}: {len(corpus.utterances)} utterances")
    for note in corpus.notes:
        _say(console, f"{corpus.name}: {note}")
    for split in emptied(whole, corpus):
        line = f"[bold red]warning[/]: {escape(split)} will be empty: every utterance of it leaks"
        console.print(line, markup=True, soft_wrap=True)
    if on_duplicate == "reject":
        with progress("looking for duplicates", len(corpus.utterances), "utterances", console=console) as bar:
            corpus = reject_duplicates(corpus, 4 * workers, bar.advance)
    began = time.perf_counter()
    engine, figures = engine or LocalEngine(workers=workers), figures or BuildFigures()
    builder = _Builder(corpus, settings, about, workers, engine, console, figures)
    with as_input_error(place.name):
        manifest, outcome = builder.make(place, extend=extend)
    made = None
    if outcome is not None:
        lacks, speed = outcome
        made = Made(
            lacks=lacks,
            speed=speed,
            seconds=time.perf_counter() - began,
            alike=tuple(lacks.alike.warnings()) if on_duplicate == "warn" else (),
            faceless=faceless_line(manifest.rejected, len(corpus.utterances)),
        )
    return Built(output=place.name, manifest=manifest, made=made)


def _require_no_tables(corpus: Corpus) -> None:
    """Raise InputError where tables of gaze are given to a build that would not read them."""
    tables = sum(utterance.gaze_path is not None for utterance in corpus.utterances)
    if tables:
        raise InputError(
            f"--gaze mediapipe tracks every utterance itself, and {tables} of {len(corpus.utterances)} come with a "
            "table of gaze: leave the tables away (--openface, or the column of them), or build with --gaze openface"
        )


def output_at(path: Path, remote: RemoteOptions) -> Output:
    """The output that a path or URL names.

    Args:
        path: of a folder, or a URL.
        remote: for a URL.
    """
    url = url_of(path)
    return FolderOutput(path) if url is None else RemoteOutput(url, remote)


def _say(console: Console, line: str) -> None:
    """Print a line; a path in it stays in one piece, whatever it holds."""
    console.print(line, markup=False, soft_wrap=True)


@contextmanager
def as_input_error(disk: Path | str) -> Iterator[None]:
    """Turn what stops a build, and leaves it to be gone on with, into one line.

    Args:
        disk: what is named where an error names no file.

    Raises:
        InputError: in place of an OSError, or of the death of a worker.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or first_line(error)
        raise InputError(
            f"{error.filename or disk}: {why}: mend that and run the build again", try_again=error.errno in _PASSING
        ) from error
    except WorkerDiedError as error:
        raise InputError(f"{disk}: {error} Run the build again, it goes on from here", try_again=True) from error


# What may be over in a while: a disk that errs, a network file system that is gone.
_PASSING = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EREMOTEIO)
_Outcome = tuple[Lacks, Speed] | None  # None where nothing had to be built


@dataclass(frozen=True, slots=True)
class _Builder:
    """What is to be built, and by whom."""

    corpus: Corpus
    settings: BuildSettings
    about: About
    workers: int
    engine: Engine
    console: Console
    figures: BuildFigures

    def make(self, output: Output, *, extend: bool) -> tuple[Manifest, _Outcome]:
        """Build or extend, if that is not done already."""
        if not extend and (manifest := self._built_already(output)) is not None:
            return manifest, None
        with output.held(extend=extend) as held, as_input_error(held.disk):
            with held.untouched_unless_begun():
                existing, fresh, first_numbers = self._hold_against_existing(held, output.name, extend=extend)
            if existing is not None and not (fresh.utterances or fresh.rejected):
                require_stated(existing.manifest.about, self.about, output.name)
                _say(self.console, f"{output.name}: holds all of these utterances already")
                held.clear_up()
                return existing.manifest, None
            labels = fresh.labels
            if existing is not None:
                labels = joined(existing.manifest.labels, labels, output.name, AGAIN)
            with held.keeping_lengths():
                jobs = self._plan(fresh, held.folder, first_numbers)
                missing = held.missing(jobs, existing)  # which may refuse what lies there
            self.figures.plan(jobs, fresh.rejected)
            speed = self._build(missing, jobs, held)
            folder = held.assemble(jobs, missing, existing)
            try:
                manifest, lacks = finish_dataset(
                    folder,
                    fresh.name,
                    jobs,
                    self.settings,
                    fresh.rejected,
                    labels=labels,
                    apart=fresh.apart,
                    video_names=fresh.video_names,
                    existing=existing,
                    about=self.about,
                    parts_digest=parts_sha256(self.corpus),
                )
            except NothingBuiltError as error:
                held.undo()  # nothing is left where nothing came of it
                raise error.renamed(str(folder), output.name) from error
            held.publish(manifest, existing)
        return manifest, (lacks, speed)

    def _built_already(self, output: Output) -> Manifest | None:
        """The manifest of the finished dataset that is there; what is left beside it of its build goes.

        Raises:
            InputError: a dataset is there, of another corpus or other settings.
        """
        with output.finished() as existing:
            if existing is None:
                return None
            if doubted := require_same(existing, self.corpus, self.settings, output.name):
                what = "looking at the dataset's sources"
                with progress(what, len(doubted), "utterances", console=self.console, transient=True) as bar:
                    require_same_sources(doubted, self.workers, bar.advance)
            require_stated(existing.manifest.about, self.about, output.name)
        done = "was built already but for clearing up" if output.clear_up() else "is built already, nothing to do"
        _say(self.console, f"{output.name}: {done}")
        return existing.manifest

    def _hold_against_existing(
        self, held: HeldOutput, name: str, *, extend: bool
    ) -> tuple[ExistingDataset | None, Corpus, Mapping[str, int]]:
        """The dataset that is there, if any; what of the corpus is not in it; by split the numbers of new shards."""
        existing = held.existing()
        if existing is None:
            if extend:
                raise InputError(f"{name}: no dataset there ({MANIFEST} is missing): build it, or let its build finish")
            return None, self.corpus, {}
        corpus, known = self.corpus, existing.manifest.labels
        require_same_build(existing.manifest, corpus, self.settings, name)
        mend = f"give the same (classes keep their places, new ones come last), or {AGAIN}"
        if extend:
            labels = joined(known, corpus.labels, name, AGAIN)
            require_as_declared(labels, corpus.labels, corpus.declared, name, mend)
        what = "looking at the dataset's sources"
        with progress(what, None, "utterances", console=self.console, transient=True) as bar:
            extension = plan_extension(corpus, existing, name, self.settings, self.workers, bar.advance)
        if extension.is_empty and extend:
            require_declared(known, corpus.labels, name, mend)
        elif extension.is_empty:
            require_alike(known, corpus.labels, corpus.declared, name, mend)
        if not (extend or extension.is_empty):
            more = f"{len(extension.corpus.utterances)} utterances and {len(extension.corpus.rejected)} rejected"
            raise InputError(f"{name}: a finished dataset is there, without {more} of these: --extend it")
        return existing, extension.corpus, extension.first_numbers

    def _plan(self, corpus: Corpus, folder: Path, first_numbers: Mapping[str, int]) -> list[ShardJob]:
        """The shards of the corpus, as its sources are now."""
        what = "looking at the sources"
        with progress(what, len(corpus.utterances), "utterances", console=self.console, transient=True) as bar:
            found = survey(corpus, folder, self.engine, bar.advance)
        return plan_shards(found.utterances, found.seconds, self.settings, folder, first_numbers, corpus.labels)

    def _build(self, missing: Sequence[ShardJob], jobs: Sequence[ShardJob], held: HeldOutput) -> Speed:
        """Build the shards that are missing of all these.

        Raises:
            SourceError: a source of any of them, built or missing, is not what it was when they were planned.
        """
        if len(missing) < len(jobs):
            _say(self.console, f"{len(jobs) - len(missing)} of {len(jobs)} shards are there already")
        try:
            speed = self._build_shards(missing)
        except BaseException:
            with suppress(OSError):  # the disk may be gone; what is left, the next build removes
                held.remove_half_written(missing)
            raise
        if missing:
            utterances = [utterance for job in jobs for utterance in job.utterances]
            what = "looking at the sources again"
            with progress(what, len(utterances), "utterances", console=self.console, transient=True) as bar:
                require_all_unchanged(utterances, self.engine, bar.advance)
        return speed

    def _build_shards(self, jobs: Sequence[ShardJob]) -> Speed:
        total = sum(len(job.utterances) for job in jobs)
        with progress("building", total, "utterances", console=self.console, text="0 clips, 0 rejected") as bar:
            clips = rejected = 0
            seconds: Counter[Stage] = Counter()
            self.figures.begin()
            for result in self.engine.run(build_shard, jobs):
                self.figures.add(result)
                clips += result.clips
                rejected += result.rejected
                seconds.update(result.seconds)
                bar.advance(result.utterances, f"{clips} clips, {rejected} rejected")
        return Speed(clips=clips, seconds={stage: seconds[stage] for stage in STAGES if seconds[stage]})

"""Build a dataset: ``python sharding/build.py CORPUS --help``.

A killed build, run again with the same settings, goes on where it was; nothing counts as a dataset before dataset.json
is there. With --extend, a finished dataset gets the utterances that its corpus has gained since.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loaders.arguments import cli
from loaders.dataset.about import About
from loaders.dataset.manifest import REJECTED, Manifest
from loaders.errors import InputError, reported
from loaders.metrics_file import MetricsFile, require_metrics_file
from loaders.storage.urls import local_path
from sharding.corpora.duplicates import OnDuplicate
from sharding.corpora.leaks import OnLeak
from sharding.corpora.registry import Sources, registered
from sharding.demo.command import Demo
from sharding.engines.local import Engine, LocalEngine, default_workers
from sharding.engines.ray import RayEngine, require_ray
from sharding.engines.stopping import stopped_in_order
from sharding.packing.building import Built, as_input_error, build
from sharding.packing.figures import BuildFigures
from sharding.packing.remote import RemoteOptions
from sharding.settings import BuildSettings

console = Console(soft_wrap=True, markup=False)  # a path stays in one piece, whatever it holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Where shards are built: this changes none of their bytes."""

    engine: Literal["local", "ray"] = "local"
    """Processes on this machine, or Ray tasks."""
    address: str | None = None
    """With --engine ray: of the Ray cluster, host:port or auto, whose machines see the sources and the output under
    the same paths. Otherwise a Ray of --workers cores is started here."""
    metrics: Path | None = None
    """A file of figures to watch the build by, written every few seconds and at the end: NAME.prom, for Prometheus
    by the node exporter's textfile collector, or NAME.jsonl, to which lines are appended."""

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
    settings: Annotated[BuildSettings, tyro.conf.arg(name=""), tyro.conf.UseAppendAction] = field(
        default_factory=BuildSettings
    )
    about: Annotated[About, tyro.conf.arg(name="")] = field(default_factory=About)


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
    command: Demo | Build[Sources] = cli(commands, args=arguments, description=__doc__)
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
            if command.running.metrics is not None:
                require_metrics_file(local_path(command.running.metrics, "--metrics"))
            console.print("listing the sources")
            with as_input_error("the sources"):
                corpus = command.sources.read()
            figures = BuildFigures()
            with _watched(command.running.metrics, figures, corpus.name):
                built = build(
                    corpus,
                    command.output,
                    command.settings,
                    command.workers,
                    command.on_leak,
                    remote=command.remote,
                    engine=engine,
                    extend=command.extend,
                    on_duplicate=command.on_duplicate,
                    about=command.about,
                    console=console,
                    figures=figures,
                )
            tell(built)


def _watched(path: Path | None, figures: BuildFigures, corpus: str) -> AbstractContextManager[object]:
    """Within it, --metrics has the figures of a build."""
    if path is None:
        return nullcontext()
    return MetricsFile(local_path(path, "--metrics"), lambda: figures.metrics({"corpus": corpus}))


def splits_table(manifest: Manifest, title: str) -> Table:
    """A row a split. 80 columns hold it."""
    table = Table(title=title)
    table.add_column("split", overflow="fold")  # however long a name is, it is shown whole
    for name in ("clips", "speakers", "videos", "shards", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, split in manifest.splits.items():
        size = sum(shard.bytes for shard in split.shards) / 1e6
        numbers = (split.clips, split.speakers, split.videos, len(split.shards), round(size, 1))
        table.add_row(name, *map(str, numbers))
    return table


def tell(built: Built) -> None:
    """Print a table of what a build has made, and what is to be said of it; nothing where nothing had to be done."""
    if built.made is None:
        return
    manifest, lacks, speed = built.manifest, built.made.lacks, built.made.speed
    clips = sum(split.clips for split in manifest.splits.values())
    rate = f"{speed.clips / built.made.seconds:.1f} clips/s"
    console.print(splits_table(manifest, f"{built.output}: {clips} clips of {manifest.clip.seconds:g} s, {rate}"))
    if speed.seconds:
        console.print(str(speed))
    for reason, count in manifest.rejected.items():
        console.print(f"utterances rejected, {reason}: {count} (the first: {lacks.rejected_first[reason]})")
    if manifest.rejected:
        console.print(f"{built.output}/{REJECTED} names them all")
    for reason, count in sorted(lacks.clips.items()):
        console.print(f"clips left out, {reason}: {count}")
    if lacks.cut_short:
        what = "utterances that end with their film, before the end that is stated"
        console.print(f"{what}: {lacks.cut_short} (the first: {lacks.cut_short_first})")
    for name, reasons in sorted(lacks.members.items()):
        for reason, count in sorted(reasons.items()):
            console.print(f"clips without {name}, {reason}: {count}")
    for name, reasons in sorted(lacks.splits.items()):
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        console.print(
            f"[bold red]warning[/]: {escape(name)} holds no clip: its utterances were rejected, {counts}", markup=True
        )
    if [name for name, split in manifest.splits.items() if split.clips] == ["train"]:
        console.print(
            "all clips are in train, and a training has none to be scored on: build with more speakers or videos, a "
            "larger --test-fraction, or lists that name a split test"
        )
    if built.made.faceless is not None:
        console.print(f"[bold red]warning[/]: {escape(built.made.faceless)}", markup=True)
    for line in built.made.alike:
        console.print(line, style="bold red" if line.startswith("WARNING") else None, markup=False)


if __name__ == "__main__":
    main()

"""What is in a dataset, at a glance: ``python sharding/info.py DATASET``. Reads dataset.json and the catalogs alone.

DATASET may be a URL: these few files are fetched then.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import tyro
from rich.cells import cell_len
from rich.columns import Columns
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from loaders.arguments import cli
from loaders.dataset.catalog import schema
from loaders.dataset.columns import NAMES
from loaders.dataset.dataset import Dataset
from loaders.dataset.manifest import CATALOG, Manifest
from loaders.dataset.tables import read_table
from loaders.errors import InputError, printable, reported
from loaders.fitting import fits, in_parts, without_middle
from loaders.storage.urls import url_of
from sharding.viewing.opened import opened

_MOST_CLASSES = 20  # of a label that are shown: the commonest of them
_BARS = (10, 6, 3)  # characters of the longest bar, as there is room
_FRAME = 9  # columns of a panel around its title


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCounts:
    """What a split has of a label with classes."""

    clips: Mapping[str, int]  #: of each class, in the order in which dataset.json declares them; only what occurs
    unlabelled: int  #: clips of which nothing is stated


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberSpan:
    """What a split has of a label that is a number."""

    stated: int  #: clips of which it is
    least: float | None  #: None where it is stated of none
    mean: float | None
    most: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitInfo:
    """A split in numbers."""

    clips: int
    hours: float
    speakers: int
    videos: int
    utterances: int
    shards: int
    bytes: int  #: of the shards
    padded: int  #: clips with a held frame and silence at the end
    members: Mapping[str, float]  #: share of the clips that have each optional member
    classes: Mapping[str, ClassCounts]  #: by label
    numbers: Mapping[str, NumberSpan]  #: by label


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """A dataset in numbers."""

    manifest: Manifest
    splits: Mapping[str, SplitInfo]


def describe(dataset: Path) -> DatasetInfo:
    """Count what is in a dataset.

    Args:
        dataset: its folder, or its URL as a path.

    Raises:
        InputError: no dataset is there, it cannot be reached, or a catalog cannot be read.
    """
    with opened(dataset) as found:
        splits = {name: _describe_split(found, name) for name in found.manifest.splits}
        return DatasetInfo(manifest=found.manifest, splits=splits)


def _describe_split(dataset: Dataset, name: str) -> SplitInfo:
    manifest, split = dataset.manifest, dataset.manifest.splits[name]
    optional = [member.name for member in manifest.members if not member.required]
    path = dataset.table(f"{name}/{CATALOG}")
    labels = manifest.labels
    wanted = [*NAMES, "padded", *(label.name for label in labels), *(f"{member}_size" for member in optional)]
    try:
        table = read_table(path, wanted, sha256=split.catalog_sha256)
        table = table.cast(pa.schema([schema(manifest.members, labels).field(column) for column in wanted]))
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as a catalog: run sharding/verify.py") from error
    utterances = table.select(NAMES).group_by(list(NAMES))
    return SplitInfo(
        clips=len(table),
        hours=len(table) * manifest.clip.seconds / 3600,
        speakers=split.speakers,
        videos=split.videos,
        utterances=len(utterances.aggregate([])),
        shards=len(split.shards),
        bytes=sum(shard.bytes for shard in split.shards),
        padded=pc.sum(pc.greater(table["padded"], 0)).as_py() or 0,
        members={member: (len(table) - table[f"{member}_size"].null_count) / max(len(table), 1) for member in optional},
        classes={label.name: _classes(table[label.name], label.classes) for label in labels if label.classes},
        numbers={label.name: _numbers(table[label.name]) for label in labels if label.classes is None},
    )


def _classes(column: pa.ChunkedArray, declared: Sequence[str]) -> ClassCounts:
    counted = Counter(column.cast(pa.string()).drop_null().to_pylist())
    # What is not declared, which a catalog that lies may hold, comes last.
    clips = {name: counted[name] for name in dict.fromkeys((*declared, *sorted(counted))) if counted[name]}
    return ClassCounts(clips=clips, unlabelled=column.null_count)


def _numbers(column: pa.ChunkedArray) -> NumberSpan:
    values = column.drop_null()
    span = pc.min_max(values).as_py()
    mean = pc.mean(values.cast(pa.float64())).as_py()
    # As many digits as a number of single width has.
    least, mean, most = (None if value is None else float(f"{value:.7g}") for value in (span["min"], mean, span["max"]))
    return NumberSpan(stated=len(values), least=least, mean=mean, most=most)


def as_json(info: DatasetInfo, dataset: str | Path) -> dict[str, Any]:
    """Everything that is printed, for programs."""
    manifest = info.manifest
    return {
        "dataset": str(dataset),
        "corpus": manifest.corpus,
        "clip": asdict(manifest.clip),
        "members": [asdict(member) for member in manifest.members],
        "labels": [asdict(label) for label in manifest.labels],
        "apart": manifest.apart,
        "video_names": manifest.video_names,
        "splits": {name: asdict(split) for name, split in info.splits.items()},
        "rejected": dict(manifest.rejected),
        "settings": dict(manifest.settings),
    }


# -- for people


def render(info: DatasetInfo, dataset: str | Path, console: Console) -> None:
    """Print a dataset's description."""
    manifest, clip = info.manifest, info.manifest.clip
    clips = sum(split.clips for split in info.splits.values())
    hours = sum(split.hours for split in info.splits.values())
    size = sum(split.bytes for split in info.splits.values())
    each = (
        f"{clip.seconds:g} s: {clip.frames} frames of {clip.size}×{clip.size} at {clip.fps:g} a second, "
        f"{clip.samples} samples at {clip.sample_rate / 1000:g} kHz"
    )
    room = console.width - _FRAME - cell_len(printable(manifest.corpus))
    name = without_middle(printable(str(dataset)), max(room, 2 * _FRAME))
    console.print(
        Panel(
            f"[bold]{clips:,}[/] clips, [bold]{_duration(hours)}[/], [bold]{_size(size)}[/]\n{each}\n"
            f"splits that share no {_apart(manifest)}",
            title=f"[bold]{escape(name)}[/] · {_shown(manifest.corpus)}",
            title_align="left",
            expand=False,
        )
    )
    for table in in_parts(list(info.splits), partial(_splits, info), console):
        console.print(table)
    tables = [_members(manifest)]
    for label in manifest.labels:
        if label.classes is not None:
            tables += _labels(info, label.name, console)
    if any(label.classes is None for label in manifest.labels):
        tables.append(_number_table(info))
    if manifest.rejected:
        tables.append(_pairs("rejected", "utterances", manifest.rejected))
    tables.append(_pairs("setting", "value", manifest.settings))
    console.print(Columns(tables, padding=(0, 2)))


def _shown(name: str) -> str:
    """A name that a dataset gives, neither markup nor a terminal's escapes."""
    return escape(printable(name))


def _splits(info: DatasetInfo, names: Sequence[str]) -> Table:
    """A line a figure, a column a split."""
    table = Table(title="splits", title_justify="left", title_style="bold")
    table.add_column("")
    splits = [info.splits[name] for name in names]
    for name in names:
        table.add_column(_shown(name), justify="right", overflow="fold")
    for figure, cells in (
        ("clips", [f"{split.clips:,}" for split in splits]),
        ("time", [_duration(split.hours) for split in splits]),
        ("speakers", [f"{split.speakers:,}" for split in splits]),
        ("videos", [f"{split.videos:,}" for split in splits]),
        ("utterances", [f"{split.utterances:,}" for split in splits]),
        ("shards", [f"{split.shards:,}" for split in splits]),
        ("size", [_size(split.bytes) for split in splits]),
        ("padded", [_share(split.padded, split.clips) for split in splits]),
    ):
        table.add_row(figure, *cells)
    for member in info.manifest.members:
        if not member.required:
            table.add_row(f"with {_shown(member.name)}", *(f"{split.members[member.name]:.0%}" for split in splits))
    return table


def _members(manifest: Manifest) -> Table:
    table = Table(title="members of a clip", title_justify="left", title_style="bold")
    table.add_column("file", overflow="fold")
    for name in ("type", "shape", "always"):
        table.add_column(name, no_wrap=True)
    for member in manifest.members:
        shape = " × ".join(str(length) for length in member.shape)
        shape = f"up to {shape}" if member.variable else shape
        table.add_row(_shown(member.suffix), _shown(member.dtype), shape, "yes" if member.required else "no")
    return table


def _labels(info: DatasetInfo, label: str, console: Console) -> Iterator[Table]:
    """`_label`, with bars as long as there is room for; in parts where there is none for numbers alone."""
    names = list(info.splits)
    for length in _BARS:
        table = _label(info, label, names, length)
        if fits(table, console):
            yield table
            return
    yield from in_parts(names, lambda some: _label(info, label, some, 0), console)


def _label(info: DatasetInfo, label: str, splits: Sequence[str], bar: int) -> Table:
    """How many clips of each split have each class, the commonest classes where there are many.

    Args:
        info: of the dataset.
        label: its name.
        splits: those that are shown.
        bar: characters of the longest bar; 0: there are none.
    """
    table = Table(title=_shown(label), title_justify="left", title_style="bold")
    table.add_column("", overflow="fold")
    for name in splits:
        table.add_column(_shown(name), justify="right", overflow="fold")
        if bar:
            table.add_column("", no_wrap=True)
    every = [split.classes[label] for split in info.splits.values()]
    total = sum((Counter(of.clips) for of in every), Counter[str]())
    commonest = {name for name, _ in total.most_common(_MOST_CLASSES)}
    occurring = dict.fromkeys(name for of in every for name in of.clips)
    declared = info.manifest.label(label)
    order = (declared.classes or ()) if declared else ()
    names = [name for name in dict.fromkeys((*order, *occurring)) if name in commonest]
    counts = [info.splits[name].classes[label] for name in splits]
    largest = [max((*of.clips.values(), of.unlabelled), default=1) for of in counts]

    def add(head: str, row: Sequence[int]) -> None:
        cells = [(f"{count:,}", _bar(count, most, bar)) for count, most in zip(row, largest, strict=True)]
        table.add_row(head, *(cell for pair in cells for cell in (pair if bar else pair[:1])))

    for name in names:
        add(_shown(name), [of.clips.get(name, 0) for of in counts])
    if len(total) > len(names):
        rest = [sum(count for name, count in of.clips.items() if name not in commonest) for of in counts]
        add(f"[dim]{len(total) - len(names)} more classes[/]", rest)
    if any(of.unlabelled for of in every):
        add("[dim]not stated[/]", [of.unlabelled for of in counts])
    return table


def _number_table(info: DatasetInfo) -> Table:
    """A line a number and split."""
    table = Table(title="numbers", title_justify="left", title_style="bold")
    for name in ("", ""):
        table.add_column(name, overflow="fold")
    for name in ("clips", "least", "mean", "most", "declared"):
        table.add_column(name, justify="right", no_wrap=True)
    for label in info.manifest.labels:
        if label.classes is not None:
            continue
        for name, split in info.splits.items():
            span = split.numbers[label.name]
            values = ("–" if value is None else f"{value:.4g}" for value in (span.least, span.mean, span.most))
            declared = f"{label.low:g} … {label.high:g}"
            table.add_row(_shown(label.name), _shown(name), f"{span.stated:,}", *values, declared)
    return table


def _pairs(key: str, value: str, content: Mapping[str, Any]) -> Table:
    table = Table()
    table.add_column(key, overflow="fold")
    table.add_column(value, justify="right", overflow="fold")
    for name, given in content.items():
        shown = (", ".join(map(str, given)) or "none") if isinstance(given, list) else str(given)
        table.add_row(_shown(name), _shown(shown))
    return table


def _apart(manifest: Manifest) -> str:
    shared = {"speaker": "speaker and no video", "video": "video"}.get(manifest.apart, "utterance")
    return shared if manifest.video_names == "corpus" else f"{shared}; videos of one name are each speaker's own"


def _bar(count: int, largest: int, length: int) -> str:
    return "[cyan]" + "█" * round(length * count / max(largest, 1)) + "[/]"


def _share(part: int, whole: int) -> str:
    return f"{part / max(whole, 1):.0%}"


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{hours * 60:.1f} min"


def _size(size: int) -> str:
    unit, name = next(((10**n, name) for n, name in ((12, "TB"), (9, "GB"), (6, "MB")) if size >= 10**n), (1000, "kB"))
    return f"{size / unit:.1f} {name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """What is in a dataset, at a glance."""

    dataset: tyro.conf.Positional[Path]
    """The dataset's folder, or its URL."""
    to_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print it as JSON."""


def main() -> None:
    """The command line."""
    arguments = cli(Arguments)
    with reported():
        info = describe(arguments.dataset)
        name = url_of(arguments.dataset) or str(arguments.dataset)
        if arguments.to_json:
            print(json.dumps(as_json(info, name), indent=1, ensure_ascii=False))
        else:
            render(info, name, Console())


if __name__ == "__main__":
    main()

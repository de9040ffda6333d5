"""What a benchmark writes: the machine, the versions, the settings, every round as it was measured, and its ratios.

A figure in seconds is worth little away from the machine it was measured on, and machines drift within an hour: sides
are therefore measured in turn, round by round, and compared by the median of the ratios within a round.
"""

import json
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar, overload

from rich.console import Console
from rich.table import Table

from loaders.arguments import cli
from loaders.errors import InputError, reported
from loaders.progress import progress
from loaders.storage.atomic import write_atomically

Figures = Mapping[str, float]  #: what one side measured in one round, by name; the unit is in the name

T = TypeVar("T")

console = Console()

_OUTPUTS = ("json", "plot", "picture", "messages", "output")  #: options of files and folders that are written

#: Packages whose versions can move a figure.
_PACKAGES = (
    "torch",
    "nvidia-dali-cuda130",
    "webdataset",
    "torchaudio",
    "accelerate",
    "numpy",
    "av",
    "pillow",
    "simplejpeg",
    "torchcodec",
    "spdl-core",
    "spdl-io",
    "megatron-energon",
    "litdata",
    "mosaicml-streaming",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run of one benchmark."""

    benchmark: str  #: name of the program, without .py
    settings: Mapping[str, Any]
    rounds: Mapping[str, Sequence[Figures]]  #: side → what it measured, a round each
    ratios: Mapping[str, float]  #: a flat table of name to median
    facts: Mapping[str, Any]  #: whatever else the page shows that is no timing: sizes, counts, notes

    def median(self, side: str, figure: str) -> float:
        """Of a side's rounds."""
        return statistics.median(figures[figure] for figures in self.rounds[side])


class SideError(Exception):
    """A side could not be measured."""


def take_turns(
    sides: Mapping[str, Callable[[], Figures]],
    rounds: int,
    optional: Collection[str] = (),
    failed: MutableMapping[str, str] | None = None,
) -> dict[str, list[Figures]]:
    """Measure every side once a round, in an order that turns around from round to round, behind a progress bar.

    Args:
        sides: name → what measures it once; a warm-up is its own business.
        rounds: how often.
        optional: sides that are left out from where they cannot be measured.
        failed: takes up the reasons.

    Returns:
        side → its figures, a round each, in order.

    Raises:
        InputError: a side could not be measured that must be, or there are no rounds.
    """
    if rounds < 1:
        raise InputError(f"--rounds is {rounds}: use 1 or more")
    found: dict[str, list[Figures]] = {name: [] for name in sides}
    with progress("measuring", rounds * len(sides), "measurements", console=console) as bar:
        for number in range(rounds):
            names = list(sides)
            if number % 2:
                names.reverse()
            for name in names:
                bar.move(bar.done, f"round {number + 1}: {name}")
                if name in found:
                    try:
                        found[name].append(sides[name]())
                    except SideError as error:
                        if failed is None or name not in optional:
                            raise InputError(f"{name}: {error}") from error
                        failed[name] = str(error)
                        del found[name]
                bar.advance()
    return found


def median_ratio(rounds: Mapping[str, Sequence[Figures]], figure: str, one: str, other: str) -> float:
    """Median over the rounds of one side's figure divided by another's in the same round."""
    pairs = zip(rounds[one], rounds[other], strict=True)
    return statistics.median(first[figure] / second[figure] for first, second in pairs)


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, least and greatest."""
    return statistics.median(values), min(values), max(values)


@overload
def read_settings(kind: type[T], description: str | None) -> T: ...


@overload
def read_settings(kind: Any, description: str | None) -> Any: ...


def read_settings(kind: Any, description: str | None) -> Any:
    """The settings of this process' command line, whose outputs can be written: minutes later it would be too late.

    Args:
        kind: see `loaders.arguments.cli`.
        description: of the program.

    Raises:
        SystemExit: (2) it is no command line, or names an output that cannot be.
    """
    settings = cli(kind, description=description)
    with reported():
        for name in _OUTPUTS:
            path = getattr(settings, name, None)
            if path is not None:
                _require_place(f"--{name} {path}", path)
                if name != "output" and path.is_dir():
                    raise InputError(f"--{name} {path}: is a folder: name a file in it")
    return settings


def _require_place(named: str, path: Path) -> None:
    """Raise InputError where the folders around a path are not there and cannot be made."""
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise InputError(f"{named}: {there} is no folder that can be written into: give another name")


@contextmanager
def scratch_folder(folder: Path | None, prefix: str) -> Iterator[Path]:
    """A new folder in ``folder``, or in the system's for temporary files, which is removed in the end.

    Raises:
        InputError: none can be made there.
    """
    try:
        made = tempfile.TemporaryDirectory(dir=folder, prefix=prefix)
    except OSError as error:
        where = tempfile.gettempdir() if folder is None else f"--folder {folder}"
        raise InputError(f"{where}: {error.strerror}: give a --folder that is there and can be written into") from error
    with made as name:
        yield Path(name)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 2),  # before the run: above 1, something else was at work
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that are installed of those that matter."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def write_record(path: Path, record: Record, described: Mapping[str, Any] | None = None) -> None:
    """Write a record as JSON, whole or absent.

    Args:
        path: of the file; its folder is made.
        record: see there.
        described: `machine` as it was before the run; by default as it is now.
    """
    body = {
        "benchmark": record.benchmark,
        "machine": described or machine(),
        "versions": versions(),
        # Where the record, its picture and messages are written moves no figure, and is nobody else's affair.
        "settings": {n: value for n, value in record.settings.items() if n not in ("json", "plot", "messages")},
        "ratios": {name: round(value, 4) for name, value in record.ratios.items()},
        "facts": record.facts,
        "rounds": record.rounds,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(body, indent=1, ensure_ascii=False, default=str) + "\n").encode())


def read_record(path: Path) -> tuple[Record, dict[str, Any], dict[str, str]]:
    """A record, the machine and the versions, from the JSON that `write_record` wrote."""
    body = json.loads(path.read_text())
    record = Record(
        benchmark=body["benchmark"],
        settings=body["settings"],
        rounds=body["rounds"],
        ratios=body["ratios"],
        facts=body["facts"],
    )
    return record, body["machine"], body["versions"]


def show_rounds(title: str, rounds: Mapping[str, Sequence[Figures]], figures: Sequence[str]) -> None:
    """Print `rounds_table`."""
    console.print(rounds_table(title, rounds, figures))


def rounds_table(title: str, rounds: Mapping[str, Sequence[Figures]], figures: Sequence[str]) -> Table:
    """A row for each figure of each side: the median, the least and the greatest. 80 columns hold it."""
    table = Table(title=title)
    for name in ("side", "figure"):
        table.add_column(name, overflow="fold")  # however long, they are shown whole
    for name in ("median", "least", "greatest"):
        table.add_column(name, justify="right", no_wrap=True)
    for side, measured in rounds.items():
        of_side = {name: [round_[name] for round_ in measured if name in round_] for name in figures}
        known = {name: values for name, values in of_side.items() if values}
        for number, (name, values) in enumerate(known.items(), 1):
            cells = map(_readable, spread(values))
            end = number == len(known) and len(known) > 1
            table.add_row(side if number == 1 else "", name.replace("_", " "), *cells, end_section=end)
    return table


def _readable(number: float) -> str:
    """Four digits, or all before the point: nobody reads 1.234e+04."""
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def show_ratios(ratios: Mapping[str, float]) -> None:
    """Print `ratios_table`."""
    console.print(ratios_table(ratios))


def ratios_table(ratios: Mapping[str, float]) -> Table:
    """A row a ratio. 80 columns hold it."""
    table = Table(title="medians of the ratios within a round")
    table.add_column("ratio", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    for name, value in ratios.items():
        table.add_row(name, f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}")
    return table


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None

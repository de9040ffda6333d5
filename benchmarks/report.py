"""benchmarks/RESULTS.md from benchmarks/results/*.json, and from nothing else: no number there is typed by hand.

python benchmarks/report.py
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # not benchmarks/: its loaders.py and train.py would hide the packages of these names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.record import Record, read_record, read_settings, spread
from benchmarks.representation import markdown
from benchmarks.thesis.pages import (
    emotion_markdown,
    pairs_markdown,
    systems_markdown,
    systems_of_record,
    tables_of_record,
)
from loaders.errors import InputError, reported
from loaders.storage.atomic import write_atomically

_HERE = Path("benchmarks")

#: benchmark → title, and what it shows; others come under their own name.
TITLES: Mapping[str, tuple[str, str]] = {
    "loaders": ("Clips a second", "The same clips as torch tensors, by this loader and by its peers, in turn."),
    "loaders_gpu": ("Clips a second on a GPU", "The same, decoded on a GPU, on the CPU for it, or on both."),
    "reading": (
        "Reading",
        "Clips read and checked, without decoding, by threads and by processes; *mapped*: shards mapped, hashed in the "
        "map and copied, on one thread.",
    ),
    "windows": (
        "Some of a clip's frames",
        "Frames cut out of encoded filmstrips, beside whole clips with restart markers and without, in turn.",
    ),
    "windows_gpu": ("Some of a clip's frames on a GPU", "The same, decoded on a GPU."),
    "train": ("Time lost to data", "Training with the loader, and with the same batches already in memory, in turn."),
    "train_gpu": ("Training on a GPU", "The same, with the step's parts alone, and what the GPU did in a step."),
    "build": ("Building", "A build's rate by stage and worker, and what FFmpeg alone decodes."),
    "faces": ("Finding faces", "Frames a second of face detection."),
    "scale": ("Any number of clips", "Generated catalogs, each in a process of its own; nodes and a store, simulated."),
    "shuffle": (
        "Shuffling",
        "Distance of neighbours as a share of a true shuffle's, and clips that meet another of their video in a batch.",
    ),
    "quality": ("Bytes, loss and speed", "Real clips coded in every way and decoded in one thread."),
    "representation": (
        "What pre-trained towers know",
        "Ranks and linear probes, beside towers that have learnt nothing.",
    ),
    "thesis_tables": (
        "Pre-trained or from scratch",
        "Micro-F1 on the demo corpus, percent, means over seeds with intervals (95 %) over speakers and seeds.",
    ),
}


@dataclass(frozen=True, slots=True)
class Aim:
    """What a ratio is to reach."""

    benchmark: str
    ratio: str  #: how its name begins
    bound: float
    at_least: bool

    def told(self, value: float) -> str:
        """The aim, and whether it is met."""
        met = value >= self.bound if self.at_least else value <= self.bound
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}: {'met' if met else 'not met'}"


AIMS = (
    Aim("loaders", "ours, frames alone / limit", 0.90, True),
    Aim("loaders", "ours / limit", 0.80, True),
    Aim("loaders", "ours / best peer @ source", 8.0, True),
    Aim("loaders", "ours / best peer on any form", 1.3, True),
    Aim("loaders_gpu", "ours, frames alone / limit", 0.9, True),
    Aim("loaders_gpu", "ours / limit", 0.9, True),
    Aim("loaders_gpu", "ours / best peer on any form", 3.0, True),
    Aim("build", "build, 1 process / decode + encode alone", 0.8, True),
    Aim("train", "share of time waited for data", 1.0, False),
    Aim("train_gpu", "with the loader / in memory", 0.98, True),
    Aim("train_gpu", "share of time waited for data", 1.0, False),
    Aim("train_gpu", "front end / step", 0.05, False),
    Aim("train_gpu", "operations / peak of the GPU", 38.0, True),
    Aim("reading", "2 threads, with sound, bytes / mapped: clips", 1.8, True),
    Aim("reading", "2 threads, with sound, bytes / mapped: processor", 0.7, False),
    Aim("reading", "2 processes, with sound, bytes / mapped: clips", 1.8, True),
    Aim("reading", "1 thread, with sound, bytes / mapped: processor", 0.7, False),
    Aim("windows", "8 of 16 / whole", 1.75, True),
    Aim("windows", "4 of 16 / whole", 3.2, True),
    Aim("windows", "whole / whole, without markers", 0.93, True),
    Aim("windows_gpu", "8 of 16 / whole", 1.5, True),
    Aim("scale", "1e+06 clips: open_s", 1.0, False),
    Aim("scale", "1e+06 clips: resident_mb", 120.0, False),
    Aim("scale", "1e+06 clips: pairs_a_second", 1e6, True),
    Aim("scale", "whole loader: first_batch_s", 2.0, False),
    Aim("scale", "cost of a position", 1.2, False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where from and where to."""

    results: Path = _HERE / "results"
    """Folder of the records (.json) and the plots (.png) beside them."""
    output: Path = _HERE / "RESULTS.md"
    """The page."""


def main() -> None:
    """The command line."""
    settings = read_settings(Settings, __doc__)
    with reported():
        paths = sorted(settings.results.glob("*.json"))
        if not paths:
            raise InputError(f"{settings.results}: no record there: run a benchmark with --json first")
        write_atomically(settings.output, page(paths, settings.output.parent).encode())


def page(paths: Sequence[Path], home: Path) -> str:
    """The whole page; plots are linked relative to ``home``, its folder."""
    order = {name: place for place, name in enumerate(TITLES)}
    records = [(path, *read_record(path)) for path in paths]
    records.sort(key=lambda item: (order.get(item[1].benchmark, len(order)), item[0].name))
    head = [
        "# Results",
        "",
        "Made by `python benchmarks/report.py` from the records in `results/`. Sides were measured in turn; every "
        "figure is the median of its rounds, with the least and the greatest in brackets.",
        "",
        "",
    ]
    counts = Counter(record.benchmark for _, record, _, _ in records)
    sections = [
        section(path, record, of, versions, home, alone=counts[record.benchmark] == 1)
        for path, record, of, versions in records
    ]
    return "\n".join(head) + "\n".join(sections)


def section(
    path: Path,
    record: Record,
    of: Mapping[str, Any],
    versions: Mapping[str, str],
    home: Path,
    *,
    alone: bool = True,
) -> str:
    """One benchmark's; where it is not the only one of its kind, its file's name tells it from the others."""
    title, shows = TITLES.get(record.benchmark, (record.benchmark, ""))
    title = title if alone else f"{title}: {path.stem}"
    lines = [f"## {title}", ""]
    if shows:
        lines += [shows, ""]
    lines += [_machine(of), ""]
    plot = path.with_suffix(".png")
    if plot.is_file():
        lines += [f"![{title}]({plot.relative_to(home).as_posix()})", ""]
    lines += rounds_table(record)
    if record.ratios:
        lines += ["| ratio | value | aim |", "|---|---:|---|"]
        lines += [
            f"| {name} | {number(value)} | {_aim(record.benchmark, name, value)} |"
            for name, value in record.ratios.items()
        ]
        lines += [""]
    lines += FACTS.get(record.benchmark, plain_facts)(record)
    lines += [
        f"Settings: {_listed(record.settings)}. Versions: {', '.join(f'{name} {v}' for name, v in versions.items())}.",
        "",
    ]
    return "\n".join(lines)


def rounds_table(record: Record) -> list[str]:
    """A row a side, a column a figure; sides with other figures come in a table of their own."""
    tables: dict[tuple[str, ...], list[str]] = {}
    for side, rounds in record.rounds.items():
        if rounds:
            tables.setdefault(tuple(rounds[0]), []).append(side)
    lines: list[str] = []
    for names, sides in tables.items():
        lines += ["| side | " + " | ".join(name.replace("_", " ") for name in names) + " |"]
        lines += ["|---|" + "---:|" * len(names)]
        for side in sides:
            cells = [_spread([round_[name] for round_ in record.rounds[side] if name in round_]) for name in names]
            lines += [f"| {side} | " + " | ".join(cells) + " |"]
        lines += [""]
    return lines


def number(value: float) -> str:
    """Three figures that count; thousands apart."""
    if value != value or abs(value) in (0.0, float("inf")):  # not a number is unlike itself
        return f"{value:g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 0.001:
        return f"{value:.2e}"
    return f"{value:.3g}"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    middle, least, most = spread(values)
    if number(least) == number(most):
        return number(middle)
    return f"{number(middle)} ({number(least)}–{number(most)})"


def _machine(of: Mapping[str, Any]) -> str:
    gpu = of.get("gpu") or "no GPU"
    busy = f", load {of['load']:g} before the run" if "load" in of else ""
    return f"On {of['processor']}, {of['cores']} cores, {of['memory_gb']:g} GB, {gpu}, {of['system']}{busy}."


def _aim(benchmark: str, name: str, value: float) -> str:
    return next((a.told(value) for a in AIMS if a.benchmark == benchmark and name.startswith(a.ratio)), "")


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_plain(value)}" for name, value in values.items())


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({_listed(value)})"
    if isinstance(value, list | tuple):
        return " ".join(map(_plain, value))
    return number(value) if isinstance(value, float) else str(value)


# -- what else a record holds


def plain_facts(record: Record) -> list[str]:
    """Those that are short, a line each."""
    lines = [f"- {name.replace('_', ' ')}: {_plain(value)}" for name, value in record.facts.items()]
    return [*(line for line in lines if len(line) <= 400), ""] if lines else []


def train_facts(record: Record) -> list[str]:
    """Those that are short, and the profile as tables."""
    lines = plain_facts(replace(record, facts={k: v for k, v in record.facts.items() if k != "kernels"}))
    seen = record.facts.get("kernels")
    if not seen:
        return lines
    kinds, longest = seen["ms a step by kind"], seen["longest, ms a step"]
    total = sum(kinds.values())
    lines += ["| kind of kernel | ms a step | share |", "|---|---:|---:|"]
    lines += [f"| {kind} | {number(ms)} | {100 * ms / total:.1f} % |" for kind, ms in kinds.items()]
    lines += ["", "| longest kernels | calls a step | ms a step |", "|---|---:|---:|"]
    lines += [f"| `{k['kernel'].replace('|', '¦')}` | {number(k['calls'])} | {number(k['ms'])} |" for k in longest]
    return [*lines, ""]


def thesis_facts(record: Record) -> list[str]:
    """Tables 4.1 and 4.2; or all systems, where they were trained."""
    pairs, emotion = tables_of_record(record.facts)
    chosen = " ".join(record.facts["chosen"])
    if "systems" in record.facts:
        rows = systems_of_record(record.facts["systems"])
        return [*systems_markdown(rows, record.settings["system_seeds"], emotion.majority), "", chosen, ""]
    return [*emotion_markdown(emotion), "", "Pairs:", "", *pairs_markdown(pairs), "", chosen, ""]


def scale_facts(record: Record) -> list[str]:
    """The simulation's table, and the large corpus."""
    lines: list[str] = []
    simulated = record.facts.get("simulated")
    if simulated:
        cluster = record.settings["cluster"]
        demand = simulated["demand_bytes_a_second"] / 1e9
        lines += [
            "### Nodes and an object store, simulated",
            "",
            f"{cluster['nodes']} nodes of {cluster['gpus']} GPUs, each GPU training on "
            f"{number(cluster['clips_per_second'])} clips a second: {number(demand)} GB/s a node. Two epochs over "
            f"shards of {number(simulated['shard_bytes'] / 1e6)} MB. *Link*: a node's bandwidth over what its training "
            "takes. *Cache*: in windows. *Fetched*: bytes a node over those of its shards, once an epoch.",
            "",
            "| window, shards | link | attempts that fail | cache | time lost | fetched | largest cache, GB |",
            "|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for run in simulated["runs"]:
            if run["link"] not in (1.0, 2.0, 4.0) or run["cache_windows"] not in (2.0, 3.0):
                continue
            row = [
                str(run["window"]),
                f"{run['link']:g}×",
                f"{100 * run['failure_rate']:g} %",
                f"{run['cache_windows']:g}",
            ]
            if run["stall_share"] is None:
                row += ["gave up", "", ""]
            else:
                row += [
                    f"{100 * run['stall_share']:.1f} %",
                    f"{run['fetched_ratio']:.2f}×",
                    number(run["largest_cache_bytes"] / 1e9),
                ]
            lines += ["| " + " | ".join(row) + " |"]
        lines += [""]
    projected = record.facts.get("projection")
    if projected:
        assumed = projected["assumed"]
        lines += [
            f"### {assumed['clips']:.0e} clips on {assumed['gpus']:,} GPUs, computed from the above",
            "",
            f"Assumed: {_listed(assumed)}.",
            "",
            "| what | value |",
            "|---|---:|",
            *(
                f"| {name.replace('_', ' ')} | {number(value)} |"
                for name, value in projected.items()
                if name != "assumed"
            ),
            "",
            "*Whole catalog*: every rank opens all of it, as the loader does. *Lane only*: what a rank would need if "
            "it opened no more than its node's share.",
            "",
        ]
    return lines


FACTS: Mapping[str, Callable[[Record], list[str]]] = {
    "scale": scale_facts,
    "representation": lambda record: [*markdown(record), ""],
    "thesis_tables": thesis_facts,
    "train": train_facts,
    "train_gpu": train_facts,
}


if __name__ == "__main__":
    main()

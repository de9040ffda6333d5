"""What the loader costs at any number of clips, and what a corpus in an object store takes.

    python benchmarks/scale.py --json benchmarks/results/scale.json --plot benchmarks/results/scale.png

Catalogs of 10⁴ … 10⁷ clips are generated (`benchmarks.generated`) and each is measured in a process of its own: seconds
to open it, memory, seconds to the first step's examples, and what each position of a step costs from then on. Nodes
that read shards from an object store are simulated (`benchmarks.fetching`): the order, the pairs and the cache's
decisions are the loader's own, time and bytes are counted. Both together give what a corpus of 10⁹ clips would take.
"""

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # not benchmarks/: its loaders.py and train.py would hide the packages of these names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from benchmarks.fetching import Cluster, Fetched, GaveUpError, Schedule, Store, lane_bytes, schedule, simulate
from benchmarks.figures import save, style
from benchmarks.generated import Generated, generate_dataset
from benchmarks.record import (
    Figures,
    Record,
    console,
    machine,
    read_settings,
    scratch_folder,
    show_ratios,
    show_rounds,
    take_turns,
    write_record,
)
from loaders.dataset.catalog import open_catalog
from loaders.dataset.tables import forget
from loaders.errors import InputError, reported
from loaders.sampling.examples import Sampler
from loaders.sampling.mixture import DatasetSize, MixedOrder
from loaders.sampling.pairs import Clips, Pairs

_MEMBERS = ("filmstrip", "audio", "gaze")  # what the loader opens
_OTHER_VIDEO = {"other_video": 1.0}
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TURNS = 15  # of some milliseconds, of which the quickest counts: what else is at work can only make one slower


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is measured."""

    smallest: int = 10_000
    """Clips of the smallest catalog; each further one has ten times as many."""
    largest: int = 10_000_000
    """Clips of the largest catalog."""
    rounds: int = 3
    """How often each catalog is measured, each time in a new process."""
    batch: int = 256
    """Positions a step and rank."""
    first_batch: int = 1_000_000
    """Clips of the dataset of which a whole ClipLoader's first batch is timed, decoding and all."""
    folder: Path | None = None
    """Where datasets are generated, and removed again; by default the system's folder for temporary files."""
    simulated_clips: int = 400_000
    """Clips of the corpus that simulated nodes read; 0 simulates nothing."""
    cluster: Cluster = field(default_factory=lambda: Cluster(nodes=8, clips_per_second=200.0))
    """The simulated nodes."""
    clip_bytes: int = 210_000
    """Of a simulated clip: a filmstrip of quality 90 and its audio as WAV, see the table of qualities."""
    json: Path | None = None
    """Where the record is written."""
    plot: Path | None = None
    """Where the plot is written (PNG)."""


def main() -> None:
    """The command line."""
    settings = read_settings(Settings, __doc__)
    with reported():
        before = machine()
        with scratch_folder(settings.folder, "scale-") as folder:
            record = measure(settings, folder)
        show_rounds("catalogs", record.rounds, CATALOG_FIGURES)
        show_ratios(record.ratios)
        if settings.json is not None:
            write_record(settings.json, record, before)
        if settings.plot is not None:
            plot(record, settings.plot)


CATALOG_FIGURES = ("open_s", "resident_mb", "first_examples_s", "microseconds_a_position", "pairs_a_second")


def measure(settings: Settings, folder: Path) -> Record:
    """Generate, measure and simulate; ``folder`` is empty."""
    sizes = catalog_sizes(settings.smallest, settings.largest)
    sides = {}
    for size in sizes:
        with console.status(f"generating {size:,} clips"):
            generate_dataset(folder / str(size), Generated(clips=size, size=32, readable=False))
        sides[f"{size:.0e} clips"] = partial(in_new_process, probe, folder / str(size), settings.batch)
    rounds = take_turns(sides, settings.rounds)
    facts: dict[str, Any] = {"clips": dict(zip(sides, sizes, strict=True))}
    if settings.first_batch:
        with console.status(f"generating {settings.first_batch:,} clips to read"):
            generate_dataset(folder / "read", Generated(clips=settings.first_batch))
        side = {"whole loader": partial(in_new_process, first_batch, folder / "read")}
        rounds |= take_turns(side, settings.rounds)
        facts["first_batch_clips"] = settings.first_batch
    ratios = _ratios(rounds, facts["clips"])
    if settings.simulated_clips:
        simulated = simulate_all(settings, folder / "simulated")
        facts |= {"simulated": simulated}
        ratios |= {f"simulated: {name}": value for name, value in cache_needed(simulated["runs"]).items()}
    record = Record(
        benchmark="scale",
        settings={**asdict(settings), "left_out": f"catalogs above {settings.largest:,} clips"},
        rounds=rounds,
        ratios=ratios,
        facts=facts,
    )
    return replace(record, facts={**facts, "projection": projection(record, settings)})


def catalog_sizes(smallest: int, largest: int) -> list[int]:
    """Powers of ten times the smallest, up to the largest.

    Raises:
        InputError: the smallest is too small to measure, or above the largest.
    """
    if not 10_000 <= smallest <= largest:
        raise InputError(f"--smallest is {smallest}: use 10000 … --largest ({largest})")
    sizes = [smallest]
    while sizes[-1] * 10 <= largest:
        sizes.append(sizes[-1] * 10)
    return sizes


# -- a catalog, in a process of its own


def in_new_process(function: Any, *arguments: Any) -> Figures:
    """Call a function in a fresh process: what earlier ones left in memory is not counted."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        figures: Figures = pool.submit(function, *arguments).result()
    return figures


def probe(dataset: Path, batch: int) -> Figures:
    """Open a catalog, draw the first step's examples and many more.

    Args:
        dataset: its folder.
        batch: positions a step.
    """
    open_catalog(dataset, "train", ()).table(["shard"]).slice(0, 1).to_pylist()  # what only the first call costs
    forget()  # but not the check of the catalog's SHA-256, which every process makes
    before = _resident()
    start = time.perf_counter()
    catalog = open_catalog(dataset, "train", _MEMBERS)
    opened = time.perf_counter()
    catalog_resident = _resident()
    order = MixedOrder([DatasetSize(catalog.shard_clips)], seed=0, shuffle=True, global_batch=batch)
    sampler = Sampler(catalog, seed=0, training=True, frames=16, negatives=_OTHER_VIDEO, order=order)
    sampler.examples(0, np.arange(batch))
    first = time.perf_counter()
    resident = _resident()
    costs = []
    for turn in range(_TURNS):
        steps = np.random.default_rng(turn).integers(0, order.steps, 20)
        begin = time.perf_counter()
        for step in steps.tolist():
            sampler.examples(1, np.arange(step * batch, (step + 1) * batch))
        costs.append((time.perf_counter() - begin) / (20 * batch))
    clips = Clips(catalog.speaker, catalog.video, catalog.utterance, catalog.start, catalog.manifest.clip.seconds)
    pairs = Pairs(clips, _OTHER_VIDEO, 0)
    some = np.random.default_rng(0).integers(0, len(catalog), 1 << 16)
    rates = []
    for turn in range(_TURNS):
        begin = time.perf_counter()
        pairs.draw(turn, np.arange(len(some)), some)
        rates.append(len(some) / (time.perf_counter() - begin))
    return {
        "open_s": opened - start,
        "first_examples_s": first - start,
        "resident_mb": (resident - before) / 1e6,
        "catalog_resident_mb": (catalog_resident - before) / 1e6,
        "process_resident_mb": resident / 1e6,
        "peak_resident_mb": _peak() / 1e6,
        "microseconds_a_position": 1e6 * min(costs),
        "pairs_a_second": max(rates),
        "catalog_mb": (dataset / "train" / "clips.parquet").stat().st_size / 1e6,
    }


def first_batch(dataset: Path) -> Figures:
    """A whole loader from making it to holding its first decoded batch."""
    from loaders import ClipLoader

    start = time.perf_counter()
    with ClipLoader(dataset, "train", batch_size=32) as loader:
        made = time.perf_counter()
        next(iter(loader))
        done = time.perf_counter()
    return {"made_s": made - start, "first_batch_s": done - start}


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def _ratios(rounds: Mapping[str, Sequence[Figures]], clips: Mapping[str, int]) -> dict[str, float]:
    def median(side: str, figure: str) -> float:
        return statistics.median(figures[figure] for figures in rounds[side])

    least, most = min(clips, key=clips.__getitem__), max(clips, key=clips.__getitem__)
    ratios = {
        f"cost of a position, {most} / {least}": median(most, "microseconds_a_position")
        / median(least, "microseconds_a_position")
    }
    for side in (side for side, count in clips.items() if count == 1_000_000):
        ratios |= {f"{side}: {figure}": median(side, figure) for figure in CATALOG_FIGURES}
    if "whole loader" in rounds:
        ratios["whole loader: first_batch_s"] = median("whole loader", "first_batch_s")
    return ratios


# -- nodes and a store


def simulate_all(settings: Settings, folder: Path) -> dict[str, Any]:
    """Windows × links × failures × caches: what each run takes, by the measure of what the training takes."""
    generate_dataset(folder, Generated(clips=settings.simulated_clips, size=32, different=8, readable=False))
    catalog = open_catalog(folder, "train", ())
    cluster = settings.cluster
    demand = cluster.gpus * cluster.clips_per_second * settings.clip_bytes
    runs = []
    for window in (cluster.window // 2, cluster.window, 2 * cluster.window):
        with console.status(f"drawing the order in windows of {window} shards"):
            plan = schedule(catalog, replace(cluster, window=window), clip_bytes=settings.clip_bytes, epochs=2)
        for link in (0.8, 1.0, 1.25, 2.0, 4.0):
            for failures in (0.0, 0.01, 0.1):
                for cache in (2.0, 2.5, 3.0):
                    store = Store(link=link * demand, failure_rate=failures)
                    capacity = int(cache * window * max(shard.bytes for shard in plan.shards))
                    chances = {"window": window, "link": link, "failure_rate": failures, "cache_windows": cache}
                    runs.append(chances | outcome(plan, store, capacity))
    return {
        "demand_bytes_a_second": demand,  # of a node
        "shard_bytes": max(shard.bytes for shard in plan.shards),
        "steps": len(plan.steps[0]),
        "step_s": cluster.step_seconds,
        "runs": runs,
    }


def outcome(plan: Schedule, store: Store, cache_bytes: int) -> dict[str, Any]:
    """What became of a simulated run, flat; its stall share is None where the loader would have given up."""
    try:
        found: Fetched = simulate(plan, store, cache_bytes)
    except GaveUpError:
        return {"stall_share": None}
    return {
        "stall_share": found.stall_share,
        "first_step_s": found.first_step,
        "fetched_ratio": float(np.mean(np.array(found.bytes) / (plan.epochs * lane_bytes(plan)))),
        "fetched_bytes_a_node": int(np.mean(found.bytes)),
        "largest_cache_bytes": max(found.largest),
        "failures": found.failures,
    }


def cache_needed(runs: Sequence[Mapping[str, Any]], *, most: float = 0.01) -> dict[str, float]:
    """The smallest cache, in windows, with which no more than a share of the time is lost, by window and failures, at
    a link of twice what the training takes; left out where none of those tried is enough."""
    needed: dict[str, float] = {}
    for run in sorted(runs, key=lambda run: run["cache_windows"]):
        name = f"windows of cache, {run['window']} shards each, {100 * run['failure_rate']:.0f} % failures, link 2×"
        if run["link"] == 2.0 and run["stall_share"] is not None and run["stall_share"] <= most:
            needed.setdefault(name, run["cache_windows"])
    return needed


# -- a corpus of 10⁹ clips


def projection(record: Record, settings: Settings, clips: int = 10**9, gpus: int = 1000) -> dict[str, Any]:
    """What so large a corpus would take, from what was measured; every assumption is among the results.

    Memory and opening grow with the clips, as measured from the second largest to the largest catalog; the cost of a
    position does not.
    """
    by_size = sorted(record.facts["clips"], key=record.facts["clips"].__getitem__)
    least, most = by_size[-2:] if len(by_size) > 1 else (by_size[0], by_size[0])
    sizes: Mapping[str, int] = record.facts["clips"]

    def slope(figure: str) -> float:
        if least == most:
            return record.median(most, figure) / sizes[most]
        return (record.median(most, figure) - record.median(least, figure)) / (sizes[most] - sizes[least])

    cluster = settings.cluster
    nodes = gpus // cluster.gpus
    shard_clips = 1000
    memory = slope("resident_mb") * 1e6
    return {
        "assumed": {
            "clips": clips,
            "gpus": gpus,
            "gpus_a_node": cluster.gpus,
            "clips_a_second_and_gpu": cluster.clips_per_second,
            "bytes_a_clip": settings.clip_bytes,
            "clips_a_shard": shard_clips,
            "window_shards": cluster.window,
            "batch_a_gpu": cluster.batch_size,
        },
        "corpus_tb": clips * settings.clip_bytes / 1e12,
        "shards": clips // shard_clips,
        "epoch_hours": clips / (gpus * cluster.clips_per_second) / 3600,
        "link_gbit_a_second_and_node": cluster.gpus * cluster.clips_per_second * settings.clip_bytes * 8 / 1e9,
        "store_gbyte_a_second": gpus * cluster.clips_per_second * settings.clip_bytes / 1e9,
        "cache_gb_a_node_two_windows": 2 * cluster.window * shard_clips * settings.clip_bytes / 1e9,
        "lane_clips": clips // nodes,
        "bytes_of_memory_a_clip": memory,
        "memory_gb_a_rank_whole_catalog": memory * clips / 1e9,
        "memory_gb_a_rank_lane_only": memory * clips / nodes / 1e9,
        "open_s_whole_catalog": slope("open_s") * clips,
        "open_s_lane_only": slope("open_s") * clips / nodes,
        "drawing_ms_a_step_and_rank": record.median(most, "microseconds_a_position") * cluster.batch_size / 1e3,
        "step_ms": cluster.step_seconds * 1e3,
    }


# -- the plot


def plot(record: Record, path: Path) -> None:
    """Catalogs by size, and stalls by link; PNG."""
    style()
    from matplotlib import pyplot as plt

    sizes = sorted(record.facts["clips"].values())
    sides = sorted(record.facts["clips"], key=record.facts["clips"].__getitem__)
    figure, axes = plt.subplots(2, 2, figsize=(8, 6.4))
    panels = (
        ("open_s", "seconds to open", "log"),
        ("resident_mb", "memory, MB", "log"),
        ("microseconds_a_position", "drawing, µs a position", "linear"),
    )
    for axis, (name, label, scale) in zip(axes.flat, panels, strict=False):
        values = [[round_[name] for round_ in record.rounds[side]] for side in sides]
        middle = [statistics.median(of_side) for of_side in values]
        spread = [[m - min(v) for m, v in zip(middle, values, strict=True)]]
        spread += [[max(v) - m for m, v in zip(middle, values, strict=True)]]
        axis.errorbar(sizes, middle, spread, marker="o", capsize=3)
        axis.set(xscale="log", yscale=scale, xlabel="clips in the catalog", ylabel=label)
        if scale == "linear":
            axis.set_ylim(0, 1.3 * max(max(of_side) for of_side in values))
    axis = axes.flat[3]
    if "simulated" in record.facts:
        runs = record.facts["simulated"]["runs"]
        window = record.settings["cluster"]["window"]
        for failures, marker in zip(sorted({run["failure_rate"] for run in runs}), "osv", strict=False):
            chosen = [
                run
                for run in runs
                if run["failure_rate"] == failures and run["window"] == window and run["cache_windows"] == 3
            ]
            lost = [100 * run["stall_share"] if run["stall_share"] is not None else np.nan for run in chosen]
            axis.plot([run["link"] for run in chosen], lost, marker=marker, label=f"{100 * failures:.0f} % fail")
        axis.set(xlabel="node's link / what its training takes", ylabel="time lost to stalls, %")
        axis.legend(title=f"windows of {window} shards, cache of 3")
    else:
        axis.axis("off")
    save(figure, path)


if __name__ == "__main__":
    main()

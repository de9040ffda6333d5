"""Clips a second of this project's loader, of what users would do instead, and of the limit.

``python benchmarks/loaders.py --data DATASET [--source VIDEOS] [--json FILE] [--plot FILE]``

Every side hands out the same clips, frames and sound, as torch tensors in batches of the same size, on the same cores;
each runs in a process of its own, the sides alternating. In every round the first clips that a side hands out are
compared with those that it names: a side that gives other frames or sounds stops the benchmark.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # in place of this file's folder, where `loaders` is this file

import tyro  # noqa: E402

from benchmarks.peers.limit import simplejpeg_rate, tjbench_rate  # noqa: E402
from benchmarks.peers.measure import ANSWER, Order  # noqa: E402
from benchmarks.peers.prepare import prepare  # noqa: E402
from benchmarks.peers.registry import PEERS  # noqa: E402
from benchmarks.peers.served import DESCRIBED, FORMS, Form, Prepared  # noqa: E402
from benchmarks.record import (  # noqa: E402
    Figures,
    Record,
    console,
    machine,
    median_ratio,
    show_ratios,
    show_rounds,
    take_turns,
    write_record,
)
from loaders.errors import InputError, reported  # noqa: E402

OURS, FRAMES = "ours", "ours, frames alone"
DALI = "ours, by DALI"
LIMIT, STRIPS = "limit", "limit, strips in turn"
FIGURES = ("clips_per_second", "frames_per_second", "cpu_ms_a_clip", "memory_mb", "first_batch_seconds", "psnr_db")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Clips a second of this loader, of its peers and of the limit."""

    data: Path
    """A built dataset, with audio as wav."""
    split: str = "train"
    """The part of it to take."""
    source: Path | None = None
    """The videos it was built of; without them no peer is measured on whole videos."""
    peers: tuple[str, ...] = ("all",)
    """Which peers, by name; all or none."""
    rounds: int = 5
    """How often every side is measured."""
    clips: int = 2000
    """Clips at least; the dataset's are repeated under other names until there are so many."""
    batch_size: int = 32
    """Clips a batch."""
    workers: int = 0
    """Processes or threads of each side; 0: the cores of this machine."""
    seconds: float = 1.5
    """How long a side is measured in each round, after a warm-up."""
    work: Path = Path(tempfile.gettempdir()) / "filmstrip-benchmark"
    """Where the clips are prepared in every form (some gigabytes); kept for the next run."""
    json: Path | None = None
    """Write all that was measured to this file."""
    plot: Path | None = None
    """Draw the medians as a picture."""


def main(settings: Settings) -> Record:
    """Prepare, measure, print, write."""
    chosen, missing = chosen_peers(settings.peers)
    for name, packages in missing.items():
        console.print(
            f"[bold]not measured[/bold]: {name}: {', '.join(packages)} not installed (pip install '.[bench]')"
        )
    described = machine()
    own = [name for name in chosen if PEERS[name].own_format]
    prepared = prepare(settings.data, settings.split, settings.source, settings.clips, own, settings.work)
    workers = settings.workers or described["cores"]
    with Measuring() as run:
        rounds = take_turns(sides_of(prepared, chosen, settings, workers, run), settings.rounds)
    ratios = ratios_of(rounds)
    show_rounds(f"{prepared.facts['clips']} clips, batches of {settings.batch_size}, {workers} cores", rounds, FIGURES)
    show_ratios(ratios)
    record = Record(
        benchmark="loaders",
        settings={**dataclasses.asdict(settings), "workers": workers},
        rounds=rounds,
        ratios=ratios,
        facts={
            "clips": prepared.facts["clips"],
            "bytes_a_clip": {form: round(prepared.facts["bytes"][form]) for form in prepared.forms},
            "forms": {form: DESCRIBED[form] for form in prepared.forms},
            "not_measured": missing,
        },
    )
    if settings.json is not None:
        write_record(settings.json, record, described)
    if settings.plot is not None:
        plot(record, settings.plot)
    return record


def chosen_peers(names: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The peers to measure, and of those asked for that cannot be, the packages they lack.

    Raises:
        InputError: there is no such peer.
    """
    wanted = list(PEERS) if "all" in names else [name for name in names if name != "none"]
    unknown = [name for name in wanted if name not in PEERS]
    if unknown:
        raise InputError(f"--peers {unknown[0]}: use all, none or some of {', '.join(PEERS)}")
    missing = {name: PEERS[name].missing() for name in wanted}
    return [name for name in wanted if not missing[name]], {name: lack for name, lack in missing.items() if lack}


def sides_of(
    prepared: Prepared, peers: Sequence[str], settings: Settings, workers: int, run: Callable[[Order], Figures]
) -> dict[str, Callable[[], Figures]]:
    """What is measured, by name: ours and the limit, then the peers as ``name @ form``."""
    common = {"batch_size": settings.batch_size, "workers": workers, "seconds": settings.seconds}
    base = {"prepared": str(prepared.folder), "part": 0, **common}
    sides: dict[str, Callable[[], Figures]] = {
        LIMIT: _Limit(tjbench_rate, prepared, workers, settings.seconds),
        STRIPS: _Limit(simplejpeg_rate, prepared, workers, settings.seconds),
    }
    for name, decoder, audio in (
        (FRAMES, "auto", False),
        (OURS, "auto", True),
        (DALI, "dali", True),
    ):
        options = {"cpu_decoder": decoder}
        sides[name] = partial(run, Order(module="ours", options=options, form="filmstrip", audio=audio, **base))
    for name in peers:
        peer = PEERS[name]
        for form in prepared.forms:
            if form in peer.forms:
                order = Order(module=peer.module, options=dict(peer.options), form=form, audio=True, **base)
                sides[side_name(name, form)] = partial(run, order)
    return sides


def side_name(peer: str, form: Form) -> str:
    """As it stands in the tables."""
    return f"{peer} @ {form}"


class Measuring:
    """The process from which every side is forked, see `benchmarks.peers.measure`."""

    def __enter__(self) -> "Measuring":
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peers.measure"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def __call__(self, order: Order) -> Figures:
        """Measure a side.

        Raises:
            InputError: it fails, or hands out other clips.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        print(json.dumps(dataclasses.asdict(order)), file=stdin, flush=True)
        answer = {"error": "the process that measures has ended"}
        for line in stdout:
            if line.startswith(ANSWER):
                answer = json.loads(line.removeprefix(ANSWER))
                break
        if "error" in answer:
            name = side_name(order.module, order.form)
            raise InputError(f"{name}: {answer['error']}: leave it out with --peers, or mend it")
        return answer


class _Limit:
    """Measures the limit, with other strips from round to round where there are many."""

    def __init__(
        self, rate: Callable[[Prepared, int, float, int], float], prepared: Prepared, cores: int, seconds: float
    ) -> None:
        self._rate, self._prepared, self._cores, self._seconds = rate, prepared, cores, seconds
        self._round = 0

    def __call__(self) -> Figures:
        clips = self._rate(self._prepared, self._cores, self._seconds, self._round)
        self._round += 1
        return {"clips_per_second": clips, "frames_per_second": clips * self._prepared.facts["frames"]}


def ratios_of(rounds: Mapping[str, Sequence[Figures]]) -> dict[str, float]:
    """Medians of ratios within a round: ours to the limit, to the best peer on each form and on any, to each."""
    clips = partial(median_ratio, rounds, "clips_per_second")
    ratios = {f"{side} / {LIMIT}": clips(side, LIMIT) for side in (FRAMES, OURS, DALI, STRIPS)}
    peers = [side for side in rounds if " @ " in side]
    if peers:
        ratios[f"{OURS} / best peer on any form"] = min(clips(OURS, side) for side in peers)
    for form in FORMS:
        on_form = [side for side in peers if side.endswith(f" @ {form}")]
        if on_form:
            ratios[f"{OURS} / best peer @ {form}"] = min(clips(OURS, side) for side in on_form)
    return ratios | {f"{OURS} / {side}": clips(OURS, side) for side in peers}


def plot(record: Record, path: Path) -> None:
    """A bar a side: the median, with a line from the least to the greatest."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    sides = sorted(record.rounds, key=lambda side: record.median(side, "clips_per_second"))
    values = [[figures["clips_per_second"] for figures in record.rounds[side]] for side in sides]
    medians = [record.median(side, "clips_per_second") for side in sides]
    colours = [
        "#d1495b" if side.startswith(OURS) else "#8d99ae" if side.startswith(LIMIT) else "#4f6d8f" for side in sides
    ]
    figure, axes = plt.subplots(figsize=(9, 0.32 * len(sides) + 1.2))
    errors = [
        [middle - min(found) for middle, found in zip(medians, values, strict=True)],
        [max(found) - middle for middle, found in zip(medians, values, strict=True)],
    ]
    bars = axes.barh(sides, medians, color=colours, xerr=errors, error_kw={"linewidth": 1})
    axes.bar_label(bars, [f"{value:,.0f}" for value in medians], padding=6)
    axes.set_xlabel(
        f"clips a second on {record.settings['workers']} cores, median of {record.settings['rounds']} rounds"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    with reported():
        main(tyro.cli(Settings, description=__doc__))

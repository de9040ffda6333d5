"""Clips a second of this project's loader, of what users would do instead, and of the limit.

``python benchmarks/loaders.py --data DATASET [--source VIDEOS] [--json FILE] [--plot FILE]``

Every side hands out the same clips, frames and sound, as torch tensors in batches of the same size, on the same cores;
each runs in a process of its own, the sides alternating. Each process's first batch is compared with the clips that it
names. A peer that fails, or gives other frames or sounds, is not measured, and the reason stands in the record; a side
of our own that does so stops the benchmark. On a GPU the limit is nvImageCodec, decoding as ours has it decode.

The speed of a machine drifts by more than what lies between this loader, the limit and DALI's own reader: these take
many short turns, and keep their processes, stopped, from one to the next. All other peers are started anew in every
round, and compared with this loader as it was just before.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # in place of this file's folder, where `loaders` is this file


from benchmarks.gpu import require_gpu  # noqa: E402
from benchmarks.peers.limit import simplejpeg_rate, tjbench_rate  # noqa: E402
from benchmarks.peers.measure import ANSWER, AT_REST, Order  # noqa: E402
from benchmarks.peers.prepare import prepare  # noqa: E402
from benchmarks.peers.registry import Peer, peers_on  # noqa: E402
from benchmarks.peers.served import DESCRIBED, FORMS, Device, Form, Prepared  # noqa: E402
from benchmarks.record import (  # noqa: E402
    Figures,
    Record,
    SideError,
    console,
    machine,
    median_ratio,
    read_settings,
    show_ratios,
    show_rounds,
    take_turns,
    write_record,
)
from loaders.dataset.manifest import read_manifest  # noqa: E402
from loaders.decode.planes import check_pixels  # noqa: E402
from loaders.errors import InputError, reported  # noqa: E402

OURS, FRAMES = "ours", "ours, frames alone"
PLANES = "ours, yuv420"
DALI = "ours, by DALI"
LIMIT, STRIPS = "limit", "limit, strips in turn"
CLOSE_PEER = "dali @ filmstrip"  # which gets as near as ours
JUST_BEFORE = "ours_just_before"  # clips a second
FIGURES = (
    "clips_per_second",
    "frames_per_second",
    "cpu_ms_a_clip",
    "memory_mb",
    "gpu_memory_mb",
    "first_batch_seconds",
    "psnr_db",
    JUST_BEFORE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Clips a second of this loader, of its peers and of the limit."""

    data: Path
    """A built dataset, with audio as wav."""
    split: str = "train"
    """The part of it to take."""
    source: Path | None = None
    """The videos it was built of; without them no peer is measured on whole videos."""
    device: Device = "cpu"
    """Where batches are to lie: on a GPU, its decoders are measured, and the peers that use them."""
    peers: tuple[str, ...] = ("all",)
    """Which peers, by name; all or none."""
    rounds: int = 5
    """How often every peer is started and measured, and ours before each."""
    close_rounds: int = 11
    """How often ours, the limit and DALI's own reader are measured, which are close together."""
    clips: int = 2000
    """Clips at least; the dataset's are repeated under other names until there are so many."""
    batch_size: int = 32
    """Clips a batch."""
    workers: int = 0
    """Processes or threads of each side; 0: the cores of this machine."""
    ways: bool = True
    """On a GPU: also measure other ways to use it, ours on the CPU and with the JPEG engines or without, in every
    round of the peers."""
    seconds: float = 1.2
    """How long a side is measured in each round, after a warm-up."""
    work: Path = Path(tempfile.gettempdir()) / "filmstrip-benchmark"
    """Where the clips are prepared in every form (some gigabytes); kept for the next run."""
    messages: Path | None = None
    """Where the sides' own messages and the traces of their errors are written; by default nowhere."""
    json: Path | None = None
    """Write all that was measured to this file."""
    plot: Path | None = None
    """Draw the medians as a picture."""

    def may_fail(self, side: str) -> bool:
        """Whether a side is left out, and named, where it cannot be measured. On a GPU that includes its limit."""
        return " @ " in side or (self.device == "cuda" and side.startswith(LIMIT))


def main(settings: Settings) -> Record:
    """Prepare, measure, print, write."""
    require_gpu(settings.device)
    peers, missing = chosen_peers(settings.peers, settings.device)
    not_measured = {
        name: f"{', '.join(packages)} not installed (pip install '.[bench]')" for name, packages in missing.items()
    }
    described = machine()
    own = [name for name, peer in peers.items() if peer.own_format]
    prepared = prepare(settings.data, settings.split, settings.source, settings.clips, own, settings.work)
    if settings.device == "cpu" and (lack := lack_of_planes(prepared)) is not None:
        not_measured[PLANES] = lack
    workers = settings.workers or described["cores"]

    def recorded(rounds: Mapping[str, Sequence[Figures]]) -> Record:
        record = Record(
            benchmark="loaders" if settings.device == "cpu" else "loaders_gpu",
            settings={**dataclasses.asdict(settings), "workers": workers, **_without_paths(settings)},
            rounds=rounds,
            ratios=ratios_of(rounds),
            facts={
                "clips": prepared.facts["clips"],
                "bytes_a_clip": {form: round(prepared.facts["bytes"][form]) for form in prepared.forms},
                "forms": {form: DESCRIBED[form] for form in prepared.forms},
                "not_measured": not_measured,
            },
        )
        if settings.json is not None:
            write_record(settings.json, record, described)
        return record

    with Measuring(settings.messages) as run:
        sides = Sides(prepared, peers, settings, workers, run)
        close, others = sides.close(), sides.others()
        rounds = take_turns(close, settings.close_rounds, list(filter(settings.may_fail, close)), not_measured)
        recorded(rounds)  # what is measured is kept if the rest is broken off
        if others:
            rounds |= take_turns(others, settings.rounds, list(filter(settings.may_fail, others)), not_measured)
    for name, reason in not_measured.items():
        console.print(f"[bold]not measured[/bold]: {name}: {reason}")
    record = recorded(rounds)
    show_rounds(f"{prepared.facts['clips']} clips, batches of {settings.batch_size}, {workers} cores", rounds, FIGURES)
    show_ratios(record.ratios)
    if settings.plot is not None:
        plot(record, settings.plot)
    return record


def _without_paths(settings: Settings) -> dict[str, str | None]:
    source = None if settings.source is None else settings.source.name
    return {"data": settings.data.name, "source": source, "work": settings.work.name}


def chosen_peers(names: Sequence[str], device: Device) -> tuple[dict[str, Peer], dict[str, list[str]]]:
    """The peers to measure, and of those asked for that cannot be, the packages they lack.

    Raises:
        InputError: there is no such peer on the device.
    """
    peers = peers_on(device)
    wanted = list(peers) if "all" in names else [name for name in names if name != "none"]
    unknown = [name for name in wanted if name not in peers]
    if unknown:
        raise InputError(f"--peers {unknown[0]}: use all, none or some of {', '.join(peers)}")
    missing = {name: lack for name in wanted if (lack := peers[name].missing())}
    return {name: peers[name] for name in wanted if name not in missing}, missing


def lack_of_planes(prepared: Prepared) -> str | None:
    """Why the clips cannot be decoded to planes here; None where they can."""
    try:
        check_pixels("yuv420", [read_manifest(prepared.dataset)], "auto", None)
    except InputError as error:
        return str(error)
    return None


@dataclass(frozen=True, slots=True)
class Sides:
    """What is measured, by name: how each side is measured once."""

    prepared: Prepared
    peers: Mapping[str, Peer]
    settings: Settings
    workers: int
    run: Callable[[Order], Figures]  #: measures by order

    def close(self) -> dict[str, Callable[[], Figures]]:
        """Ours, also as planes where they can be had, the limit, and DALI's own reader where it is among the peers."""
        ours = partial(self._ours, keep=True)
        sides: dict[str, Callable[[], Figures]]
        if self.settings.device == "cpu":
            sides = {
                STRIPS: _Limit(simplejpeg_rate, self.prepared, self.workers, self.settings.seconds),
                LIMIT: _Limit(tjbench_rate, self.prepared, self.workers, self.settings.seconds),
                FRAMES: ours(audio=False),
                OURS: ours(),
                DALI: ours(cpu_decoder="dali"),
            }
            if lack_of_planes(self.prepared) is None:
                sides[PLANES] = ours(pixels="yuv420")
        else:
            best = partial(self._at_its_best, keep=True)
            sides = {LIMIT: self._gpu_limit(keep=True), FRAMES: best(audio=False), OURS: best()}
        return sides | {name: side for name, side in self._peers(keep=True).items() if name == CLOSE_PEER}

    def others(self) -> dict[str, Callable[[], Figures]]:
        """All other peers, each in every form that it reads, as ``name @ form``; on a GPU the ways to use it, too."""
        before = self._at_its_best(keep=True)  # the order of `close`, and so its process
        peers: dict[str, Callable[[], Figures]] = {
            name: partial(_after, before, peer) for name, peer in self._peers(keep=False).items() if name != CLOSE_PEER
        }
        return self._ways() | peers if self.settings.device == "cuda" and self.settings.ways else peers

    def _ways(self) -> dict[str, Callable[[], Figures]]:
        ours = partial(self._ours, keep=False)
        limit = partial(self._gpu_limit, keep=False)
        return {
            f"{LIMIT}, its JPEG engines alone": limit(backends="engines"),
            f"{LIMIT}, without them": limit(backends="cuda"),
            f"{LIMIT}, chroma repeated": limit(fancy_upsampling=False),
            f"{OURS}, JPEG engines alone": ours(placement="gpu", hw_decoder_load=1.0),
            f"{OURS}, without them": ours(placement="gpu", hw_decoder_load=0.0),
            f"{OURS}, on the CPU": ours(placement="cpu"),
            f"{OURS}, one reading process": ours(placement="gpu", reading_threads=1),
            f"{OURS}, four reading processes": ours(placement="gpu", reading_threads=4),
            f"{OURS}, two reading threads": ours(placement="gpu", readers="threads"),
        }

    def _at_its_best(self, *, keep: bool, audio: bool = True) -> Callable[[], Figures]:
        """Ours as it comes; on a GPU without the seconds in which it tries what decodes."""
        if self.settings.device == "cpu":
            return self._ours(keep=keep, audio=audio)
        return self._ours(keep=keep, audio=audio, placement="gpu")

    def _ours(self, *, keep: bool, audio: bool = True, **options: Any) -> Callable[[], Figures]:
        return self._side("ours", options, "filmstrip", keep=keep, audio=audio)

    def _gpu_limit(self, *, keep: bool, **options: Any) -> Callable[[], Figures]:
        return self._side("nvimgcodec", options, "filmstrip", keep=keep, audio=False)

    def _peers(self, *, keep: bool) -> dict[str, Callable[[], Figures]]:
        return {
            side_name(name, form): self._side(peer.module, dict(peer.options), form, keep=keep)
            for name, peer in self.peers.items()
            for form in self.prepared.forms
            if form in peer.forms
        }

    def _side(
        self, module: str, options: dict[str, Any], form: Form, *, keep: bool, audio: bool = True
    ) -> Callable[[], Figures]:
        order = Order(
            prepared=str(self.prepared.folder),
            module=module,
            options=options,
            form=form,
            batch_size=self.settings.batch_size,
            workers=self.workers,
            audio=audio,
            seconds=self.settings.seconds,
            part=0,
            device=self.settings.device,
            keep=keep,
        )
        return partial(self.run, order)


def _after(ours: Callable[[], Figures], peer: Callable[[], Figures]) -> Figures:
    before = ours()["clips_per_second"]
    return {**peer(), JUST_BEFORE: before}


def side_name(peer: str, form: Form) -> str:
    """As it stands in the tables."""
    return f"{peer} @ {form}"


class Measuring:
    """The process from which every side is forked, see `benchmarks.peers.measure`."""

    def __init__(self, messages: Path | None = None) -> None:
        """
        Args:
            messages: takes up what the sides write to standard error; by default nothing does.
        """
        self._messages = messages

    def __enter__(self) -> "Measuring":
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peers.measure"]
        with Path(self._messages or os.devnull).open("a") as messages:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages, text=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # whose end of input it answers by ending the sides that it has kept

    def __call__(self, order: Order) -> Figures:
        """Measure a side.

        Raises:
            SideError: it fails, or hands out other clips.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        print(json.dumps(dataclasses.asdict(order)), file=stdin, flush=True)
        answer: dict[str, Any] = {"error": "the process that measures has ended"}
        for line in stdout:
            if line.startswith(ANSWER):
                answer = json.loads(line.removeprefix(ANSWER))
            elif line == AT_REST:
                break
        if "error" in answer:
            raise SideError(answer["error"])
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
    """Medians of ratios within a round: ours to the limit, to the best peer on each form and on any, to each peer."""
    clips = partial(median_ratio, rounds, "clips_per_second")
    ratios = {
        f"{side} / {LIMIT}": clips(side, LIMIT)
        for side in (FRAMES, OURS, PLANES, DALI, STRIPS)
        if side in rounds and LIMIT in rounds
    }
    if PLANES in rounds:
        ratios |= {f"{PLANES} / {side}": clips(PLANES, side) for side in (OURS, CLOSE_PEER) if side in rounds}
    if STRIPS in rounds:
        ratios |= {f"{side} / strips in turn": clips(side, STRIPS) for side in (FRAMES, OURS)}
    to_peers = {
        side: clips(OURS, side)
        if side == CLOSE_PEER
        else statistics.median(figures[JUST_BEFORE] / figures["clips_per_second"] for figures in rounds[side])
        for side in rounds
        if " @ " in side
    }
    if to_peers:
        ratios[f"{OURS} / best peer on any form"] = min(to_peers.values())
    for form in FORMS:
        on_form = [ratio for side, ratio in to_peers.items() if side.endswith(f" @ {form}")]
        if on_form:
            ratios[f"{OURS} / best peer @ {form}"] = min(on_form)
    return ratios | {f"{OURS} / {side}": ratio for side, ratio in to_peers.items()}


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
    axes.set_xlabel(f"clips a second on {record.settings['workers']} cores, median of the rounds")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    with reported():
        main(read_settings(Settings, __doc__))

"""How fast clips are built, by stage and by number of workers: ``python benchmarks/build.py --source DIR``.

In every round, in turn and with the same numbers of processes:

- the build: from utterances to a dataset, with the middle square and with ``--crop face``;
- decode + encode alone: the same files decoded to the same frames, to the last level, and those made into the same
  JPEGs; no sound, no checksums, no files;
- FFmpeg's own decode of the same files, sound included, all thrown away: ``ffmpeg -threads 1 -benchmark -i FILE -f null
  -``. Its figures are those that it prints itself, so that starting a process for every file is not counted against it.

A clip's milliseconds are those of a process, so that those of two processes are as many as those of one where they do
not hinder each other.
"""

import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, cast

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder: loaders.py here would hide the package

import av
import numpy as np
import tyro
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from benchmarks.record import (
    Figures,
    Record,
    console,
    machine,
    median_ratio,
    read_settings,
    show_ratios,
    show_rounds,
    take_turns,
    write_record,
)
from loaders.dataset.manifest import CATALOG, ClipFormat
from loaders.dataset.tables import read_table
from loaders.errors import InputError, reported
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.crops.crop_plan import face_detector
from sharding.engines.local import run
from sharding.media.filmstrip import encode_filmstrip
from sharding.media.reader import centre_square, crop_resize, exact_rgb, on_clock
from sharding.packing.building import build
from sharding.settings import BuildSettings, Crop
from sharding.stages import STAGES
from sharding.utterance import Corpus

_BENCH = re.compile(rb"bench: utime=([\d.]+)s stime=([\d.]+)s rtime=([\d.]+)s")
_PARTS = 16  # that decode + encode alone is dealt out in, as a small build is
_COLOURS = {"decode": "#4c78a8", "detect": "#e45756", "gaze": "#b279a2", "encode": "#f58518", "write": "#54a24b"}


Colours = Literal["exact", "default"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """Measure the build's speed."""

    source: Path
    """VoxCeleb's tree, or any of <speaker>/<video>/<utterance> files."""
    repeat: int = 8
    """Build every utterance so many times, under other names: few clips are over before the processes have started."""
    rounds: int = 5
    """How often each side is measured."""
    workers: tuple[int, ...] = (1, 2)
    """Numbers of processes."""
    crops: tuple[Crop, ...] = ("centre", "face")
    """What the builds crop to."""
    colours: Colours = "exact"
    """How decode + encode alone converts to RGB: as the build does, or as PyAV does by default, which is faster, but a
    level too dark and not the same on every processor."""
    json: Path | None = None
    """Where the record goes."""
    plot: Path | None = None
    """Where the picture goes, a PNG."""

    def check(self) -> None:
        """Raise InputError for an argument that is out of range."""
        for name in ("repeat", "rounds"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} is {getattr(self, name)}: use 1 or more")
        if not self.workers or min(self.workers) < 1:
            raise InputError(f"--workers is {' '.join(map(str, self.workers))}: use numbers of 1 or more")
        if not self.crops:
            raise InputError("--crops names none: use centre, face or both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """A file to decode, and how many clips are in it."""

    path: Path
    clips: int


def main(arguments: Arguments) -> Record:
    """Measure, print, and write what was asked for.

    Raises:
        InputError: an argument is out of range, the source holds nothing that can be built, or finding faces is not
            installed.
    """
    arguments.check()
    corpus = read_voxceleb(VoxcelebSources(source=arguments.source, test_fraction=0))
    if "face" in arguments.crops:
        face_detector()
    before = machine()
    with tempfile.TemporaryDirectory(prefix="filmstrip-") as scratch:
        portions = warm_up(corpus, Path(scratch))
        repeated = repeat_corpus(corpus, arguments.repeat)
        sides = _sides(repeated, portions * arguments.repeat, arguments, Path(scratch))
        rounds = take_turns(sides, arguments.rounds)
    record = Record(
        benchmark="build",
        settings={
            "source": arguments.source.name,  # not where it lies on this machine
            "repeat": arguments.repeat,
            "rounds": arguments.rounds,
            "workers": arguments.workers,
            "crops": arguments.crops,
            "colours": arguments.colours,
            "build": {name: value for name, value in asdict(BuildSettings()).items() if name != "crop"},
        },
        rounds=rounds,
        ratios=ratios(rounds, arguments.workers, arguments.crops),
        facts={
            "utterances": len(repeated.utterances),
            "clips": sum(portion.clips for portion in portions) * arguments.repeat,
            "ffmpeg": _ffmpeg_version(),
        },
    )
    show_rounds(
        "build: medians (least–greatest)", rounds, ("clips_per_s", "clips_per_cpu_s", "cpu_ms_a_clip", "ms_a_clip")
    )
    show_rounds("ms a clip in a process", rounds, [_figure(stage) for stage in STAGES])
    show_ratios(record.ratios)
    if record.facts["ffmpeg"] is None:
        console.print("the program ffmpeg is not installed: its decode was not measured (Debian: apt install ffmpeg)")
    if arguments.json is not None:
        write_record(arguments.json, record, before)
    if arguments.plot is not None:
        draw(record, arguments.plot)
    return record


def warm_up(corpus: Corpus, scratch: Path) -> list[Portion]:
    """Build the corpus once: its files are then in memory, and it is known how many clips each one gives.

    Raises:
        InputError: none of it can be built.
    """
    folder = scratch / "warm-up"
    _build(corpus, BuildSettings(), 1, folder)
    found: dict[tuple[str, ...], int] = {}
    for catalog in folder.glob(f"*/{CATALOG}"):
        columns = read_table(catalog, ["speaker", "video", "utterance"]).to_pydict()
        for names in zip(*columns.values(), strict=True):
            found[names] = found.get(names, 0) + 1
    shutil.rmtree(folder)
    named = ((u.video_path, found.get(u.name, 0)) for u in corpus.utterances)
    return [Portion(path=path, clips=clips) for path, clips in named if clips]


def repeat_corpus(corpus: Corpus, times: int) -> Corpus:
    """The corpus with each utterance so many times, under other names of the same files."""
    utterances = (replace(u, utterance=f"{u.utterance}-{n}") for n in range(times) for u in corpus.utterances)
    return replace(corpus, utterances=tuple(utterances))


def measure_build(corpus: Corpus, settings: BuildSettings, workers: int, scratch: Path) -> Figures:
    """Build once, into a folder below ``scratch`` that is removed.

    Returns:
        clips_per_s and clips_per_cpu_s of all that a build does, clips, and for each stage its seconds of all
        processes over the clips, in milliseconds.
    """
    folder = Path(tempfile.mkdtemp(prefix="built-", dir=scratch))
    began, cpu = time.perf_counter(), _cpu_seconds()
    clips, stages = _build(corpus, settings, workers, folder)
    figures = _speed(clips, time.perf_counter() - began, _cpu_seconds() - cpu)
    shutil.rmtree(folder)
    return {**figures, **_by_stage(stages, clips)}


def measure_alone(portions: Sequence[Portion], settings: BuildSettings, colours: Colours, workers: int) -> Figures:
    """Decode the files to the frames of their clips and encode those, and nothing else; figures as of a build."""
    began, cpu = time.perf_counter(), _cpu_seconds()
    stages = {"decode": 0.0, "encode": 0.0}
    jobs = [portions[part::_PARTS] for part in range(min(_PARTS, len(portions)))]
    for seconds in run(partial(_decode_and_encode, settings=settings, colours=colours), jobs, workers=workers):
        stages = {stage: stages[stage] + seconds[stage] for stage in stages}
    clips = sum(portion.clips for portion in portions)
    figures = _speed(clips, time.perf_counter() - began, _cpu_seconds() - cpu)
    return {**figures, **_by_stage(stages, clips)}


def measure_ffmpeg(portions: Sequence[Portion], program: str, workers: int) -> Figures:
    """FFmpeg decodes the files, so many at once; figures as of a build, by the seconds that it states."""

    def decode(portion: Portion) -> tuple[float, float]:
        command = [program, "-nostdin", "-hide_banner", "-threads", "1", "-benchmark"]
        command += ["-i", str(portion.path.absolute()), "-f", "null", "-"]
        done = subprocess.run(command, capture_output=True, check=False)
        printed = _BENCH.search(done.stderr)
        if done.returncode or printed is None:
            raise InputError(f"{portion.path}: ffmpeg ends with status {done.returncode}: leave the file out")
        user, system, real = map(float, printed.groups())
        return user + system, real

    with ThreadPoolExecutor(workers) as pool:
        measured = list(pool.map(decode, portions))
    clips = sum(portion.clips for portion in portions)
    cpu, real = (sum(column) for column in zip(*measured, strict=True))
    return {**_speed(clips, real / workers, cpu), **_by_stage({"decode": real}, clips)}


def decode_clips(portion: Portion, clip: ClipFormat, colours: Colours = "exact") -> Iterator[NDArray[np.uint8]]:
    """The frames (T, H, W, 3) of a file's first clips, as a build has them.

    All of the file is decoded, as a build must to know how long it lasts and that it is whole. Pictures that ask to be
    turned are not.
    """
    frames: list[NDArray[np.uint8]] = []
    with av.open(str(portion.path.absolute())) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        to_rgb, pixel_aspect = VideoReformatter(), stream.sample_aspect_ratio or Fraction(1)
        for ticks, picture in on_clock(_timed(container.decode(stream)), clip.fps):
            if colours == "exact":
                image = exact_rgb(picture, to_rgb)
            else:
                image = cast(NDArray[np.uint8], to_rgb.reformat(picture, format="rgb24", threads=1).to_ndarray())
            square = centre_square(picture.width, picture.height, pixel_aspect)
            frames += [crop_resize(image, square, clip.size) for _ in ticks]
    for number in range(portion.clips):
        chosen = frames[number * clip.frames : (number + 1) * clip.frames]
        # The build holds the last picture where a stream ends a little early.
        yield np.stack(chosen + chosen[-1:] * (clip.frames - len(chosen)))


def ratios(
    rounds: Mapping[str, Sequence[Figures]], workers: Sequence[int], crops: Sequence[Crop]
) -> Mapping[str, float]:
    """Name → median over the rounds of one side's clips a second over another's; "a core": a second of a core's."""
    found: dict[str, float] = {}
    for crop in crops:
        for number in workers:
            side = _built_name(crop, number)
            for other, label in (
                (_alone_name(number), "decode + encode alone"),
                (_ffmpeg_name(number), "FFmpeg decode"),
            ):
                if other in rounds:
                    found[f"{side} / {label}"] = median_ratio(rounds, "clips_per_s", side, other)
                    found[f"{side} / {label}, a core"] = median_ratio(rounds, "clips_per_cpu_s", side, other)
        for number in workers[1:]:
            one, more = _built_name(crop, workers[0]), _built_name(crop, number)
            found[f"{more} / {one}"] = median_ratio(rounds, "clips_per_s", more, one)
    if {"centre", "face"} <= set(crops):
        for number in workers:
            face, centre = _built_name("face", number), _built_name("centre", number)
            found[f"{face} / {centre}"] = median_ratio(rounds, "clips_per_s", face, centre)
    return found


def draw(record: Record, path: Path) -> None:
    """A PNG: a bar a side, of a clip's milliseconds in a process, by stage.

    Raises:
        InputError: the extra "bench" is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("--plot needs the extra 'bench': pip install '.[bench]'") from error
    sides = list(record.rounds)
    figure = Figure(figsize=(8, 1.3 + 0.42 * len(sides)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    left = np.zeros(len(sides))
    for stage in STAGES:
        name = _figure(stage)
        parts = [record.median(side, name) if name in record.rounds[side][0] else 0.0 for side in sides]
        if any(parts):
            axes.barh(sides, parts, left=left, label=stage, color=_COLOURS[stage], height=0.7)
            left += np.array(parts)
    for row, (side, end) in enumerate(zip(sides, left, strict=True)):
        axes.text(end, row, f"  {record.median(side, 'clips_per_s'):.3g} clips/s", va="center")
    axes.invert_yaxis()
    axes.set_xlim(0, left.max() * 1.22)
    axes.set_xlabel("milliseconds a clip, in a process")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(STAGES), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")


def _sides(
    corpus: Corpus, portions: Sequence[Portion], arguments: Arguments, scratch: Path
) -> dict[str, Callable[[], Figures]]:
    program = shutil.which("ffmpeg")
    sides: dict[str, Callable[[], Figures]] = {}
    for number in arguments.workers:
        if program is not None:
            sides[_ffmpeg_name(number)] = partial(measure_ffmpeg, portions, program, number)
        sides[_alone_name(number)] = partial(measure_alone, portions, BuildSettings(), arguments.colours, number)
        for crop in arguments.crops:
            settings = BuildSettings(crop=crop)
            sides[_built_name(crop, number)] = partial(measure_build, corpus, settings, number, scratch)
    return sides


def _build(corpus: Corpus, settings: BuildSettings, workers: int, output: Path) -> tuple[int, Mapping[str, float]]:
    """Build into an empty folder: the clips, and seconds by stage."""
    made = build(corpus, output, settings, workers).made
    assert made is not None, "there was all to do"
    return made.speed.clips, {str(stage): seconds for stage, seconds in made.speed.seconds.items()}


def _decode_and_encode(portions: Sequence[Portion], settings: BuildSettings, colours: Colours) -> dict[str, float]:
    """Seconds, by stage."""
    decode = encode = 0.0
    for portion in portions:
        began = time.perf_counter()
        decoded = list(decode_clips(portion, settings.clip, colours))
        decode, began = decode + time.perf_counter() - began, time.perf_counter()
        for frames in decoded:
            encode_filmstrip(
                frames,
                quality=settings.quality,
                subsampling=settings.subsampling,
                restart_markers=settings.restart_markers,
            )
        encode += time.perf_counter() - began
    return {"decode": decode, "encode": encode}


def _timed(pictures: Iterator[VideoFrame]) -> Iterator[tuple[float, float, VideoFrame]]:
    for picture in pictures:
        tick = float(picture.time_base or 0)
        start = (picture.pts or 0) * tick
        yield start, start + picture.duration * tick, picture


def _speed(clips: int, seconds: float, cpu: float) -> dict[str, float]:
    return {
        "clips": clips,
        "clips_per_s": clips / seconds,
        "clips_per_cpu_s": clips / cpu,
        "cpu_ms_a_clip": 1000 * cpu / clips,
        "ms_a_clip": 1000 * seconds / clips,
    }


def _by_stage(seconds: Mapping[str, float], clips: int) -> dict[str, float]:
    return {_figure(stage): 1000 * spent / clips for stage, spent in seconds.items()}


def _cpu_seconds() -> float:
    """Of this process and of those it started that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _ffmpeg_version() -> str | None:
    program = shutil.which("ffmpeg")
    if program is None:
        return None
    printed = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stdout
    return " ".join(printed.split()[:3])


def _figure(stage: str) -> str:
    return f"{stage}_ms_a_clip"


def _built_name(crop: Crop, workers: int) -> str:
    return f"build{' --crop face' if crop == 'face' else ''}, {_processes(workers)}"


def _alone_name(workers: int) -> str:
    return f"decode + encode alone, {_processes(workers)}"


def _ffmpeg_name(workers: int) -> str:
    return f"FFmpeg decode, {_processes(workers)}"


def _processes(count: int) -> str:
    return f"{count} process{'es' if count > 1 else ''}"


if __name__ == "__main__":
    with reported():
        main(read_settings(Annotated[Arguments, tyro.conf.arg(name="")], __doc__))

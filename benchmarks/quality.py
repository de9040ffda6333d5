"""What a clip's picture costs in bytes and time, and how much of it is lost: the table the default is chosen from.

    python benchmarks/quality.py --source FOLDER --json FILE --plot FILE

Real clips are read as a build reads them (`sharding.media.reader`), coded in every way, decoded again from memory in
one thread, and compared with what went in: filmstrips of several qualities and colour resolutions by libjpeg-turbo, as
the loader does on a CPU, the codecs of video by PyAV. What PSNR and SSIM say is lost comes on top of what the source's
own codec lost.

**The rule.** Of the filmstrips, the one with the fewest bytes, which are time, among those that keep an SSIM of
``--least-ssim`` in the worst of the clips.
"""

import io
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # not benchmarks/: its loaders.py and train.py would hide the packages of these names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import av
import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import save, style
from benchmarks.record import Figures, Record, console, machine, read_settings, show_rounds, take_turns, write_record
from benchmarks.ssim import luma, psnr, ssim
from loaders.decode.turbo import decode_filmstrip_into
from loaders.errors import InputError, reported
from sharding.media.filmstrip import Subsampling, encode_filmstrip
from sharding.media.reader import read_media
from sharding.settings import BuildSettings

Frames = NDArray[np.uint8]  #: (T, H, W, 3)
QUALITIES = (75, 80, 85, 90, 95)
SUBSAMPLINGS: tuple[Subsampling, ...] = ("4:2:0", "4:4:4")
#: name → FFmpeg's encoder, its options; each at three strengths around its usual one.
CODECS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    **{f"MJPEG q {q}": ("mjpeg", {"qmin": str(q), "qmax": str(q)}) for q in (2, 4, 8)},
    **{f"H.264 crf {q}": ("libx264", {"crf": str(q), "preset": "medium"}) for q in (18, 23, 28)},
    **{
        f"VP9 crf {q}": ("libvpx-vp9", {"crf": str(q), "b": "0", "deadline": "good", "cpu-used": "4"})
        for q in (20, 30, 40)
    },
}


_EVERY = 4  # frames from one whose SSIM is taken to the next: it is slow, and they are much alike


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is coded."""

    source: Path
    """A folder with films, searched through."""
    clips: int = 12
    """Clips to take, one of each film in turn."""
    rounds: int = 3
    """How often all are decoded, all ways in turn."""
    least_ssim: float = 0.99
    """That the default is to keep in every clip."""
    json: Path | None = None
    """Where the record is written."""
    plot: Path | None = None
    """Where the plot is written (PNG)."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to code a clip."""

    encode: Callable[[Frames], bytes]
    decode: Callable[[bytes], Frames]


def main() -> None:
    """The command line."""
    settings = read_settings(Settings, __doc__)
    with reported():
        before = machine()
        record = measure(settings)
        show_rounds("one thread", record.rounds, ("clips_a_second", "kilobytes", "ssim", "worst_ssim", "psnr_db"))
        console.print(f"chosen: {record.facts['chosen']}; {record.facts['rule']}")
        if settings.json is not None:
            write_record(settings.json, record, before)
        if settings.plot is not None:
            plot(record, settings.plot)


def measure(settings: Settings) -> Record:
    """Code, decode and compare."""
    build = BuildSettings()
    clips = read_clips(settings.source, settings.clips, build)
    sides: dict[str, Callable[[], Figures]] = {}
    lost: dict[str, Any] = {}
    for name, way in ways(build).items():
        with console.status(f"coding as {name}"):
            coded = [way.encode(clip) for clip in clips]
            lost[name] = _compare(clips, [way.decode(data) for data in coded])
        kilobytes = statistics.fmean(len(data) for data in coded) / 1e3
        sides[name] = partial(_decode_all, way.decode, coded, {"kilobytes": kilobytes, **lost[name]})
    rounds = take_turns(sides, settings.rounds)
    record = Record(
        benchmark="quality",
        settings={**asdict(settings), "source": settings.source.name, "films_clips": len(clips)},
        rounds=rounds,
        ratios={},
        facts={},
    )
    chosen = choose(record, settings.least_ssim)
    default = f"filmstrip {build.quality} {build.subsampling}"
    best_video = max((n for n in rounds if n in CODECS), key=lambda n: record.median(n, "clips_a_second"))
    ratios = {
        f"{default} / {best_video}, clips a second": record.median(default, "clips_a_second")
        / record.median(best_video, "clips_a_second"),
        f"{default} / filmstrip 75 4:2:0, bytes": record.median(default, "kilobytes")
        / record.median("filmstrip 75 4:2:0", "kilobytes"),
    }
    rule = (
        f"the filmstrip with the fewest bytes whose SSIM is {settings.least_ssim} or more in the worst clip; "
        f"the build's default is {default}"
    )
    facts = {"chosen": chosen or "none", "default": default, "rule": rule}
    return Record(benchmark="quality", settings=record.settings, rounds=rounds, ratios=ratios, facts=facts)


def choose(record: Record, least_ssim: float) -> str | None:
    """The smallest filmstrip that keeps as much as is asked in every clip; None where none does."""
    good = [
        name
        for name in record.rounds
        if name.startswith("filmstrip") and record.median(name, "worst_ssim") >= least_ssim
    ]
    return min(good, key=lambda name: record.median(name, "kilobytes"), default=None)


def ways(build: BuildSettings) -> dict[str, Way]:
    """Every way to code a clip, by name."""
    frames, size = build.clip.frames, build.size
    found = {
        f"filmstrip {quality} {subsampling}": Way(
            partial(encode_filmstrip, quality=quality, subsampling=subsampling),
            partial(decode_strip, frames=frames, size=size),
        )
        for subsampling in SUBSAMPLINGS
        for quality in QUALITIES
    }
    for name, (codec, options) in CODECS.items():
        found[name] = Way(partial(encode_video, codec=codec, options=options, fps=build.fps), decode_video)
    return found


def decode_strip(data: bytes, *, frames: int, size: int) -> Frames:
    """All frames of a filmstrip."""
    out = np.empty((frames * size, size, 3), np.uint8)
    decode_filmstrip_into(np.frombuffer(data, np.uint8), out)
    return out.reshape(frames, size, size, 3)


def encode_video(frames: Frames, *, codec: str, options: Mapping[str, str], fps: float) -> bytes:
    """A Matroska file of the frames, in halved colour resolution."""
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=round(fps), options=dict(options))
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return out.getvalue()


def decode_video(data: bytes) -> Frames:
    """All frames of such a file, decoded in one thread."""
    with av.open(io.BytesIO(data), "r", format="matroska") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


def read_clips(source: Path, count: int, build: BuildSettings) -> list[Frames]:
    """Clips of the films in a folder, one of each film in turn until there are enough or no more.

    Raises:
        InputError: no film there gives a clip.
    """
    films = sorted(path for path in source.rglob("*") if path.suffix in (".mp4", ".mkv", ".avi", ".mov"))
    of_films: list[list[Frames]] = []
    for film in films:
        media = read_media(film, fps=build.fps, size=build.size, sample_rate=build.clip.sample_rate)
        whole = len(media.frames) // build.clip.frames
        of_films.append([media.frames[n * build.clip.frames :][: build.clip.frames] for n in range(whole)])
    longest = max(map(len, of_films), default=0)
    clips = [clips[number] for number in range(longest) for clips in of_films if number < len(clips)]
    if not clips:
        raise InputError(f"{source}: no film there that is as long as a clip: give --source a folder of films")
    return clips[:count]


def _compare(clips: Sequence[Frames], decoded: Sequence[Frames]) -> dict[str, float]:
    """Medians over the clips, and the worst one's SSIM."""
    for clip, again in zip(clips, decoded, strict=True):
        assert clip.shape == again.shape, "a codec lost frames: what it costs is not comparable"
    likeness = [ssim(luma(a[::_EVERY]), luma(b[::_EVERY])) for a, b in zip(clips, decoded, strict=True)]
    signal = [psnr(a, b) for a, b in zip(clips, decoded, strict=True)]
    return {"ssim": statistics.median(likeness), "worst_ssim": min(likeness), "psnr_db": statistics.median(signal)}


def _decode_all(decode: Callable[[bytes], Frames], coded: Sequence[bytes], known: Mapping[str, float]) -> Figures:
    start = time.perf_counter()
    for data in coded:
        decode(data)
    return {"clips_a_second": len(coded) / (time.perf_counter() - start), **known}


# -- the plot


def plot(record: Record, path: Path) -> None:
    """SSIM over bytes and over clips a second, a line a codec; PNG."""
    style()
    from matplotlib import pyplot as plt

    families: dict[str, list[str]] = {}
    for name in record.rounds:
        family = f"filmstrip {name.split()[2]}" if name.startswith("filmstrip") else name.split()[0]
        families.setdefault(family, []).append(name)
    figure, axes = plt.subplots(1, 2, figsize=(8, 4.2), sharey=True)
    panels = (("kilobytes", "kilobytes a clip"), ("clips_a_second", "clips a second, one thread"))
    for axis, (figure_name, label) in zip(axes, panels, strict=True):
        for (family, names), marker in zip(families.items(), "osD^v", strict=False):
            x = [record.median(name, figure_name) for name in names]
            y = [record.median(name, "ssim") for name in names]
            axis.plot(x, y, marker=marker, label=family)
        default = record.facts["default"]
        at = record.median(default, figure_name), record.median(default, "ssim")
        axis.annotate("default", at, xytext=(6, -14), textcoords="offset points", fontsize=9)
        axis.plot(*at, marker="o", markersize=12, fillstyle="none", color="black")
        axis.set(xlabel=label, xlim=(0, None))
        axis.axhline(record.settings["least_ssim"], color="black", linestyle="--", linewidth=1)
    axes[0].set_ylabel("SSIM (dashed: what is asked for)")
    axes[0].legend(loc="lower right")
    save(figure, path)


if __name__ == "__main__":
    main()

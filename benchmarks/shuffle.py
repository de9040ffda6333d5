"""How well an epoch is shuffled, in two numbers: how far apart neighbours were, and how often a batch holds one video.

    python benchmarks/shuffle.py --json benchmarks/results/shuffle.json --plot benchmarks/results/shuffle.png

Clips lie in shards as a corpus is packed, an utterance's clips beside each other, those of a video likewise. Every
method takes them from there:

    ours, global        `loaders.sampling.order` over everything
    ours, k shards      `loaders.sampling.windows` with k shards at hand
    WebDataset          shards in random order, then its own shuffle filter with a buffer
    DALI                shards in random order, then its own webdataset reader with random_shuffle and initial_fill
    Mosaic py1e         shards in random order, each clip moved by chance within a block (`benchmarks.py1e`)

The figures. *Distance*: mean of |i − j| over neighbours i, j of the epoch, in clips of the corpus, as a share of what a
true shuffle gives, a third of the clips. *Same video*: the share of a batch's clips that have another clip of their
video in the batch, beside what a true shuffle gives.
"""

import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # not benchmarks/: its loaders.py and train.py would hide the packages of these names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import save, style
from benchmarks.generated import CLIPS, UTTERANCES
from benchmarks.py1e import py1e
from benchmarks.record import Figures, Record, machine, read_settings, show_rounds, take_turns, write_record
from loaders.errors import InputError, reported
from loaders.sampling.mixture import DatasetSize, MixedOrder
from sharding.packing.writer import INDEX_VERSION

Order = NDArray[np.int64]  #: (n,) clips in the order of an epoch, a permutation


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is shuffled."""

    clips: int = 100_000
    """Clips of the corpus."""
    clips_per_shard: int = 1000
    """Clips of a shard."""
    windows: tuple[int, ...] = (4, 8, 16)
    """Shards at hand at a time, for ours."""
    buffer: int = 1000
    """Clips in the buffers of WebDataset and DALI."""
    block: int = 1 << 18
    """Mosaic's shuffle_block_size; where the corpus is smaller, a block is all of it."""
    small_block: int = 8000
    """A second one: as many clips as a window of 8 shards has."""
    batch: int = 32
    """Clips a batch."""
    rounds: int = 3
    """Epochs, each in another order."""
    json: Path | None = None
    """Where the record is written."""
    plot: Path | None = None
    """Where the plot is written (PNG)."""


def main() -> None:
    """The command line."""
    settings = read_settings(Settings, __doc__)
    with reported():
        before = machine()
        record = measure(settings)
        show_rounds("shuffling", record.rounds, ("distance_share", "same_video_percent", "clips_at_hand"))
        if settings.json is not None:
            write_record(settings.json, record, before)
        if settings.plot is not None:
            plot(record, settings.plot)


def measure(settings: Settings) -> Record:
    """Shuffle an epoch by every method, a few times."""
    if settings.clips < 2 * settings.clips_per_shard or settings.clips < settings.batch:
        raise InputError(f"--clips is {settings.clips}: use two shards of {settings.clips_per_shard} or more")
    shards = np.full(-(-settings.clips // settings.clips_per_shard), settings.clips_per_shard, np.int64)
    shards[-1] -= shards.sum() - settings.clips
    video = np.arange(settings.clips) // (CLIPS * UTTERANCES)
    sides: dict[str, Callable[[], Figures]] = {}
    with tempfile.TemporaryDirectory(prefix="shuffle-") as folder:
        for name, (method, at_hand) in methods(settings, shards, Path(folder)).items():
            epochs = iter(range(settings.rounds))
            sides[name] = partial(_measured, method, epochs, video, settings.batch, at_hand)
        rounds = take_turns(sides, settings.rounds)
    chance = {
        "same_video_percent": 100 * same_video_by_chance(settings.clips, CLIPS * UTTERANCES, settings.batch),
        "distance": true_distance(settings.clips),
    }
    record = Record(
        benchmark="shuffle", settings=asdict(settings), rounds=rounds, ratios={}, facts={"true_shuffle": chance}
    )
    ratios = {}
    for name in rounds:
        ratios[f"{name}: distance / true shuffle"] = record.median(name, "distance_share")
        ratios[f"{name}: same video / true shuffle"] = (
            record.median(name, "same_video_percent") / chance["same_video_percent"]
        )
    return Record(benchmark="shuffle", settings=record.settings, rounds=rounds, ratios=ratios, facts=record.facts)


def methods(
    settings: Settings, shards: NDArray[np.int64], folder: Path
) -> Mapping[str, tuple[Callable[[int], Order], int]]:
    """Name → what gives an epoch's order, and how many clips it has to have at hand."""
    found: dict[str, tuple[Callable[[int], Order], int]] = {
        "ours, global": (partial(ours, shards, None), settings.clips)
    }
    for window in settings.windows:
        if window < len(shards):
            at_hand = window * settings.clips_per_shard
            found[f"ours, {window} shards"] = (partial(ours, shards, window), at_hand)
    found[f"WebDataset, buffer {settings.buffer}"] = (
        partial(webdataset, shards, settings.buffer),
        settings.buffer,
    )
    reader = DaliReader(folder, shards, settings.buffer)
    found[f"DALI, buffer {settings.buffer}"] = (reader.order, settings.buffer)
    for block in (settings.block, settings.small_block):
        at_hand = min(block, settings.clips)
        found[f"Mosaic py1e, block {block}"] = (partial(py1e, shards, block), at_hand)
    return found


# -- the methods: an epoch's number → its order


def ours(shards: NDArray[np.int64], window: int | None, epoch: int) -> Order:
    """This project's order, over windows of shards or over everything."""
    order = MixedOrder([DatasetSize(shards)], seed=0, shuffle=True, global_batch=1, window=window)
    return order.at(epoch, np.arange(order.clips)).row


def webdataset(shards: NDArray[np.int64], buffer: int, epoch: int) -> Order:
    """WebDataset's own filters: shards in random order, then its shuffle buffer."""
    import webdataset

    ends = np.cumsum(shards)
    which = np.random.default_rng(epoch).permutation(len(shards))
    source = (clip for shard in which.tolist() for clip in range(int(ends[shard] - shards[shard]), int(ends[shard])))
    shuffle = webdataset.filters.shuffle(buffer, initial=buffer, seed=epoch)
    return np.fromiter(shuffle(source), np.int64, int(ends[-1]))


class DaliReader:
    """DALI's own webdataset reader: shards in random order, then its buffer, of which it takes one clip by chance."""

    def __init__(self, folder: Path, shards: NDArray[np.int64], buffer: int) -> None:
        """Write shards whose clips hold nothing but their number."""
        self._shards, self._buffer = shards, buffer
        self._paths: list[tuple[str, str]] = []
        first = 0
        for number, size in enumerate(shards.tolist()):
            tar, index = folder / f"{number:06d}.tar", folder / f"{number:06d}.idx"
            header = tarfile.TarInfo("clip.number")
            header.size = 8
            blocks = np.zeros((size, 2 * tarfile.BLOCKSIZE), np.uint8)
            blocks[:, : tarfile.BLOCKSIZE] = np.frombuffer(header.tobuf(tarfile.USTAR_FORMAT), np.uint8)
            blocks[:, tarfile.BLOCKSIZE :][:, :8] = np.arange(first, first + size).view(np.uint8).reshape(size, 8)
            tar.write_bytes(blocks.tobytes() + bytes(2 * tarfile.BLOCKSIZE))
            offsets = range(tarfile.BLOCKSIZE, 2 * tarfile.BLOCKSIZE * size, 2 * tarfile.BLOCKSIZE)
            lines = [f"number {offset} 8 clip.number" for offset in offsets]
            index.write_text("\n".join([f"{INDEX_VERSION} {size}", *lines]) + "\n")
            self._paths.append((str(tar), str(index)))
            first += size

    def order(self, epoch: int) -> Order:
        """Of an epoch."""
        from nvidia.dali import fn, pipeline_def, types

        which = np.random.default_rng(epoch).permutation(len(self._paths))
        clips = int(self._shards.sum())
        batch = min(clips, 1000)

        @pipeline_def(batch_size=batch, num_threads=1, device_id=None)  # type: ignore[untyped-decorator]
        def read() -> Any:
            return fn.readers.webdataset(
                paths=[self._paths[number][0] for number in which.tolist()],
                index_paths=[self._paths[number][1] for number in which.tolist()],
                ext=["number"],
                dtypes=[types.INT64],
                random_shuffle=True,
                initial_fill=self._buffer,
                seed=epoch + 1,
            )

        pipe = read()
        pipe.build()
        batches = [np.array(pipe.run()[0].as_tensor()).ravel() for _ in range(-(-clips // batch))]
        order: Order = np.concatenate(batches)[:clips].astype(np.int64)
        return order


# -- the figures


def _measured(
    method: Callable[[int], Order], epochs: Iterator[int], video: NDArray[np.int64], batch: int, at_hand: int
) -> Figures:
    order = method(next(epochs))
    distance = float(np.abs(np.diff(order)).mean())
    return {
        "distance": distance,
        "distance_share": distance / true_distance(len(order)),
        "same_video_percent": 100 * same_video(order, video, batch),
        "clips_at_hand": at_hand,
    }


def true_distance(clips: int) -> float:
    """Mean distance of neighbours in a uniformly random permutation of ``range(clips)``: (n + 1) / 3."""
    return (clips + 1) / 3


def same_video(order: Order, video: NDArray[np.int64], batch: int) -> float:
    """Share of the clips of whole batches that have another clip of their video in the batch.

    Args:
        order: (n,) clips in order.
        video: (n,) whose each clip is.
        batch: clips a batch; what does not fill one is left out.
    """
    whole = len(order) // batch * batch
    batches = np.sort(video[order[:whole]].reshape(-1, batch), axis=1)
    like_next = batches[:, 1:] == batches[:, :-1]
    edge = np.zeros((len(batches), 1), bool)
    alike = np.hstack([like_next, edge]) | np.hstack([edge, like_next])
    return float(alike.mean())


def same_video_by_chance(clips: int, of_video: int, batch: int) -> float:
    """What `same_video` is on average for a true shuffle of videos of ``of_video`` clips each.

    A clip is alone when the other batch − 1 places all hold clips of other videos, drawn without replacement.
    """
    others = np.arange(batch - 1)
    alone = np.prod((clips - of_video - others) / (clips - 1 - others))
    return float(1 - alone)


# -- the plot


def plot(record: Record, path: Path) -> None:
    """Both figures, a bar a method; PNG."""
    style()
    from matplotlib import pyplot as plt

    names = list(record.rounds)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 0.36 * len(names) + 1.4), sharey=True)
    colours = ["#1b6ca8" if name.startswith("ours") else "#b0b0b0" for name in names]
    for axis, figure_name, label in (
        (left, "distance_share", "distance of neighbours,\nshare of a true shuffle's"),
        (right, "same_video_percent", "clips with another of their video\nin the batch, %"),
    ):
        values = [record.median(name, figure_name) for name in names]
        bars = axis.barh(range(len(names)), values, color=colours)
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # or the dashed line crosses the numbers
        axis.bar_label(bars, fmt="%.2g", padding=4, fontsize=9, bbox=behind)
        axis.set(xlabel=label, xlim=(0, 1.2 * max(values)))
        axis.grid(visible=False, axis="y")
    left.axvline(1, color="black", linestyle="--", linewidth=1)
    right.axvline(record.facts["true_shuffle"]["same_video_percent"], color="black", linestyle="--", linewidth=1)
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.set_title("dashed: a true shuffle", fontsize=9, loc="left")
    save(figure, path)


if __name__ == "__main__":
    main()

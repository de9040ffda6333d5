"""A page to look at a dataset: ``python sharding/gallery.py DATASET --output DIR``, then open DIR/index.html.

Clips as moving pictures with their sound, spectrogram, gaze and labels; what was rejected, and why; and pairs of the
training's own order, to guess which belong together. The page is static: it needs no server and no network. DATASET may
be a URL: of its shards only the clips that are shown are fetched.

DIR/
    index.html              the page, with everything but the media
    media/0000.filmstrip.jpg, 0000.audio.wav    the shard's own bytes
    media/0000.spectrogram.png

Names of people, videos and reasons come from files and may hold anything: see `sharding.viewing.page`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tyro
from numpy.typing import NDArray
from rich.console import Console

from loaders.arguments import cli
from loaders.dataset.catalog import Catalog
from loaders.dataset.dataset import Dataset
from loaders.dataset.manifest import AUDIO, FILMSTRIP, REJECTED
from loaders.dataset.tables import opened as opened_table
from loaders.errors import InputError, first_line, reported
from loaders.progress import Bar, progress
from loaders.sampling import randomness
from loaders.sampling.examples import Sampler
from loaders.sampling.negatives import KINDS
from loaders.sampling.order import permute
from loaders.storage.urls import local_path
from sharding.engines.stopping import stopped_in_order
from sharding.viewing.clips_shown import MEDIA_NAME, Place, members_shown, store_of, write_clips
from sharding.viewing.opened import opened
from sharding.viewing.page import INDEX, MEDIA, render, whole_folder

MOST = 2000  #: clips or pairs on one page
MOST_REJECTED = 200  #: rejected utterances listed for one reason; all are counted

_TEMPLATE = Path(__file__).with_name("gallery_page.html")
_WHAT = "gallery"  # by which an older one is known


@dataclass(frozen=True, slots=True, kw_only=True)
class GallerySettings:
    """What the page shows."""

    clips: int = 48
    """Clips to show, spread over splits, labels, speakers and videos."""
    pairs: int = 24
    """Pairs to guess: the first of an epoch."""
    seed: int = 0
    """Seed of the training whose pairs are shown; decides on the clips, too."""
    epoch: int = 0
    """Epoch whose pairs are shown."""
    split: tuple[str, ...] = ()
    """Splits to show; all where none is named. Pairs are of "train", or of the first one named."""
    negatives: Mapping[str, float] = field(
        default_factory=lambda: {kind: float(kind == "other_video") for kind in KINDS}
    )
    """Weight of each kind of negatives, as in the training."""

    def check(self) -> None:
        """Raise InputError for a setting that is out of range."""
        for name, value in (("--clips", self.clips), ("--pairs", self.pairs)):
            if not 0 <= value <= MOST:
                raise InputError(f"{name} is {value}: use 0 to {MOST}")
        if self.epoch < 0:
            raise InputError(f"--epoch is {self.epoch}: use 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Frames and a sound, as the training sees them at a position of the epoch."""

    position: int
    clip: Place
    audio_clip: Place
    match: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What `write_gallery` wrote."""

    index: Path
    clips: int
    pairs: int
    bytes: int


def write_gallery(
    dataset: Path,
    output: Path,
    settings: GallerySettings,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Written:
    """Write the page about a dataset. It appears when it is whole, and then takes an older gallery's place.

    Args:
        dataset: a built dataset's folder, or its URL as a path.
        output: a folder that is not there, is empty, or holds a gallery.
        settings: what to show. The page depends on these and the dataset, on nothing else.
        progress: called with how many clips are written, and of how many.

    Raises:
        InputError: a setting is out of range; no such dataset or split; the split cannot offer the negatives; a member
            that is shown is damaged; the output holds something else or cannot be written; a store fails.
    """
    settings.check()
    with opened(dataset) as found:
        return _write_gallery(found, output, settings, progress)


def _write_gallery(
    dataset: Dataset, output: Path, settings: GallerySettings, progress: Callable[[int, int], None]
) -> Written:
    manifest, store = dataset.manifest, store_of(dataset)
    names = settings.split or tuple(name for name, split in sorted(manifest.splits.items()) if split.clips)
    for name in names:
        dataset.require_split(name)
    rejected = _rejected(dataset, set(names) if settings.split else None)
    members = members_shown(manifest)
    classes = [label.name for label in manifest.labels if label.classes is not None]
    catalogs = {name: dataset.catalog(name, members, classes) for name in names}
    shown = choose_clips(catalogs, settings.clips, settings.seed)
    pairs = draw_pairs(catalogs["train" if "train" in catalogs else names[0]], settings)
    places = list(dict.fromkeys([*shown, *(pair.clip for pair in pairs), *(pair.audio_clip for pair in pairs)]))
    with whole_folder(output, _WHAT, MEDIA_NAME.fullmatch) as folder:
        (folder / MEDIA).mkdir()
        number = {place: index for index, place in enumerate(places)}
        page = {
            "corpus": manifest.corpus,
            "format": asdict(manifest.clip),
            "labels": [asdict(label) for label in manifest.labels],
            "splits": [_about_split(catalog) for catalog in catalogs.values()],
            "rejected": rejected,
            "clips": write_clips(folder, catalogs, places, {*shown, *(pair.clip for pair in pairs)}, store, progress),
            "shown": [number[place] for place in shown],
            "pairs": [
                {
                    "position": pair.position,
                    "clip": number[pair.clip],
                    "audio": number[pair.audio_clip],
                    "match": pair.match,
                }
                for pair in pairs
            ],
            "seed": settings.seed,
            "epoch": settings.epoch,
        }
        (folder / INDEX).write_bytes(render(_TEMPLATE, _WHAT, manifest.corpus, page))
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Written(index=output / INDEX, clips=len(shown), pairs=len(pairs), bytes=size)


# -- what to show


def choose_clips(catalogs: Mapping[str, Catalog], count: int, seed: int) -> list[Place]:
    """Clips spread as evenly as can be over splits; within a split over the classes of each label, one label after the
    other, then over speakers, then over videos.

    Among equals the seed decides.
    """
    sizes = [len(catalog) for catalog in catalogs.values()]
    split = np.repeat(np.arange(len(sizes)), sizes)
    row = np.concatenate([np.arange(size) for size in sizes])
    groups = [split]  # each a part of the one before it
    labels = [name for catalog in list(catalogs.values())[:1] for name in catalog.targets]
    for column in (
        *(np.concatenate([catalog.targets[name] for catalog in catalogs.values()]) for name in labels),
        np.concatenate([catalog.speaker for catalog in catalogs.values()]),
        np.concatenate([catalog.video for catalog in catalogs.values()]),
    ):
        column = column.astype(np.int64) - column.min()
        groups.append(np.unique(groups[-1] * (column.max() + 1) + column, return_inverse=True)[1])
    order = permute(np.arange(len(row)), len(row), randomness.key(seed, "gallery", "clips"))
    # Dealing by turns, from the innermost group out: everyone's first comes before anyone's second.
    for group in reversed(groups):
        order = order[np.argsort(_turns(group[order]), kind="stable")]
    names = list(catalogs)
    return [Place(names[split[index]], int(row[index])) for index in order[:count]]


def _turns(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each entry's value occurred before it."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    turns = np.empty_like(group)
    turns[order] = np.arange(len(group)) - np.searchsorted(ordered, ordered)
    return turns


def draw_pairs(catalog: Catalog, settings: GallerySettings) -> list[Pair]:
    """The first pairs of the epoch as `loaders.loader.ClipLoader` draws them, mixed.

    Mixed, because of every two neighbours exactly one matches: in their order, every second guess would be no guess.
    """
    if settings.pairs == 0:
        return []
    unknown = [kind for kind in settings.negatives if kind not in KINDS]
    if unknown:
        raise InputError(f"--negatives: unknown kind {unknown[0]!r}: use {', '.join(KINDS)}")
    frames = catalog.manifest.clip.frames
    for name in (FILMSTRIP, AUDIO):
        without = np.count_nonzero(catalog.members[name].size == 0)
        if without:
            raise InputError(
                f"{catalog.folder}: {without} of {len(catalog)} clips have no {name}, and cannot be paired: show no "
                "pairs: --pairs 0"
            )
    try:
        sampler = Sampler(
            catalog,
            seed=settings.seed,
            training=catalog.split == "train",
            frames=frames,
            negatives=settings.negatives,
        )
    except InputError as error:
        raise InputError(f"{error}; or show no pairs: --pairs 0") from error
    count = min(settings.pairs, len(catalog))
    mixed = permute(np.arange(count), count, randomness.key(settings.seed, settings.epoch, "gallery", "pairs"))
    examples = sampler.examples(settings.epoch, mixed)
    return [
        Pair(
            position=int(position),
            clip=Place(catalog.split, int(clip)),
            audio_clip=Place(catalog.split, int(audio_clip)),
            match=bool(match),
        )
        for position, clip, audio_clip, match in zip(
            mixed, examples.clip, examples.audio_clip, examples.match, strict=True
        )
    ]


def _about_split(catalog: Catalog) -> dict[str, Any]:
    entry = catalog.manifest.splits[catalog.split]
    counts = {}
    for name, codes in catalog.targets.items():
        label = catalog.manifest.label(name)
        assert label is not None
        assert label.classes is not None
        counts[name] = np.bincount(codes.astype(np.int64) + 1, minlength=len(label.classes) + 1)[1:].tolist()
    return {
        "name": catalog.split,
        "clips": entry.clips,
        "speakers": entry.speakers,
        "videos": entry.videos,
        "labels": counts,
    }


def _rejected(dataset: Dataset, splits: set[str] | None) -> list[dict[str, Any]]:
    """The rejected utterances by reason, the commonest first: all counted, and the first of each listed."""
    counts: Counter[str] = Counter()
    listed: dict[str, list[dict[str, Any]]] = {}
    columns = ["split", "speaker", "video", "utterance", "reason", "detail"]
    path = dataset.table(REJECTED)
    try:
        with opened_table(path, dataset.manifest.rejected_sha256) as source, pq.ParquetFile(source) as file:
            for name in columns:
                if not pa.types.is_string(file.schema_arrow.field(name).type):
                    raise ValueError(f"column {name!r} holds no texts")
            for batch in file.iter_batches(columns=columns):
                for row in batch.to_pylist():
                    if splits is not None and row["split"] and row["split"] not in splits:
                        continue  # what has no split, such as a folder that could not be read, concerns them all
                    reason = row.pop("reason")
                    counts[reason] += 1
                    if counts[reason] <= MOST_REJECTED:
                        listed.setdefault(reason, []).append(row)
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)}): run sharding/verify.py") from error
    return [{"reason": reason, "count": count, "rows": listed[reason]} for reason, count in counts.most_common()]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arguments:
    """Make a page to look at a dataset: its clips, what was rejected, and pairs to guess. No server, no network."""

    dataset: Annotated[Path, tyro.conf.Positional]
    """Folder of a built dataset, or its URL."""
    output: Path
    """Folder to make: not there, empty, or an older gallery, which is replaced."""
    settings: Annotated[GallerySettings, tyro.conf.arg(name="")] = field(default_factory=GallerySettings)


def main() -> None:
    """The command line."""
    arguments = cli(_Arguments)
    with reported(), stopped_in_order("run it again"):
        output = local_path(arguments.output, "--output")
        with ExitStack() as stack:
            bars: list[Bar] = []

            def move(done: int, total: int) -> None:
                if not bars:  # what is refused is told by its one line alone
                    screen = Console(stderr=True)
                    bars.append(
                        stack.enter_context(progress("gallery", total, "clips", console=screen, transient=True))
                    )
                bars[0].move(done)

            written = write_gallery(arguments.dataset, output, arguments.settings, progress=move)
        print(f"{written.index}: {written.clips} clips and {written.pairs} pairs, {written.bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

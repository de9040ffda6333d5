"""A page to look at a dataset: ``python sharding/gallery.py DATASET --output DIR``, then open DIR/index.html.

Clips as moving pictures with their sound, spectrogram, gaze and labels; what was rejected, and why; and pairs of the
training's own order, to guess which belong together. The page is static: it needs no server and no network. DATASET may
be a URL: of its shards only the clips that are shown are fetched.

DIR/
    index.html              the page, with everything but the media
    media/0000.filmstrip.jpg, 0000.audio.wav    the shard's own bytes
    media/0000.spectrogram.png

Names of people, videos and reasons come from files and may hold anything. They reach the page as one block of JSON in
which every ``<`` is escaped, and the page shows them as text only; its security policy allows no script but its own.
"""

import base64
import hashlib
import html
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tyro
from numpy.typing import NDArray
from rich.console import Console

from loaders.dataset.catalog import Catalog
from loaders.dataset.dataset import Dataset
from loaders.dataset.manifest import AUDIO, CATALOG, FILMSTRIP, GAZE, REJECTED, Manifest
from loaders.dataset.shards import CorruptMemberError, Shards
from loaders.dataset.tables import opened as opened_table
from loaders.errors import InputError, first_line, reported
from loaders.progress import Bar, progress
from loaders.sampling import randomness
from loaders.sampling.examples import Sampler
from loaders.sampling.negatives import KINDS
from loaders.sampling.order import permute
from loaders.storage.urls import local_path
from sharding.engines.stopping import stopped_in_order
from sharding.gaze.statistics import GAZE_NAMES, SIGNAL_NAMES
from sharding.media.spectrogram import spectrogram_png
from sharding.media.waveform import decode_waveform
from sharding.packing.members import decode_member, largest
from sharding.sources.store import Store
from sharding.viewing.opened import opened
from sharding.viewing.ranges import fetch_members

R = TypeVar("R")

INDEX = "index.html"
MEDIA = "media"
MOST = 2000  #: clips or pairs on one page
MOST_REJECTED = 200  #: rejected utterances listed for one reason; all are counted

_AT_ONCE = 16  # clips that are fetched from a store at a time

_TEMPLATE = Path(__file__).with_name("gallery_page.html")
_GENERATOR = '<meta name="generator" content="filmstrip gallery">'  # by which an older gallery is known
_MEDIA_NAME = re.compile(r"\d{4,}\.(filmstrip\.jpg|audio\.(wav|flac)|spectrogram\.png)")

# Of the 103 statistics those that say something to a person: name, what to call it, its unit; "%" is of the time.
_GAZE_SHOWN = (
    ("gaze_angle_x_mean", "gaze sideways", "rad"),
    ("gaze_angle_y_mean", "gaze down", "rad"),
    ("gaze_angle_x_SD", "sideways spread", "rad"),
    ("gaze_angle_y_SD", "up-down spread", "rad"),
    ("gaze_fixation_time_ratio", "fixating", "%"),
    ("gaze_approach_time_ratio", "approaching", "%"),
    ("pupil_diameter_mm_mean", "pupil", "mm"),
    ("pupil_dilation_time_ratio", "pupil widening", "%"),
    ("eye_blink_intensity_mean", "blinking", "of 5"),
    ("eyes_closed_time_ratio", "eyes closed", "%"),
)
_CURVES_SHOWN = (
    ("gaze_angle_x", "gaze sideways, rad"),
    ("gaze_angle_y", "gaze down, rad"),
    ("pupil_diameter_mm", "pupil, mm"),
    ("eye_blink_intensity", "blink, of 5"),
)


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


@dataclass(frozen=True, slots=True)
class Place:
    """Where a clip stands."""

    split: str
    row: int  #: of the split's catalog


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
    manifest, origin = dataset.manifest, dataset.origin
    store = None if origin is None else Store(url=origin.url, attempts=origin.attempts)
    names = settings.split or tuple(name for name, split in sorted(manifest.splits.items()) if split.clips)
    for name in names:
        dataset.require_split(name)
    rejected = _rejected(dataset, set(names) if settings.split else None)
    members = [FILMSTRIP, AUDIO, *(name for name in (GAZE, "gaze_frames") if manifest.member(name) is not None)]
    classes = [label.name for label in manifest.labels if label.classes is not None]
    catalogs = {name: dataset.catalog(name, members, classes) for name in names}
    shown = choose_clips(catalogs, settings.clips, settings.seed)
    pairs = draw_pairs(catalogs["train" if "train" in catalogs else names[0]], settings)
    places = list(dict.fromkeys([*shown, *(pair.clip for pair in pairs), *(pair.audio_clip for pair in pairs)]))
    with _whole_folder(output) as folder:
        (folder / MEDIA).mkdir()
        number = {place: index for index, place in enumerate(places)}
        page = {
            "corpus": manifest.corpus,
            "format": asdict(manifest.clip),
            "labels": [asdict(label) for label in manifest.labels],
            "splits": [_about_split(catalog) for catalog in catalogs.values()],
            "rejected": rejected,
            "clips": _write_clips(folder, catalogs, places, {*shown, *(pair.clip for pair in pairs)}, store, progress),
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
        (folder / INDEX).write_bytes(render(page))
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


# -- the media


def _write_clips(
    folder: Path,
    catalogs: Mapping[str, Catalog],
    places: Sequence[Place],
    with_film: set[Place],
    store: Store | None,
    progress: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    """What the page says of each clip, in the order given; their media are written on the way, one clip at a time."""
    about = _names(catalogs, places)
    clips: list[dict[str, Any]] = []
    progress(0, len(places))
    shards = {name: Shards(catalog) for name, catalog in catalogs.items()}

    def read(place: Place) -> dict[str, bytes] | CorruptMemberError | ValueError:
        catalog = catalogs[place.split]
        try:
            _require_credible(catalog, place.row)
            if store is not None:
                return fetch_members(store, catalog, place.row)
            return {
                name: bytes(data)
                for name in catalog.members
                if (data := shards[place.split].read(name, place.row)) is not None
            }
        except (CorruptMemberError, ValueError) as error:
            return error

    for number, (place, members) in enumerate(zip(places, _read_ahead(read, places, store), strict=True)):
        manifest = catalogs[place.split].manifest
        try:
            if not isinstance(members, dict):
                raise members
            media = _write_media(folder / MEDIA, number, members, manifest, film=place in with_film)
            gaze = _gaze(_array("gaze", members, manifest), manifest) if "gaze" in members else None
            curves = _curves(_array("gaze_frames", members, manifest)) if "gaze_frames" in members else None
        except (CorruptMemberError, ValueError, KeyError) as error:
            raise InputError(
                f"{catalogs[place.split].folder}: clip {place.row} ({about[place]['key']}) is damaged ({error}): "
                "run sharding/verify.py --repair"
            ) from error
        clips.append({"split": place.split, **about[place], **media, "gaze": gaze, "curves": curves})
        progress(len(clips), len(places))
    return clips


def _require_credible(catalog: Catalog, row: int) -> None:
    """Raise ValueError for a member that is longer than what it holds can be, before memory is taken for it."""
    for name, extent in catalog.members.items():
        member = catalog.manifest.member(name)
        if member is not None and extent.size[row] > largest(member):
            raise ValueError(f"{name}: {extent.size[row]} bytes are too many for it")


def _read_ahead(read: Callable[[Place], R], places: Sequence[Place], store: Store | None) -> Iterator[R]:
    """What is read of each place, in their order; of a store, several at a time."""
    if store is None:
        yield from map(read, places)
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for first in range(0, len(places), _AT_ONCE):
            yield from pool.map(read, places[first : first + _AT_ONCE])


def _names(catalogs: Mapping[str, Catalog], places: Sequence[Place]) -> dict[Place, dict[str, Any]]:
    """Each clip's strings and numbers from its catalog."""
    columns = ["key", "speaker", "video", "utterance", "start", "padded"]
    about = {}
    for split, catalog in catalogs.items():
        labels = [label.name for label in catalog.manifest.labels]
        chosen = [place for place in places if place.split == split]
        path = catalog.folder / CATALOG
        try:
            rows = (
                catalog.table([*columns, *labels])
                .take(pa.array([place.row for place in chosen], pa.int64()))
                .to_pylist()
            )
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            why = f"cannot be read as a catalog ({first_line(error)})"
            raise InputError(path, why, "run sharding/verify.py") from error
        for place, row in zip(chosen, rows, strict=True):
            said = {name: _number(value) if isinstance(value, float) else value for name, value in row.items()}
            about[place] = {name: said[name] for name in columns} | {"labels": {name: said[name] for name in labels}}
    return about


def _write_media(
    folder: Path, number: int, members: Mapping[str, bytes], manifest: Manifest, *, film: bool
) -> dict[str, str | None]:
    """Copy a clip's filmstrip and audio, and draw its spectrogram; their addresses as seen from the page, None for what
    there is not."""
    files: dict[str, tuple[str, bytes]] = {}
    audio = manifest.member(AUDIO)
    if audio is not None and (AUDIO in members or audio.required):
        if audio.extension not in ("wav", "flac"):  # nothing else is a name to write a file by
            raise ValueError(f"audio of type {audio.extension!r}, not wav or flac")
        picture = spectrogram_png(decode_waveform(members[AUDIO]), manifest.clip.sample_rate)
        files["audio"] = (f"{number:04d}.audio.{audio.extension}", members[AUDIO])
        files["spectrogram"] = (f"{number:04d}.spectrogram.png", picture)
    filmstrip = manifest.member(FILMSTRIP)
    if film and filmstrip is not None and (FILMSTRIP in members or filmstrip.required):
        files["film"] = (f"{number:04d}.filmstrip.jpg", members[FILMSTRIP])
    for name, data in files.values():
        (folder / name).write_bytes(data)
    nothing = {"film": None, "audio": None, "spectrogram": None}
    return nothing | {kind: f"{MEDIA}/{name}" for kind, (name, _) in files.items()}


def _gaze(statistics: NDArray[Any], manifest: Manifest) -> list[dict[str, Any]] | None:
    """The statistics to show, and how many deviations they lie from the training split's mean, where that is known."""
    values = statistics.ravel()
    if len(values) != len(GAZE_NAMES):
        return None
    mean, deviation = manifest.gaze_mean, manifest.gaze_std
    shown = []
    for name, label, unit in _GAZE_SHOWN:
        index = GAZE_NAMES.index(name)
        away = None
        if mean is not None and deviation is not None and deviation[index] > 0:
            away = _number((float(values[index]) - mean[index]) / deviation[index])
        value = float(values[index]) * (100 if unit == "%" else 1)
        shown.append({"label": label, "unit": unit, "value": _number(value), "away": away})
    return shown


def _curves(rows: NDArray[Any]) -> list[dict[str, Any]] | None:
    """Signals of gaze along the clip, from rows with the columns of `SIGNAL_NAMES` and one more: is the row valid?"""
    if rows.ndim != 2 or rows.shape[1] != len(SIGNAL_NAMES) + 1:
        return None
    signals = np.where(rows[:, -1:] > 0, rows[:, :-1], np.nan)
    return [
        {"label": label, "values": [_number(float(value)) for value in signals[:, SIGNAL_NAMES.index(name)]]}
        for name, label in _CURVES_SHOWN
    ]


def _array(name: str, members: Mapping[str, bytes], manifest: Manifest) -> NDArray[Any]:
    """What a member holds, once it is what is declared of it: a ValueError says what else it is."""
    member = manifest.member(name)
    assert member is not None  # or there would be no bytes of it
    return np.asarray(decode_member(member, members[name], manifest.clip))


def _number(value: float) -> float | None:
    """Short enough for the page; None, which JSON knows, for what is no number."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


# -- the page


def render(page: Mapping[str, Any]) -> bytes:
    """index.html with the page's data in it."""
    style = _TEMPLATE.with_suffix(".css").read_text(encoding="utf-8")
    script = _TEMPLATE.with_suffix(".js").read_text(encoding="utf-8")
    parts = {
        "generator": _GENERATOR,
        "policy": f"default-src 'none'; img-src 'self' file:; media-src 'self' file:; base-uri 'none'; "
        f"form-action 'none'; style-src {_hash(style)}; script-src {_hash(script)}",
        "corpus": html.escape(str(page["corpus"])),
        "style": style,
        "data": json.dumps(page, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        "script": script,
    }
    # In one pass: what is filled in is never itself looked through for places to fill.
    text = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _TEMPLATE.read_text(encoding="utf-8"))
    return text.encode("utf-8", "xmlcharrefreplace")  # half a surrogate pair can stand in JSON, not in UTF-8


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# -- the folder


@contextmanager
def _whole_folder(output: Path) -> Iterator[Path]:
    """A folder to fill that takes its name, and an older gallery's place, when all is in it."""
    output = output.resolve()
    if output.exists():
        _holds_gallery(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        # A folder of a name that nobody else has: what is removed in the end is this gallery's alone.
        with TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as beside:
            unfinished, replaced = Path(beside, "unfinished"), Path(beside, "replaced")
            unfinished.mkdir()
            yield unfinished
            # Looked at again: making the new one took a while.
            if output.exists() and _holds_gallery(output):
                output.replace(replaced)
            try:
                unfinished.replace(output)
            except OSError:
                if replaced.exists():
                    replaced.replace(output)
                raise
    except OSError as error:
        raise InputError(
            f"{error.filename or output}: {error.strerror}: mend that, or give another --output"
        ) from error


def _holds_gallery(output: Path) -> bool:
    """Whether a gallery is there; False for an empty folder.

    Raises:
        InputError: anything else is there, a gallery with other files too.
    """
    foreign = InputError(f"{output}: holds other files: give an --output that is empty, a gallery's, or not there")
    if not output.is_dir():
        raise InputError(f"{output}: not a folder: give another --output")
    names = {path.name for path in output.iterdir()}
    if not names:
        return False
    index, media = output / INDEX, output / MEDIA
    if names != {INDEX, MEDIA} or not media.is_dir() or media.is_symlink() or not index.is_file():
        raise foreign
    with index.open("rb") as file:
        ours = _GENERATOR.encode() in file.read(1000)
    if not ours or not all(_MEDIA_NAME.fullmatch(path.name) for path in media.iterdir()):
        raise foreign
    return True


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
    arguments = tyro.cli(_Arguments)
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

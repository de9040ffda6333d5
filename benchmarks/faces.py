"""How large faces are in our crops: ``python benchmarks/faces.py --voxceleb DIR --grid DIR --wide DIR``.

Each folder is built as for training, with the middle square and with ``--crop face``, and CenterFace looks at every
frame that is stored: one detector for all, so that its own idea of where a face ends is the same for all. VoxCeleb2's
own clips, which are crops already, are what ours are held against.
"""

import io
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder: loaders.py here would hide the package

import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.table import Table

from benchmarks.record import Record, console, machine, read_settings, write_record
from loaders.dataset.catalog import open_catalog
from loaders.dataset.shards import Shards
from loaders.errors import InputError, reported
from loaders.progress import progress
from loaders.storage.atomic import atomic_write
from sharding.corpora.suffixes import VIDEO_SUFFIXES
from sharding.corpora.tree import read_tree
from sharding.corpora.voxceleb import VoxcelebSources, read_voxceleb
from sharding.crops.crop_plan import face_detector
from sharding.crops.faces import Detections, face_share
from sharding.engines.local import default_workers
from sharding.media.filmstrip import decode_filmstrip
from sharding.packing.building import build
from sharding.settings import BuildSettings, Crop
from sharding.utterance import Corpus, Utterance

Frames = NDArray[np.uint8]  # (T, H, W, 3) RGB
Boxes = NDArray[np.float64]  # (T, 4): x, y, width, height in pixels; NaN where no face was found

_CROPS: Mapping[Crop, str] = {"centre": "the middle square", "face": "`--crop face`"}
_REFERENCE = "VoxCeleb2, as published"
_COLUMNS = ("clips", "frames with a face", "share", "centre, from the left", "centre, from the top")

_TILE, _GAP, _ACROSS = 132, 4, 6  # pixels, pixels, tiles
_LINE = 28  # pixels of a caption
_LARGEST = 120_000  # bytes of the picture: a page shows it at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """Measure faces' share of the picture, and show crops."""

    voxceleb: Path | None = None
    """VoxCeleb2's tree: what our crops are held against."""
    grid: Path | None = None
    """A folder of GRID's films."""
    wide: Path | None = None
    """A folder of talking heads that are small in their pictures."""
    json: Path | None = None
    """Where the record goes."""
    picture: Path | None = None
    """Where the picture of the crops of --grid and --wide goes, a JPEG."""
    markdown: bool = False
    """Print the table as Markdown too."""
    workers: int = field(default_factory=default_workers)
    """Processes that build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A stored clip as the detector sees it."""

    utterance: str
    start: float  #: seconds from the start of the utterance
    middle: Frames  #: (H, W, 3): the frame in the middle of the clip
    boxes: Boxes  #: of the largest face of each frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How large faces are in a dataset, and where; lengths and places as fractions of the picture's side."""

    clips: int
    frames: int
    with_face: float  #: share of the frames
    share: float  #: of the side, that the longer side of the face takes: the median of the frames
    share_low: float  #: 5 % of the frames have less
    share_high: float  #: 5 % of the frames have more
    left: float  #: of the face's centre, from the left: the median
    top: float


def main(arguments: Arguments) -> Record:
    """Build, look, print, and write what was asked for.

    Raises:
        InputError: a folder is missing or holds nothing that can be built, none is given, or finding faces is not
            installed.
    """
    corpora = _corpora(arguments)
    detect = face_detector().detect
    before = machine()
    found: dict[str, Sequence[Seen]] = {}
    with tempfile.TemporaryDirectory(prefix="filmstrip-") as scratch:
        for name, (corpus, crops) in corpora.items():
            for crop in crops:
                folder = Path(scratch) / f"{len(found)}"
                build(corpus, folder, BuildSettings(crop=crop), arguments.workers, console=console)
                label = _REFERENCE if name == "VoxCeleb2" else f"{name}, {_CROPS[crop]}"
                found[label] = look_at_all(folder, detect, label)
    rows = {label: summarise(seen) for label, seen in found.items()}
    record = Record(
        benchmark="faces",
        settings={"build": {name: value for name, value in asdict(BuildSettings()).items() if name != "crop"}},
        rounds={},
        ratios=ratios(rows),
        facts={"rows": {label: asdict(summary) for label, summary in rows.items()}},
    )
    _print(record.facts["rows"])
    if arguments.markdown:
        print(markdown(record.facts["rows"]))
    if arguments.json is not None:
        write_record(arguments.json, record, before)
    if arguments.picture is not None:
        shown = {label: found[label] for label in found if label != _REFERENCE}
        arguments.picture.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(arguments.picture) as file:
            file.write(as_jpeg(draw(shown, rows), _LARGEST))
    return record


def films(folder: Path, option: str) -> Corpus:
    """A folder's films, an utterance each, of a speaker each.

    Raises:
        InputError: there is no such folder, or no film in it.
    """
    if not folder.is_dir():
        raise InputError(f"{option} {folder}: no such folder: give one that holds video files")
    files = read_tree(folder, VIDEO_SUFFIXES).files
    if not files:
        raise InputError(f"{option} {folder}: no video file in it: is it the right folder?")
    named = [("-".join(entry.names), entry.path) for entry in files]
    utterances = (
        Utterance(corpus="films", split="train", speaker=name, video=name, utterance=name, video_path=path)
        for name, path in sorted(named)
    )
    return Corpus(name="films", utterances=tuple(utterances))


def look_at_all(dataset: Path, detect: Callable[[Frames], Detections], label: str) -> list[Seen]:
    """Every clip of a dataset's split "train", in the order of utterances and time, behind a progress bar."""
    catalog = open_catalog(dataset, "train", ["filmstrip"])
    clip, shards = catalog.manifest.clip, Shards(catalog)
    names = catalog.table(["speaker", "video", "utterance"]).to_pydict()
    utterances = ["/".join(parts) for parts in zip(*names.values(), strict=True)]
    order = sorted(range(len(catalog)), key=lambda row: (utterances[row], catalog.start[row]))
    found = []
    with progress(f"looking at {label}", len(order), "clips", console=console) as bar:
        for row in bar.track(order):
            data = shards.read("filmstrip", row)
            assert data is not None  # a required member
            frames = decode_filmstrip(data.tobytes(), clip.frames)
            boxes, start = look(frames, detect), float(catalog.start[row])
            found.append(
                Seen(utterance=utterances[row], start=start, middle=frames[clip.frames // 2].copy(), boxes=boxes)
            )
    return found


def look(frames: Frames, detect: Callable[[Frames], Detections]) -> Boxes:
    """The largest face of each frame (T, H, W, 3): (T, 4), NaN where there is none."""
    boxes = np.full((len(frames), 4), np.nan)
    for row, frame in enumerate(frames):
        found = detect(frame).boxes
        if len(found):
            boxes[row] = found[found[:, 2:].prod(1).argmax()]
    return boxes


def summarise(clips: Sequence[Seen]) -> Summary:
    """Medians over all frames in which a face was found; NaN where there is none."""
    boxes = np.concatenate([clip.boxes for clip in clips])
    side = clips[0].middle.shape[0]
    faces = boxes[~np.isnan(boxes[:, 0])]
    with_face = len(faces) / len(boxes)
    if not len(faces):
        faces = np.full((1, 4), math.nan)
    low, share, high = np.quantile(face_share(faces, side), (0.05, 0.5, 0.95))
    left, top = np.median(faces[:, :2] + faces[:, 2:] / 2, axis=0) / side
    return Summary(
        clips=len(clips),
        frames=len(boxes),
        with_face=with_face,
        share=float(share),
        share_low=float(low),
        share_high=float(high),
        left=float(left),
        top=float(top),
    )


def ratios(rows: Mapping[str, Summary]) -> dict[str, float]:
    """Name → a row's share over VoxCeleb2's, where that is among the rows."""
    reference = rows.get(_REFERENCE)
    if reference is None:
        return {}
    others = {label: row for label, row in rows.items() if label != _REFERENCE}
    return {f"share: {label} / {_REFERENCE}": row.share / reference.share for label, row in others.items()}


def markdown(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The table, from a record's facts["rows"]."""
    lines = [_COLUMNS, ("---",) * len(_COLUMNS), *(_cells(label, row) for label, row in rows.items())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines).replace("| --- ", "|---").replace("--- |", "---|")


def choose(clips: Sequence[Seen], count: int) -> list[tuple[str, float]]:
    """So many of the clips, by utterance and start: one of each utterance, then a second one of each, and so on."""
    turns = [
        (turn, clip.utterance, clip.start)
        for _, group in groupby(clips, key=lambda clip: clip.utterance)
        for turn, clip in enumerate(group)
    ]
    return sorted((utterance, start) for _, utterance, start in sorted(turns)[:count])


def draw(found: Mapping[str, Sequence[Seen]], rows: Mapping[str, Summary]) -> Image.Image:
    """Row by row, captioned, a frame of some clips with the box of the face: the same clips in each row of a corpus."""
    by_corpus = [list(group) for _, group in groupby(found, key=lambda label: label.partition(",")[0])]
    band = _LINE + _TILE + _GAP
    size = (_ACROSS * (_TILE + _GAP) - _GAP, len(found) * band)
    picture = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    top = 0
    for labels in by_corpus:
        common = set.intersection(*({(clip.utterance, clip.start) for clip in found[label]} for label in labels))
        chosen = choose([clip for clip in found[labels[0]] if (clip.utterance, clip.start) in common], _ACROSS)
        for label in labels:
            caption = f"{label.replace('`', '')}: the face takes {rows[label].share:.2f} of the picture's side"
            pen.text((2, top + _LINE / 2), caption, fill="black", font=font, anchor="lm")
            clips = {(clip.utterance, clip.start): clip for clip in found[label]}
            for column, key in enumerate(chosen):
                picture.paste(_tile(clips[key]), (column * (_TILE + _GAP), top + _LINE))
            top += band
    return picture


def as_jpeg(picture: Image.Image, largest: int) -> bytes:
    """The best JPEG of at most so many bytes.

    Raises:
        ValueError: there is none.
    """
    for quality in range(95, 9, -5):
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=quality, optimize=True)
        if out.tell() <= largest:
            return out.getvalue()
    raise ValueError(f"a picture of {picture.width}×{picture.height} takes more than {largest} bytes at any quality")


def _tile(clip: Seen) -> Image.Image:
    tile = Image.fromarray(clip.middle).resize((_TILE, _TILE), Image.Resampling.LANCZOS)
    x, y, width, height = clip.boxes[len(clip.boxes) // 2] * _TILE / clip.middle.shape[0]
    if not math.isnan(x):
        ImageDraw.Draw(tile).rectangle((x, y, x + width, y + height), outline="#ffe14d", width=2)
    return tile


def _corpora(arguments: Arguments) -> dict[str, tuple[Corpus, Sequence[Crop]]]:
    """Name → the corpus, and how it is cropped."""
    found: dict[str, tuple[Corpus, Sequence[Crop]]] = {}
    if arguments.voxceleb is not None:
        found["VoxCeleb2"] = _voxceleb(arguments.voxceleb), ("centre",)
    if arguments.grid is not None:
        found["GRID"] = films(arguments.grid, "--grid"), ("centre", "face")
    if arguments.wide is not None:
        found["talking heads"] = films(arguments.wide, "--wide"), ("centre", "face")
    if not found:
        raise InputError("nothing to look at: give --voxceleb, --grid or --wide")
    if arguments.picture is not None and found.keys() == {"VoxCeleb2"}:
        raise InputError("--picture shows the crops of --grid and --wide: give one of them")
    return found


def _voxceleb(folder: Path) -> Corpus:
    if not folder.is_dir():
        raise InputError(f"--voxceleb {folder}: no such folder: give VoxCeleb2's tree")
    return read_voxceleb(VoxcelebSources(source=folder, test_fraction=0))


def _cells(label: str, row: Mapping[str, Any]) -> Iterator[str]:
    yield label
    yield f"{row['with_face']:.0%}".replace("%", " %")
    yield f"{row['share']:.2f} ({row['share_low']:.2f}–{row['share_high']:.2f})"
    yield f"{row['left']:.2f}"
    yield f"{row['top']:.2f}"


def _print(rows: Mapping[str, Mapping[str, Any]]) -> None:
    console.print(faces_table(rows))


def faces_table(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row for each kind of clips. 80 columns hold it."""
    table = Table(title="faces in stored frames: medians (middle 90 %)")
    for column in _COLUMNS:
        table.add_column(column, overflow="fold", no_wrap=column == "share")
    for label, row in rows.items():
        table.add_row(*_cells(label, row))
    return table


if __name__ == "__main__":
    with reported():
        main(read_settings(Annotated[Arguments, tyro.conf.arg(name="")], __doc__))

"""Single clips of a dataset as a page has them: the shard's own bytes as media, and what is said of each."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loaders.dataset.catalog import Catalog
from loaders.dataset.dataset import Dataset
from loaders.dataset.manifest import AUDIO, CATALOG, FILMSTRIP, GAZE, Manifest
from loaders.dataset.shards import CorruptMemberError, Shards
from loaders.errors import InputError, first_line
from sharding.gaze.statistics import GAZE_NAMES, SIGNAL_NAMES
from sharding.media.spectrogram import spectrogram_png
from sharding.media.waveform import decode_waveform
from sharding.packing.members import decode_member, largest
from sharding.sources.store import Store
from sharding.viewing.page import MEDIA
from sharding.viewing.ranges import fetch_members

R = TypeVar("R")

#: Names of the files that are written here.
MEDIA_NAME = re.compile(r"\d{4,}\.(filmstrip\.jpg|audio\.(wav|flac)|spectrogram\.png)")

_AT_ONCE = 16  # clips that are fetched from a store at a time

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


@dataclass(frozen=True, slots=True)
class Place:
    """Where a clip stands."""

    split: str
    row: int  #: of the split's catalog


def members_shown(manifest: Manifest) -> list[str]:
    """The members that a page shows, of those that a dataset's clips have."""
    return [FILMSTRIP, AUDIO, *(name for name in (GAZE, "gaze_frames") if manifest.member(name) is not None)]


def store_of(dataset: Dataset) -> Store | None:
    """Where single clips are fetched from; None: its shards lie here."""
    origin = dataset.origin
    return None if origin is None else Store(url=origin.url, attempts=origin.attempts)


def write_clips(
    folder: Path,
    catalogs: Mapping[str, Catalog],
    places: Sequence[Place],
    with_film: set[Place],
    store: Store | None,
    progress: Callable[[int, int], None],
    first: int = 0,
) -> list[dict[str, Any]]:
    """What a page says of each clip, in the order given; their media are written on the way, one clip at a time.

    Args:
        folder: of the page, with its folder of media.
        catalogs: by split, with `members_shown`.
        places: of the clips.
        with_film: of these, whose pictures are shown; of the others only the sound is heard.
        store: of the dataset, where that is not here.
        progress: called with how many clips are written, and of how many.
        first: number of the first clip, by which its files are named.

    Raises:
        InputError: a clip is damaged; a catalog cannot be read; the store fails.
    """
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

    for number, (place, members) in enumerate(zip(places, _read_ahead(read, places, store), strict=True), first):
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

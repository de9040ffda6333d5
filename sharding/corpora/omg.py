"""OMG-Emotion: two tables of labelled utterances, and ``<root>/<video>/<utterance>`` files.

Columns and codes: Barros et al., "The OMG-Emotion Behavior Dataset" (2018), as published in its repository.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loaders.dataset.labels import Label
from loaders.errors import InputError
from loaders.storage.urls import url_of
from sharding.corpora.gaze_tables import count_tables
from sharding.corpora.registry import corpus
from sharding.corpora.tree import FOLLOW, refusal
from sharding.sources.copies import existence, is_folder, read_bytes
from sharding.utterance import Corpus, Rejection, Utterance, readable

EMOTIONS = ("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise")  #: codes 0 to 6 of EmotionMaxVote
LABELS = (
    Label(name="emotion", classes=EMOTIONS),
    Label(name="arousal", low=0.0, high=1.0),
    Label(name="valence", low=-1.0, high=1.0),
)
COLUMNS = ("video", "utterance", "arousal", "valence", "EmotionMaxVote")


@corpus(
    "omg",
    'Build a dataset from OMG-Emotion: splits "train" and "validation", with emotion, arousal and valence.',
    settings={"crop": "face", "pad_short": True},
)
@dataclass(frozen=True, slots=True, kw_only=True)
class OmgSources:
    """Where OMG-Emotion lies."""

    source: Path
    """The folder that holds <video>/<utterance> files: here, or a URL such as s3://bucket/OMG, as any source."""
    train_csv: Path
    """omg_TrainVideos.csv, as published."""
    validation_csv: Path
    """omg_ValidationVideos.csv, as published."""
    openface: Path | None = None
    """A folder with OpenFace's table of each utterance, <video>/<utterance>.csv or <video>_<utterance>.csv."""
    follow_links: bool = False
    """Follow symbolic links that lead out of these folders, to files and folders. Unless told otherwise what they lead
    to is rejected."""

    def read(self) -> Corpus:
        """See `read_omg`."""
        return read_omg(self)


def read_omg(sources: OmgSources) -> Corpus:
    """The utterances of both tables: splits "train" and "validation".

    An utterance whose file is missing is kept, for the build to reject by name: videos vanish from where they were
    published. One whose file is a link that leads out of ``source``, or no regular file, is among the rejected; a table
    of gaze of which that is true is not used, with a note. Rows that name no utterance are dropped, with a note.

    Raises:
        InputError: a folder or table is missing, a table lacks a column or holds a label that is none, or no utterance
            can be used.
    """
    source, openface, follow_links = sources.source, sources.openface, sources.follow_links
    for name, folder in (("--source", source), ("--openface", openface)):
        if folder is not None and not is_folder(folder):
            raise InputError(
                f"{name} {readable(folder)}: no such folder: give the folder that holds <video>/<utterance>"
            )
    if follow_links and all(folder is None or url_of(folder) is not None for folder in (source, openface)):
        raise InputError("--follow-links: an object store has no links: leave it out")
    has_table = None if openface is None else existence(openface)
    utterances: list[Utterance] = []
    notes: list[str] = []
    for split, table in (("train", sources.train_csv), ("validation", sources.validation_csv)):
        rows, blank = _rows(table)
        if blank:
            notes.append(f"{table.name}: {blank} of {blank + len(rows)} rows name no utterance and were dropped")
        utterances += [_utterance(row, line, table, split, source, openface, has_table) for line, row in rows]
    is_there = existence(source)
    absent = frozenset(u.video_path for u in utterances if not is_there(u.video_path))
    missing = sum(utterance.video_path in absent for utterance in utterances)
    if missing == len(utterances):
        raise InputError(
            f"--source {readable(source)}: none of the {len(utterances)} utterances of the tables is there"
        )
    if missing:
        notes.append(f"{missing} of {len(utterances)} utterances have no file below {readable(source)}")
    if openface is not None:
        utterances, refused = _without_refused_tables(utterances, openface, follow_links)
        notes += refused
        notes.append(count_tables(utterances, openface, _TABLES, refused))
    kept: list[Utterance] = []
    rejected: list[Rejection] = []
    for utterance in utterances:
        why = refusal(utterance.video_path, source, follow_links=follow_links)
        if why is None:
            kept.append(utterance)
        else:
            rejected.append(Rejection.of(utterance, *why))
    if out := sum(rejection.reason == "outside_source" for rejection in rejected):
        where = f"--source {readable(source)}"
        if not any(is_there(utterance.video_path) for utterance in kept):
            raise InputError(
                f"{where}: no utterance of the tables lies in it, and {out} are links that lead out of it: "
                "--follow-links follows them, or give the folder that they lead to"
            )
        notes.append(f"{where}: {out} left out as outside_source{FOLLOW}")
    return Corpus(
        name="omg",
        utterances=tuple(kept),
        rejected=tuple(rejected),
        labels=LABELS,
        notes=tuple(notes),
        apart="video",
        absent=absent,
        video_names="corpus",  # the video is who is known
    )


_TABLES = ("<video>/<utterance>.csv", "<video>_<utterance>.csv")


def _without_refused_tables(
    utterances: Sequence[Utterance], openface: Path, follow_links: bool
) -> tuple[list[Utterance], list[str]]:
    """The utterances, without the tables of gaze that lie elsewhere or are no files, and a note for each reason."""
    kept: list[Utterance] = []
    refused: Counter[str] = Counter()
    for utterance in utterances:
        path = utterance.gaze_path
        why = None if path is None else refusal(path, openface, follow_links=follow_links)
        if why is not None:
            refused[why[0]] += 1
        kept.append(utterance if why is None else replace(utterance, gaze_path=None))
    where = f"--openface {readable(openface)}"
    return kept, [
        f"{where}: {count} tables were left out as {reason}{FOLLOW if reason == 'outside_source' else ''}"
        for reason, count in sorted(refused.items())
    ]


def _rows(table: Path) -> tuple[list[tuple[int, dict[str, str]]], int]:
    """(line number, row) of every row that names an utterance, and how many do not."""
    try:
        reader = csv.DictReader(io.StringIO(read_bytes(table).decode("utf-8-sig"), newline=""), skipinitialspace=True)
        header = [name.strip() for name in reader.fieldnames or ()]
        absent = [name for name in COLUMNS if name not in header]
        if absent:
            raise InputError(f"{table}: column {', '.join(absent)} is missing: give OMG's own table")
        reader.fieldnames = header
        rows = [(reader.line_num, {name: (row[name] or "").strip() for name in COLUMNS}) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read as a table ({error}): give OMG's own CSV") from error
    named = [(line, row) for line, row in rows if row["video"] and row["utterance"]]
    if not named:
        raise InputError(f"{table}: no row names an utterance: give OMG's own CSV")
    return named, len(rows) - len(named)


def _utterance(
    row: dict[str, str],
    line: int,
    table: Path,
    split: str,
    source: Path,
    openface: Path | None,
    has_table: Callable[[Path], bool] | None,
) -> Utterance:
    try:
        emotion = float(row["EmotionMaxVote"])
        numbers = {name: float(row[name]) for name in ("arousal", "valence") if row[name]}
    except ValueError as error:
        raise InputError(f"{table}, line {line}: {error}: mend the row or leave it out") from error
    if emotion not in range(len(EMOTIONS)):
        raise InputError(
            f"{table}, line {line}: EmotionMaxVote is {row['EmotionMaxVote']}: use 0 to {len(EMOTIONS) - 1}"
        )
    for name in (row["video"], row["utterance"]):
        if name in (".", "..") or "/" in name or "\\" in name:
            raise InputError(f"{table}, line {line}: {name!r} is no plain file name: mend the row or leave it out")
    name = row["utterance"].rsplit(".", 1)[0]
    return Utterance(
        corpus="omg",
        split=split,
        speaker=row["video"],  # OMG names no speakers; a video has one
        video=row["video"],
        utterance=name,
        video_path=source / row["video"] / row["utterance"],
        gaze_path=None if openface is None or has_table is None else _table(openface, row["video"], name, has_table),
        labels={"emotion": EMOTIONS[int(emotion)], **_within_range(numbers, table, line)},
    )


def _within_range(numbers: dict[str, float], table: Path, line: int) -> dict[str, float]:
    for label in LABELS:
        value = numbers.get(label.name)
        if value is not None and label.low is not None and label.high is not None:
            if math.isnan(value):
                del numbers[label.name]
            elif not label.low <= value <= label.high:
                raise InputError(f"{table}, line {line}: {label.name} is {value}: use {label.low:g} to {label.high:g}")
    return numbers


def _table(openface: Path, video: str, utterance: str, is_there: Callable[[Path], bool]) -> Path | None:
    places = (openface / video / f"{utterance}.csv", openface / f"{video}_{utterance}.csv")
    return next((path for path in places if is_there(path)), None)

"""VoxCeleb's lists: who the speakers are (vox1_meta.csv, vox2_meta.csv), and the published splits (iden_split.txt)."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loaders.errors import InputError
from sharding.sources.copies import read_bytes

PUBLISHED = {"dev": "train", "test": "test"}  #: splits by the names of VoxCeleb's sets, whose speakers are apart
_SPLITS = {"1": "train", "2": "validation", "3": "test"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """What is known of a speaker, in the list's own words."""

    gender: str | None
    nationality: str | None


def read_speakers(tables: Sequence[Path]) -> dict[str, Speaker]:
    """The speakers of the lists, by VoxCeleb's id and, for trees that are named so, by VGGFace's.

    The columns are parted by tabs or commas and padded with spaces; VoxCeleb2's list has no nationality.

    Raises:
        InputError: a list cannot be read, or lacks the columns for id and gender.
    """
    speakers: dict[str, Speaker] = {}
    for ids, cells in _rows(tables):
        speaker = Speaker(gender=cells.get("Gender") or None, nationality=cells.get("Nationality") or None)
        speakers.update(dict.fromkeys(ids, speaker))
    return speakers


def read_sets(tables: Sequence[Path]) -> dict[str, str]:
    """The splits of the lists' column Set, by the same ids as `read_speakers`: train, as dev is called here, and test.

    Raises:
        InputError: see `read_speakers`.
    """
    sets: dict[str, str] = {}
    for ids, cells in _rows(tables):
        split = PUBLISHED.get(cells.get("Set", "").lower())
        if split is not None:
            sets.update(dict.fromkeys(ids, split))
    return sets


def _rows(tables: Sequence[Path]) -> Iterator[tuple[list[str], Mapping[str, str]]]:
    """The rows of the lists: the ids of a speaker, and cells by the columns' names."""
    for table in tables:
        try:
            file = io.StringIO(read_bytes(table).decode("utf-8-sig"), newline="")
            first = file.readline()
            file.seek(0)
            rows = [
                [cell.strip() for cell in row] for row in csv.reader(file, delimiter="\t" if "\t" in first else ",")
            ]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(
                f"--meta {table}: cannot be read ({error}): give vox1_meta.csv or vox2_meta.csv"
            ) from error
        header = rows[0] if rows else []
        ids = [column for column, name in enumerate(header) if name.startswith("V") and name.endswith(" ID")]
        if not ids or "Gender" not in header:
            raise InputError(
                f"--meta {table}: no columns VoxCeleb1 ID (or VoxCeleb2 ID) and Gender: give vox1_meta.csv or "
                "vox2_meta.csv"
            )
        for row in rows[1:]:
            named = [row[column] for column in ids if column < len(row) and row[column]]
            yield named, dict(zip(header, row, strict=False))


def read_identification_split(path: Path) -> dict[tuple[str, str, str], str]:
    """The split of every utterance of iden_split.txt, by (speaker, video, utterance).

    A line is ``3 id10003/na8-QEFmj44/00003.wav``; 1 is train, 2 validation, 3 test.

    Raises:
        InputError: it cannot be read, or a line is something else.
    """
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--iden-split {path}: cannot be read ({error}): give VoxCeleb1's iden_split.txt") from error
    splits: dict[tuple[str, str, str], str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        code, _, name = line.strip().partition(" ")
        parts = name.strip().split("/")
        if code not in _SPLITS or len(parts) != 3:
            raise InputError(
                f"--iden-split {path}, line {number}: {line.strip()!r} is no line such as "
                "'3 id10003/na8-QEFmj44/00003.wav': give VoxCeleb1's iden_split.txt"
            )
        names = (parts[0], parts[1], parts[2].rsplit(".", 1)[0])
        if splits.setdefault(names, _SPLITS[code]) != _SPLITS[code]:
            raise InputError(f"--iden-split {path}, line {number}: {name} stands in two splits: leave one line out")
    if not splits:
        raise InputError(f"--iden-split {path}: holds no line: give VoxCeleb1's iden_split.txt")
    return splits

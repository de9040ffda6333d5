"""Which videos are asked about: files, all of a folder's, and the rows of tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loaders.errors import InputError
from loaders.storage.urls import url_of
from models.prediction.predictor import utterance_of
from sharding.corpora.suffixes import VIDEO_SUFFIXES
from sharding.corpora.table import TableSources, read_table
from sharding.corpora.tree import read_tree
from sharding.utterance import Utterance, readable

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """What was asked about and could not be answered."""

    path: str
    problem: str
    mend: str
    try_again: bool = False  #: the same may go well later

    @classmethod
    def of(cls, path: Path, error: InputError) -> Unanswered:
        """That of an error."""
        return cls(
            path=error.subject or readable(path), problem=error.problem, mend=error.mend, try_again=error.try_again
        )


@dataclass(slots=True)
class Videos:
    """Videos, in the order in which they were named."""

    utterances: list[Utterance] = field(default_factory=list)
    unanswered: list[Unanswered] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  #: what was passed by


def videos_of(paths: Sequence[Path]) -> Videos:
    """The videos of files, folders and tables; of folders all below them, in the order of their names.

    A table is one of `sharding.corpora.table`: with a column "video", and others such as audio, gaze, start and end
    where there are some. What cannot be listed or read is among the unanswered, and the rest goes on.
    """
    found = Videos()
    for path in paths:
        try:
            _add(found, path)
        except InputError as error:
            found.unanswered.append(Unanswered.of(path, error))
    return found


def _add(found: Videos, path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix in TABLE_SUFFIXES and not (url_of(path) is None and path.is_dir()):
        corpus = read_table(TableSources(table=path))
        found.utterances += corpus.utterances
        found.unanswered += [
            Unanswered(path=one.path, problem=f"{one.reason}: {one.detail}", mend="mend the table")
            for one in corpus.rejected
        ]
    elif path.is_dir() if url_of(path) is None else suffix not in VIDEO_SUFFIXES:
        tree = read_tree(path, VIDEO_SUFFIXES)
        if not tree.files:
            raise InputError(readable(path), "no video in it, by the suffixes", "give one that holds some, or files")
        found.utterances += [utterance_of(entry.path) for entry in tree.files]
        found.unanswered += [
            Unanswered(path=readable(out.entry.path), problem=f"{out.reason}: {out.detail}", mend="name it by itself")
            for out in tree.left_out
        ]
        found.notes += tree.notes(readable(path), layout=())
    else:
        found.utterances.append(utterance_of(path))

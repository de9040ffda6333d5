"""What is said of a clip, whence it comes and where it is written: one table, of which every list of columns comes.

``clips.parquet``, the catalog, says it of all clips; ``clip.msg`` says it beside the clip, for readers that know only
the tar. What a corpus states of its utterances, the labels, has columns of their names in both, and a clip's members
have some in the catalog, `member_columns`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from loaders.dataset.identity import UtteranceName
from loaders.dataset.labels import Label

NAME = pa.dictionary(pa.int32(), pa.string())  #: of names that many clips share

Source = Literal["utterance", "label", "clip", "shard", "settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Something that is said of a clip."""

    name: str
    type: pa.DataType  #: in the catalog
    source: Source  #: whose field of that name it is, when the clip is made; a label is among its utterance's
    is_stated: bool = False  #: by the corpus, of the utterance: an extension wants it to be what it was
    in_catalog: bool = True
    in_description: bool = True  #: clip.msg; it has them in the order of `COLUMNS`


COLUMNS = (
    Column(name="key", type=pa.string(), source="clip", in_description=False),
    # Number of the tar in dataset.json's list.
    Column(name="shard", type=pa.int32(), source="shard", in_description=False),
    Column(name="corpus", type=pa.string(), source="utterance", in_catalog=False),
    Column(name="speaker", type=NAME, source="utterance"),
    Column(name="video", type=NAME, source="utterance"),
    Column(name="utterance", type=NAME, source="utterance"),
    # Seconds from the start of the utterance.
    Column(name="start", type=pa.float64(), source="clip"),
    # Seconds of last frame and silence at the end.
    Column(name="padded", type=pa.float32(), source="clip"),
    Column(name="fps", type=pa.float64(), source="settings", in_catalog=False),
    # Of the source's files, see sharding.sources.fingerprint.
    Column(name="source_xxh3", type=pa.uint64(), source="utterance", is_stated=True),
)

CATALOGUED = tuple(column for column in COLUMNS if column.in_catalog)
DESCRIBED = tuple(column for column in COLUMNS if column.in_description)
SAID_TWICE = tuple(column for column in CATALOGUED if column.in_description)  #: in the catalog and beside the clip
NAMES = UtteranceName._fields

_EXTENT = {"offset": pa.int64(), "size": pa.int64(), "xxh3": pa.uint64()}


def with_labels(columns: Sequence[Column], labels: Iterable[Label]) -> tuple[Column, ...]:
    """Some of `COLUMNS`, and those of a dataset's labels after them."""
    of_labels = (
        Column(
            name=label.name,
            type=pa.float32() if label.classes is None else NAME,
            source="label",
            is_stated=True,
        )
        for label in labels
    )
    return (*columns, *of_labels)


def stated(labels: Iterable[Label]) -> tuple[str, ...]:
    """The columns that hold what a corpus states of an utterance, beside its names."""
    return tuple(column.name for column in with_labels(COLUMNS, labels) if column.is_stated)


def member_columns(name: str) -> dict[str, pa.DataType]:
    """A member's columns of the catalog: the place of its first byte in the tar, its bytes, and their XXH3-64."""
    return {f"{name}_{part}": kind for part, kind in _EXTENT.items()}


def values(
    columns: Iterable[Column], utterance: object, labels: Mapping[str, Any], others: Mapping[str, Any]
) -> dict[str, Any]:
    """What these columns say of a clip, all in order.

    Args:
        columns: which.
        utterance: the clip's, with a field for every column of that source.
        labels: of the utterance; None stands for what is not stated.
        others: the rest, by the columns' names.

    Raises:
        KeyError: none of the others has the name of a column that is neither the utterance's nor a label.
    """
    said: dict[str, Any] = {}
    for column in columns:
        if column.source == "utterance":
            said[column.name] = getattr(utterance, column.name)
        else:
            said[column.name] = labels.get(column.name) if column.source == "label" else others[column.name]
    return said

"""What is said of a clip, whence it comes and where it is written: one table, of which every list of columns comes.

``clips.parquet``, the catalog, says it of all clips; ``clip.msgpack`` says it beside the clip, for readers that know
only the tar. A clip's members have columns of their own in the catalog, `member_columns`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from loaders.dataset.identity import UtteranceName

NAME = pa.dictionary(pa.int32(), pa.string())  #: of names that many clips share

Source = Literal["utterance", "clip", "shard", "settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Something that is said of a clip."""

    name: str
    type: pa.DataType  #: in the catalog
    source: Source  #: whose field of that name it is, when the clip is made
    is_stated: bool = False  #: by the corpus, of the utterance: an extension wants it to be what it was
    in_catalog: bool = True
    in_description: bool = True  #: clip.msgpack; it has them in the order of `COLUMNS`


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
    # Index into manifest.EMOTIONS, -1 where there is none.
    Column(name="emotion", type=pa.int8(), source="utterance", is_stated=True),
    Column(name="arousal", type=pa.float32(), source="utterance", is_stated=True),
    Column(name="valence", type=pa.float32(), source="utterance", is_stated=True),
    # Of the speaker; null where the corpus does not tell.
    Column(name="gender", type=NAME, source="utterance", is_stated=True),
    Column(name="nationality", type=NAME, source="utterance", is_stated=True),
    # Of the source's files, see sharding.sources.fingerprint.
    Column(name="source_xxh3", type=pa.uint64(), source="utterance", is_stated=True),
)

CATALOGUED = tuple(column for column in COLUMNS if column.in_catalog)
DESCRIBED = tuple(column for column in COLUMNS if column.in_description)
SAID_TWICE = tuple(column for column in CATALOGUED if column.in_description)  #: in the catalog and beside the clip
NAMES = UtteranceName._fields
STATED = tuple(column.name for column in COLUMNS if column.is_stated)

_EXTENT = {"offset": pa.int64(), "size": pa.int64(), "xxh3": pa.uint64()}


def member_columns(name: str) -> dict[str, pa.DataType]:
    """A member's columns of the catalog: the place of its first byte in the tar, its bytes, and their XXH3-64."""
    return {f"{name}_{part}": kind for part, kind in _EXTENT.items()}


def values(columns: Iterable[Column], utterance: object, others: Mapping[str, Any]) -> dict[str, Any]:
    """What these columns say of a clip: fields of its utterance, and ``others`` by their names, all in order.

    Raises:
        KeyError: none of the others has the name of a column that is not the utterance's.
    """
    return {
        column.name: getattr(utterance, column.name) if column.source == "utterance" else others[column.name]
        for column in columns
    }

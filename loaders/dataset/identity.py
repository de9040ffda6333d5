"""Which utterance."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self


class UtteranceName(NamedTuple):
    """What names an utterance within its corpus, and so within a dataset, which is of one (``Manifest.corpus``).

    Its fields are columns of the catalog and of rejected.parquet. They sort as they stand.
    """

    speaker: str
    video: str
    utterance: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Whose a row of a table is."""
        return cls(row["speaker"], row["video"], row["utterance"])

    def __str__(self) -> str:
        """As people read it, and as corpora lay it out in folders: speaker/video/utterance."""
        return "/".join(self)

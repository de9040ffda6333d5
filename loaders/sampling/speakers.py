"""A share of a split's speakers apart from all the others, such as to validate on while training on the rest.

On which side a speaker is depends on a seed and on the speaker's name alone: on no other speaker, dataset, rank or
epoch. So it stays where it is when a dataset is extended, and when a run is resumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loaders.dataset.catalog import Catalog
from loaders.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerShare:
    """One side of a split's speakers."""

    fraction: float  #: of the speakers, on average: each one is held out with this chance, between 0 and 1
    seed: int  #: decides which ones
    held_out: bool  #: this side: those that are held out, or the rest

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise InputError(f"the share of speakers held out is {self.fraction}: use more than 0 and less than 1")

    def as_data(self) -> dict[str, float | int | bool]:
        """As JSON takes it."""
        return {"fraction": float(self.fraction), "seed": int(self.seed), "held_out": bool(self.held_out)}

    def holds_out(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """Whether each of these speakers is held out: (n,)."""
        limit = round(self.fraction * (1 << 64))
        drawn = [blake2b(f"{self.seed} {name}".encode(), digest_size=8).digest() for name in names]
        return np.array([int.from_bytes(digest, "big") < limit for digest in drawn], np.bool_)

    def part(self, catalog: Catalog) -> Catalog:
        """The clips of this side.

        A video in which someone speaks who is held out is on no other side: clips of others in it are on neither.

        Raises:
            InputError: there are none.
        """
        column = catalog.table(["speaker"])["speaker"].unify_dictionaries().combine_chunks()
        names = pa.array(column.dictionary).to_pylist()
        held = self.holds_out(names)[catalog.speaker] if len(catalog) else np.zeros(0, np.bool_)
        here = held if self.held_out else ~np.isin(catalog.video, np.unique(catalog.video[held]))
        if not here.any():
            raise InputError(
                f"{catalog.folder}: a share of {self.fraction} with the seed {self.seed} holds out "
                f"{int(self.holds_out(names).sum())} of {len(names)} speakers: give another share"
            )
        return catalog.of_rows(np.flatnonzero(here))

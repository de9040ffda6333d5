"""Sources that are there twice under two names: the same file, or one that is equal byte for byte.

A copy weighs twice in training; one on the other side of a split is tested on after it was trained on. The fingerprints
that are in every catalog tell which utterances may be copies, once the dataset is built. To leave copies out is to know
before, and to be sure: then the ends of all sources are read first, and those that are alike are read whole.

What clips are cut from counts as one: film, sound, gaze table and boxes. So the utterances of one long video, which
differ in their boxes, are no copies of each other, and neither is a film with another table.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from loaders.dataset.columns import NAMES
from loaders.dataset.identity import UtteranceName
from sharding.sources.fingerprint import contents, fingerprint
from sharding.utterance import Corpus, Rejection

T = TypeVar("T")

OnDuplicate = Literal["warn", "reject", "allow"]

_KEPT_FIRST = ("test", "validation", "train")  # as where a leak is settled
_MEND = "--on-duplicate reject compares such sources whole, and leaves copies out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Utterances of a dataset whose sources have the sizes, beginnings and ends of another's.

    Of utterances that are alike one does not count: one of test before one of validation before one of train.
    """

    across: int = 0  #: those in another split than the one that does not count
    first_across: tuple[str, str] | None = None  #: one of them, and the one that does not count
    within: int = 0  #: those in the same split
    first_within: tuple[str, str] | None = None

    def warnings(self) -> list[str]:
        """A line for a person each, the one about splits first."""
        lines = []
        if self.first_across is not None:
            one, other = self.first_across
            lines.append(
                f"WARNING: {self.across} utterances have the same sources as one in another split, such as {one} and "
                f"{other}: what is trained on may be tested on too: {_MEND}"
            )
        if self.first_within is not None:
            one, other = self.first_within
            lines.append(
                f"{self.within} utterances have the same sources as another of their split, such as {one} and {other}: "
                f"{_MEND}"
            )
        return lines


def sources_of(part: pa.Table, split: str) -> pa.Table:
    """A row an utterance of a part of a catalog: its split, names and fingerprint."""
    names = {name: part[name].cast(pa.string()) for name in NAMES}
    rows = pa.table({**names, "source_xxh3": part["source_xxh3"]}).group_by([*NAMES, "source_xxh3"]).aggregate([])
    rows = rows.filter(pc.is_valid(rows["source_xxh3"]))
    return rows.append_column("split", pa.repeat(pa.scalar(split), len(rows)))


def alike(parts: Sequence[pa.Table]) -> Alike:
    """Which utterances of a dataset may be copies.

    Args:
        parts: of `sources_of`, of all splits; an utterance is in one of them.
    """
    if not parts:
        return Alike()
    table = pa.concat_tables(parts)
    counts = table.group_by("source_xxh3").aggregate([("split", "count")])
    several = counts.filter(pc.greater(counts["split_count"], 1))["source_xxh3"].combine_chunks()
    rows = table.filter(pc.is_in(table["source_xxh3"], value_set=several)).to_pylist()
    across: list[tuple[str, str]] = []
    within: list[tuple[str, str]] = []
    rows.sort(key=lambda row: (_rank(row["split"]), UtteranceName.of(row)))
    for kept, *copies in _groups((row["source_xxh3"], row) for row in rows):
        for row in copies:
            (within if row["split"] == kept["split"] else across).append((_name(row), _name(kept)))
    return Alike(
        across=len(across),
        first_across=min(across, default=None),
        within=len(within),
        first_within=min(within, default=None),
    )


def reject_duplicates(corpus: Corpus, threads: int, on_read: Callable[[], None]) -> Corpus:
    """The corpus, with copies among the rejected, as "duplicate".

    Of utterances whose sources are equal byte for byte one stays: one of test before one of validation before one of
    train, and the first of those. Sources that cannot be read, and empty ones, are not compared.

    Args:
        corpus: its leaks are settled.
        threads: that read.
        on_read: is called for every utterance whose fingerprint is taken.

    Raises:
        InputError: a store fails.
    """
    utterances = corpus.utterances
    with ThreadPoolExecutor(threads) as pool:
        known: list[tuple[int, int]] = []  # fingerprint, place in the corpus
        for place, value in enumerate(pool.map(fingerprint, utterances)):
            known.append((value, place))
            on_read()
        suspects = [place for group in _groups(known) if len(group) > 1 for place in group]
        whole = zip(pool.map(contents, [utterances[place] for place in suspects]), suspects, strict=True)
        groups = _groups((content, place) for content, place in whole if content is not None)
    rejected: dict[int, Rejection] = {}
    for group in groups:
        first, *places = sorted(group, key=lambda place: _rank(utterances[place].split))
        kept = utterances[first]
        why = f"byte for byte the sources of {kept.split}: {kept.name}"
        # One that is listed twice is no copy; planning refuses it by name.
        copies = [place for place in places if utterances[place].key != kept.key]
        rejected.update({place: Rejection.of(utterances[place], "duplicate", why) for place in copies})
    return replace(
        corpus,
        utterances=tuple(utterance for place, utterance in enumerate(utterances) if place not in rejected),
        rejected=(*corpus.rejected, *(rejected[place] for place in sorted(rejected))),
    )


def _groups(pairs: Iterable[tuple[Hashable, T]]) -> list[list[T]]:
    """What has equal keys, in order of appearance."""
    groups: dict[Hashable, list[T]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return list(groups.values())


def _rank(split: str) -> tuple[int, str]:
    return (_KEPT_FIRST.index(split) if split in _KEPT_FIRST else len(_KEPT_FIRST), split)


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['split']}: {UtteranceName.of(row)}"

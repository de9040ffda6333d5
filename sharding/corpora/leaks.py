"""Leaks: a speaker or a video that is on both sides of a split, against what the split promises."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from loaders.dataset.manifest import APART, naming_columns
from loaders.errors import InputError
from sharding.utterance import Corpus, Rejection, Utterance

OnLeak = Literal["refuse", "reject"]

_LEAST_WANTED = ("train", "validation", "test")  # a test split stays comparable with others' only while it is whole
_Shared = Mapping[tuple[str, ...], list[str]]  # splits by names; the split that keeps its utterances comes last


def settle_leaks(corpus: Corpus, on_leak: OnLeak) -> Corpus:
    """The corpus, without leaks.

    Args:
        corpus: ``apart`` says what its splits promise not to share: speakers and videos, videos alone, or neither;
            ``video_names`` which names are of one video.
        on_leak: "reject" moves the utterances that leak to the rejected, with the reason "leak", from all splits but
            one: test keeps its own before validation does, and validation before train. A note says how many are left.

    Raises:
        InputError: ``on_leak`` is "refuse" and there is a leak; the message names it, and what "reject" would leave.
    """
    columns = {kind: naming_columns(kind, corpus.video_names) for kind in APART[corpus.apart]}
    sides = {kind: (names, _shared(corpus.utterances, names)) for kind, names in columns.items()}
    kept, rejected = [], []
    for utterance in corpus.utterances:
        reason = _leaks(utterance, sides)
        if reason is None:
            kept.append(utterance)
        else:
            rejected.append(Rejection.of(utterance, "leak", reason))
    if not rejected:
        return corpus
    left = _left(corpus.utterances, kept)
    if on_leak == "refuse":
        raise InputError(f"{corpus.name}: {_told(corpus, sides)}, which leaves {left}")
    return replace(
        corpus,
        utterances=tuple(kept),
        rejected=(*corpus.rejected, *rejected),
        notes=(*corpus.notes, f"--on-leak reject leaves out {len(rejected)} utterances: left are {left}"),
    )


def emptied(before: Corpus, after: Corpus) -> list[str]:
    """The splits that have utterances in the one and none in the other."""
    return sorted({utterance.split for utterance in before.utterances} - {u.split for u in after.utterances})


def _named(utterance: Utterance, columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(getattr(utterance, column) for column in columns)


def _shared(utterances: Sequence[Utterance], columns: Sequence[str]) -> _Shared:
    """The splits of each speaker or video that is in more than one."""
    splits: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for utterance in utterances:
        splits[_named(utterance, columns)].add(utterance.split)
    return {names: sorted(found, key=_rank) for names, found in sorted(splits.items()) if len(found) > 1}


def _rank(split: str) -> tuple[int, str]:
    return (_LEAST_WANTED.index(split) if split in _LEAST_WANTED else -1, split)


def _leaks(utterance: Utterance, sides: Mapping[str, tuple[Sequence[str], _Shared]]) -> str | None:
    for kind, (columns, shared) in sides.items():
        names = _named(utterance, columns)
        if names in shared and shared[names][-1] != utterance.split:
            return f"its {kind} {'/'.join(names)} is in {shared[names][-1]} too"
    return None


def _told(corpus: Corpus, sides: Mapping[str, tuple[Sequence[str], _Shared]]) -> str:
    """The first leak, how many there are, and the mends; the last of them is to reject."""
    kind, columns, shared = next((kind, columns, shared) for kind, (columns, shared) in sides.items() if shared)
    names, splits = next(iter(shared.items()))
    more = f", and {len(shared) - 1} more {kind}s are in two" if len(shared) > 1 else ""
    speakers = {utterance.speaker for utterance in corpus.utterances if _named(utterance, columns) == names}
    each = ""
    if kind == "video" and len(speakers) > 1:
        each = f", give --video-names speaker if each of its {len(speakers)} speakers has a video of that name"
    return (
        f"{kind} {'/'.join(names)!r} is in the splits {' and '.join(splits)}{more}: mend the lists{each}, or give "
        "--on-leak reject to leave them out of all splits but one"
    )


def _left(utterances: Sequence[Utterance], kept: Sequence[Utterance]) -> str:
    """How many of each split's utterances are left, in the splits' order."""
    before, after = Counter(u.split for u in utterances), Counter(u.split for u in kept)
    return ", ".join(f"{after[split]} of {before[split]} in {split}" for split in sorted(before, key=_rank))

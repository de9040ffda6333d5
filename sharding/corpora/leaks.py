"""Leaks: a speaker or a video that is on both sides of a split, against what the split promises."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from loaders.dataset import APART
from loaders.errors import InputError
from sharding.corpora.utterance import Corpus, Rejection, Utterance

OnLeak = Literal["refuse", "reject"]

_LEAST_WANTED = ("train", "validation", "test")  # a test split stays comparable with others' only while it is whole


def settle_leaks(corpus: Corpus, on_leak: OnLeak) -> Corpus:
    """The corpus, without leaks.

    Args:
        corpus: ``apart`` says what its splits promise not to share: speakers and videos, videos alone, or neither.
        on_leak: "reject" moves the utterances that leak to the rejected, with the reason "leak", from all splits but
            one: test keeps its own before validation does, and validation before train.

    Raises:
        InputError: ``on_leak`` is "refuse" and there is a leak; the message names it.
    """
    sides = {kind: _shared(corpus.utterances, kind) for kind in APART[corpus.apart]}
    if on_leak == "refuse":
        for kind, shared in sides.items():
            for name, splits in shared.items():
                more = f", and {len(shared) - 1} more {kind}s are in two" if len(shared) > 1 else ""
                raise InputError(
                    f"{corpus.name}: {kind} {name!r} is in the splits {' and '.join(splits)}{more}: mend the lists, "
                    "or give --on-leak reject to leave them out of all splits but one"
                )
    kept, rejected = [], []
    for utterance in corpus.utterances:
        reason = _leaks(utterance, sides)
        if reason is None:
            kept.append(utterance)
        else:
            rejected.append(Rejection.of(utterance, "leak", reason))
    return replace(corpus, utterances=tuple(kept), rejected=(*corpus.rejected, *rejected))


def _shared(utterances: Sequence[Utterance], kind: str) -> dict[str, list[str]]:
    """The splits of each speaker or video that is in more than one; the split that keeps it comes last."""
    splits: dict[str, set[str]] = defaultdict(set)
    for utterance in utterances:
        splits[getattr(utterance, kind)].add(utterance.split)
    return {name: sorted(found, key=_rank) for name, found in sorted(splits.items()) if len(found) > 1}


def _rank(split: str) -> tuple[int, str]:
    return (_LEAST_WANTED.index(split) if split in _LEAST_WANTED else -1, split)


def _leaks(utterance: Utterance, sides: dict[str, dict[str, list[str]]]) -> str | None:
    for kind, shared in sides.items():
        name = getattr(utterance, kind)
        if name in shared and shared[name][-1] != utterance.split:
            return f"its {kind} {name} is in {shared[name][-1]} too"
    return None

"""``--negatives`` and ``--evaluation-negatives``: from the words of a command line to what the loader draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loaders.errors import InputError
from loaders.sampling.negatives import KINDS, schedule_of


def training_negatives(words: Sequence[str]) -> dict[int, dict[str, float]]:
    """The schedule that words such as ``other_video=0.7`` and ``4:same_speaker=0.3`` make.

    Each is ``[EPOCH:]KIND[=WEIGHT]``: in the epochs from EPOCH on, which is 0 where none is said, until the next EPOCH
    that is named, negatives are of the kinds that are named for it, by their weights, which are 1 where none is said.
    The order of the words says nothing: shares stand in the order of `KINDS`.

    Raises:
        InputError: no such kind, no weight, a kind that is named twice for an epoch, nothing for epoch 0.
    """
    if not words:
        raise InputError("--negatives is empty: give kinds with their weights, as other_video=0.7 same_speaker=0.3")
    named: dict[int, dict[str, float]] = {}
    for word in words:
        head, has_epoch, rest = word.rpartition(":")
        kind, has_weight, weight = rest.partition("=")
        if (has_epoch and not (head.isascii() and head.isdecimal())) or kind not in KINDS:
            raise InputError(f"--negatives {word}: write [EPOCH:]KIND[=WEIGHT], KIND one of {', '.join(KINDS)}")
        shares = named.setdefault(int(head) if has_epoch else 0, {})
        if kind in shares:
            raise InputError(f"--negatives {word}: {kind} is named for this epoch already: give one weight")
        shares[kind] = _weight(word, weight) if has_weight else 1.0
    ordered = {epoch: {kind: of[kind] for kind in KINDS if kind in of} for epoch, of in named.items()}
    try:
        return schedule_of(ordered)
    except InputError as error:
        raise InputError(f"--{error}") from error


def scoring_negatives(kinds: Sequence[str], rounds: int) -> dict[int, dict[str, float]]:
    """A schedule that has each kind alone for as many epochs as there are rounds, one kind after the other.

    Raises:
        InputError: no such kind, or one that is named twice.
    """
    if not kinds:
        raise InputError("--evaluation-negatives is empty: give one or more kinds, as other_video same_speaker")
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"--evaluation-negatives {kind}: use {', '.join(KINDS)}")
        if kinds.count(kind) > 1:
            raise InputError(f"--evaluation-negatives names {kind} twice: give each kind once")
    return {number * rounds: {kind: 1.0} for number, kind in enumerate(kinds)}


def told(shares: Mapping[str, float]) -> str:
    """Shares in a few words: a kind alone is its name."""
    weighted = {kind: weight for kind, weight in shares.items() if weight > 0}
    return " ".join(weighted) if len(weighted) == 1 else " ".join(f"{kind}={w:g}" for kind, w in weighted.items())


def _weight(word: str, weight: str) -> float:
    try:
        return float(weight)
    except ValueError as error:
        raise InputError(f"--negatives {word}: {weight!r} is no weight: use a number of 0 or more") from error

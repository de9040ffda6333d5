"""Which kinds of negatives an epoch has: shares of kinds, and schedules of shares by epoch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, TypeVar

from loaders.errors import InputError
from loaders.sampling.weights import plain

KINDS = {
    "other_video": "the audio of another video, whoever speaks",
    "other_speaker": "the audio of another speaker",
    "same_speaker": "the same speaker's audio in another video",
    "shifted": "the same video's audio at another time, at least a clip away",
}

Shares = Mapping[str, float]  #: the share of each kind among the negatives; scaled to a sum of 1
Schedule = Mapping[int, Shares]  #: the shares from each of some epochs on, the first of them epoch 0
Negatives = Shares | Schedule

T = TypeVar("T")


def schedule_of(negatives: Negatives) -> dict[int, dict[str, float]]:
    """Shares, or a schedule of them, as a schedule in the order of its epochs.

    Raises:
        InputError: epochs that are none, or nothing for epoch 0; an unknown kind, or weights that are no weights.
    """
    if not isinstance(negatives, Mapping):
        raise InputError(f'negatives: {negatives!r}: give kinds with their weights, as {{"other_video": 1}}')
    entries: dict[Any, Any] = dict(negatives)
    if any(isinstance(value, Mapping) for value in entries.values()):
        for epoch, shares in entries.items():
            if type(epoch) is not int or epoch < 0 or not isinstance(shares, Mapping):
                raise InputError(
                    f"negatives: {epoch!r}: {shares!r}: in a schedule give kinds with their weights for each epoch "
                    'from which on they hold, as {0: {"other_video": 1}, 4: {"same_speaker": 1}}'
                )
        if 0 not in entries:
            raise InputError(f"negatives: the schedule begins at epoch {min(entries)}: say what epoch 0 has")
    else:
        entries = {0: entries}
    found: dict[int, dict[str, float]] = {}
    for epoch, shares in sorted(entries.items()):
        when = f" from epoch {epoch} on" if len(entries) > 1 else ""
        for kind, weight in shares.items():
            if kind not in KINDS:
                raise InputError(f"negatives: unknown kind {kind!r}{when}: use {', '.join(KINDS)}")
            if not (0 <= plain(weight) < float("inf")):
                raise InputError(f"negatives: {kind} has weight {weight!r}{when}: use a number of 0 or more")
        found[epoch] = {kind: plain(weight) for kind, weight in shares.items()}
        if not any(found[epoch].values()):
            raise InputError(f"negatives: no kind has a weight above 0{when}: use for example other_video=1")
    return found


def shares_at(schedule: Mapping[int, T], epoch: int) -> T:
    """What holds in an epoch, of a schedule of shares or of what was made of them."""
    epochs = sorted(schedule)
    return schedule[epochs[bisect_right(epochs, epoch) - 1]]


def as_data(schedule: Schedule) -> dict[str, Any]:
    """A schedule as JSON takes it: shares alone where they hold throughout, otherwise by epoch; in one spelling."""
    told = {str(epoch): dict(sorted(shares.items())) for epoch, shares in sorted(schedule.items())}
    return told["0"] if len(told) == 1 else told

"""Which audio goes with a clip's frames, and whether that is a match.

Of any two positions 2k and 2k + 1 one matches and the other does not, a coin says which: so exactly half of every even
run of positions matches that begins at an even one, be it a global batch, a rank's slice or an epoch.

The sounds of an epoch's negatives are dealt out (`loaders.sampling.dealing`), so that every sound is as likely in a
negative as in a match: by itself it tells nothing. Within a video ("shifted") that is so anyway, and sounds are drawn
one by one: with the clips sorted so that what is excluded is one run of the sorted list, a number below "how many are
left" is drawn, and stepped over that run. Either takes constant time, and no draw is rejected.

Which kinds there are may change from epoch to epoch (`loaders.sampling.negatives`): an epoch's draws are those that its
own shares alone would give, whatever came before.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.dataset.numbering import numbered_in_order
from loaders.errors import InputError
from loaders.sampling import randomness
from loaders.sampling.dealing import Dealing, index_type
from loaders.sampling.negatives import KINDS, Negatives, Shares, schedule_of, shares_at

_log = logging.getLogger(__name__)

DRAWS = 2  #: version of what is drawn: raised when the same (seed, epoch, position) gives other pairs
EVEN = 0.52  #: share of pairs that a sound's video alone may tell without a warning


@dataclass(frozen=True, slots=True)
class Clips:
    """What pairing has to know of clips: one entry a clip in each array."""

    speaker: NDArray[np.int32]
    video: NDArray[np.int32]  #: equal numbers, equal videos, whoever speaks in them
    utterance: NDArray[np.int32]  #: equal numbers, equal utterances, if of one video and one speaker
    start: NDArray[np.float64]  #: seconds from the start of the utterance
    seconds: float  #: length of a clip

    def __len__(self) -> int:
        return len(self.speaker)

    def take(self, rows: NDArray[np.int64]) -> "Clips":
        """Those of some rows."""
        return Clips(self.speaker[rows], self.video[rows], self.utterance[rows], self.start[rows], self.seconds)


@dataclass(frozen=True, slots=True)
class _Shifted:
    """For every clip, a run of places in a sorted list to draw from, less a run within it that is excluded."""

    sorted_clips: NDArray[np.integer[Any]]
    first: NDArray[np.integer[Any]]
    count: NDArray[np.integer[Any]]  #: places that are left to draw from
    excluded: NDArray[np.integer[Any]]  #: first excluded place, counted from ``first``
    excluded_count: NDArray[np.integer[Any]]

    def offered(self) -> NDArray[np.bool_]:
        """Whether a clip has any candidate: (n,)."""
        return self.count > 0

    def guess(self) -> tuple[float, float]:
        """As of `Dealing`: sounds and pictures are of the same videos."""
        return 0.5, 0.0

    def draw(self, clips: NDArray[np.int64], stream: int, counter: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each clip a candidate, all equally likely; every clip must have one."""
        place = randomness.below(self.count[clips].astype(np.int64), stream, counter)
        place += np.where(place >= self.excluded[clips], self.excluded_count[clips], 0)
        candidates: NDArray[np.int64] = self.sorted_clips[self.first[clips] + place].astype(np.int64)
        return candidates


def _runs_of(keys: NDArray[np.integer[Any]]) -> tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]:
    """For each place of a list that is sorted by ``keys``: where the run of its key begins, and how long it is."""
    heads = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    lengths = np.diff(np.r_[heads, len(keys)])
    # What is only needed while this is built counts, too: it stays with the process.
    heads, lengths = heads.astype(index_type(len(keys))), lengths.astype(index_type(len(keys)))
    return np.repeat(heads, lengths), np.repeat(lengths, lengths)


def _unsort(order: NDArray[np.integer[Any]], values: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    out: NDArray[np.integer[Any]] = np.empty(len(order), index_type(len(order)))
    out[order] = values
    return out


def _candidates(kind: str, clips: Clips) -> "Dealing | _Shifted":
    n = len(clips)
    if kind == "shifted":
        order = np.lexsort((clips.start, clips.utterance, clips.speaker, clips.video))
        outer_begin, outer_length = _runs_of(clips.video[order].astype(np.int64))
        begin, length = _overlapping(clips, order)
        return _Shifted(
            sorted_clips=order.astype(index_type(n), copy=False),
            first=_unsort(order, outer_begin),
            count=_unsort(order, outer_length - length),
            excluded=_unsort(order, begin - outer_begin),
            excluded_count=_unsort(order, length),
        )
    everyone = np.broadcast_to(np.int32(0), n)
    if kind == "same_speaker":
        return Dealing(clips.speaker, clips.video)
    return Dealing(everyone, clips.video if kind == "other_video" else clips.speaker)


def _overlapping(clips: Clips, order: NDArray[np.integer[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each place of the list sorted by video, speaker, utterance and start: the run of clips that overlap it.

    Two clips of an utterance overlap when they begin less than a clip apart. Utterances are laid end to end on one
    time line, far enough apart that none overlaps the next.
    """
    start = clips.start[order]
    utterance = numbered_in_order(order, (clips.video, clips.speaker, clips.utterance))
    line = start + utterance * (float(start.max()) + 2 * clips.seconds)
    tolerance = 1e-6 * clips.seconds
    first = np.searchsorted(line, line - clips.seconds + tolerance, side="left")
    last = np.searchsorted(line, line + clips.seconds - tolerance, side="right")
    return first.astype(np.int64), (last - first).astype(np.int64)


class Nearby:
    """Some clips of a set, those at hand together, among which audio is looked for first."""

    def __init__(self, rows: NDArray[np.int64], clips: Clips, kinds: Sequence[str]) -> None:
        """
        Args:
            rows: (k,) of the clips, ascending.
            clips: the set that they are rows of.
            kinds: of negatives, as in `KINDS`.
        """
        self._rows = rows
        some = clips.take(rows)
        self._runs = [_candidates(kind, some) for kind in kinds]
        self._offered = [runs.offered() for runs in self._runs]

    def draw(
        self, kind: int, clips: NDArray[np.int64], stream: int, counter: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """For each clip a candidate of the kind, a negative number where there is none, and whether there is one."""
        runs = self._runs[kind]
        place = np.searchsorted(self._rows, clips)
        found = self._offered[kind][place]
        audio = np.full(len(clips), -1, np.int64)
        audio[found] = self._rows[runs.draw(place[found], stream, counter[found])]
        return audio, found


@dataclass(frozen=True, slots=True)
class _Choice:
    """How the kind of each clip's negative is chosen, for some shares."""

    kinds: list[int]  #: those with a weight, by their numbers in `Pairs`
    cumulative: NDArray[np.float64]  #: (kinds − 1, n): below which draw each one or an earlier one is chosen


class Pairs:
    """The pairing of one set of clips: a pure function of (seed, epoch, position) and a clip."""

    def __init__(self, clips: Clips, negatives: Negatives, seed: int) -> None:
        """
        Args:
            clips: what may be paired.
            negatives: the share of each kind among the negatives, kinds as in `KINDS`; scaled to a sum of 1. A clip for
                which one kind has no candidate takes the others, in their proportions. Or a schedule of such shares,
                see `loaders.sampling.negatives`.
            seed: of the run.

        Raises:
            InputError: an unknown kind, weights that are no weights, or clips that no given kind can serve.
        """
        self._seed = seed
        self._clips = clips
        self._schedule = schedule_of(negatives)
        weighted = [kind for shares in self._schedule.values() for kind, weight in shares.items() if weight > 0]
        self._kinds = list(dict.fromkeys(weighted))
        self._runs = [_candidates(kind, clips) for kind in self._kinds]
        offered = np.stack([runs.offered() for runs in self._runs])
        #: How many of the clips each kind has a candidate for.
        self.offered = {kind: int(of_kind.sum()) for kind, of_kind in zip(self._kinds, offered, strict=True)}
        self._choices = {epoch: self._choice(shares, offered) for epoch, shares in self._schedule.items()}
        self._warn()

    def _choice(self, shares: Shares, offered: NDArray[np.bool_]) -> _Choice:
        numbers = [self._kinds.index(kind) for kind, weight in shares.items() if weight > 0]
        kinds = [self._kinds[number] for number in numbers]
        unserved = np.flatnonzero(~offered[numbers].any(axis=0))
        if len(unserved):
            raise InputError(
                f"negatives: {len(unserved)} of {len(self._clips)} clips have no candidate of kind "
                f"{' or '.join(kinds)} ({'; '.join(KINDS[kind] for kind in kinds)}): add another kind, or data that "
                "offers it"
            )
        # The last kind takes what is left, exactly: no draw can pass a kind without weight. One kind alone takes all.
        if len(kinds) == 1:
            return _Choice(numbers, np.empty((0, len(self._clips))))
        cumulative = np.cumsum(np.array([[shares[kind]] for kind in kinds]) * offered[numbers], axis=0)
        return _Choice(numbers, cumulative[:-1] / cumulative[-1])

    def _warn(self) -> None:
        """Say where sounds cannot be dealt out evenly."""
        for number, kind in enumerate(self._kinds):
            accuracy, uneven = self._runs[number].guess()
            if accuracy > EVEN:
                run = "speaker" if kind == "other_speaker" else "video"
                _log.warning(
                    "negatives of kind %s: the %s of a sound alone tells %.0f %% of these pairs, for %.0f %% of the "
                    "clips are where one %s has more than half of those to choose from: leave clips of it out, or "
                    "give other kinds",
                    kind,
                    run,
                    100 * accuracy,
                    100 * uneven,
                    run,
                )

    def nearby(self, rows: NDArray[np.int64]) -> Nearby:
        """The clips of some rows, ascending, for `draw`."""
        return Nearby(rows, self._clips, self._kinds)

    def draw(
        self,
        epoch: int,
        positions: NDArray[np.int64],
        clips: NDArray[np.int64],
        attempt: int = 0,
        nearby: Nearby | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The audio for the clips at positions of an epoch.

        Args:
            epoch: 0, 1, …
            positions: (n,) places in the epoch.
            clips: (n,) the clips there.
            attempt: another number draws other negatives, of the same matches.
            nearby: where ``clips`` are and their audio is looked for first. A kind that it does not have for a clip
                comes from the whole set, so that kinds keep their shares.

        Returns:
            audio_clips: (n,) whose audio to take; match: (n,) whether it is the clip's own.
        """
        match = matches(self._seed, epoch, positions)
        audio = clips.copy()
        negative = np.flatnonzero(~match)
        own, where = clips[negative], positions[negative]
        which = randomness.uniform(randomness.key(self._seed, epoch, "kind", attempt), where)
        choice = shares_at(self._choices, epoch)
        kind = (which >= choice.cumulative[:, own]).sum(axis=0)
        for place, number in enumerate(choice.kinds):
            runs = self._runs[number]
            stream = randomness.key(self._seed, epoch, "negative", self._kinds[number], attempt)
            chosen = np.flatnonzero(kind == place)
            if nearby is not None:
                audio[negative[chosen]], found = nearby.draw(number, own[chosen], stream, where[chosen])
                chosen = chosen[~found]
            audio[negative[chosen]] = runs.draw(own[chosen], stream, where[chosen])
        return audio, match


def matches(seed: int, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the pair at each position is a match: of 2k and 2k + 1 always exactly one."""
    coin = randomness.bits(randomness.key(seed, epoch, "match"), positions // 2) & np.uint64(1)
    match: NDArray[np.bool_] = coin == (positions & 1).astype(np.uint64)
    return match

"""A step's bytes: drawn, read, checked, and replaced where they are bad."""

import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.buffers import Buffers
from loaders.catalog import Catalog
from loaders.examples import Examples, Sampler
from loaders.pipeline import Encoded
from loaders.storage import CorruptMemberError, Shards, ShardSource

_log = logging.getLogger(__name__)

FILMSTRIP, AUDIO, GAZE = "filmstrip", "audio", "gaze"
_ATTEMPTS = 100
_DRAWN = 256  # examples at a time: of a few, numpy's calls take the time, not their length


class TooManyBadClipsError(Exception):
    """More of the split is unreadable than the run was told to bear."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A rank's share of one step, encoded."""

    epoch: int
    step: int
    examples: Examples
    encoded: Encoded
    gaze: NDArray[np.float32]  #: (B, statistics)
    gaze_valid: NDArray[np.bool_]  #: (B,)
    emotion: NDArray[np.int64]  #: (B,)


@dataclass(frozen=True, slots=True)
class _Picture:
    """What an example takes of the clip that is seen."""

    filmstrip: NDArray[np.uint8]
    gaze: NDArray[Any] | None
    emotion: int


class _Kept:
    """The members of a step, copied out of their shards into one piece of memory."""

    def __init__(self, memory: NDArray[np.uint8]) -> None:
        self._memory, self._at = memory, 0

    def copy(self, view: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy of what is mapped."""
        end = self._at + view.size
        if end > self._memory.size:  # a substitute may be longer than what it stands in for
            return view.copy()
        copied = self._memory[self._at : end]
        copied[:] = view
        self._at = end
        return copied


class _BadClipError(Exception):
    """A clip cannot be used."""

    def __init__(self, clip: int, why: str) -> None:
        super().__init__(why)
        self.clip = clip


class Reader:
    """Reads the steps of one rank. What it counts is for `loaders.stats`."""

    def __init__(
        self,
        catalogs: Sequence[Catalog],
        sampler: Sampler,
        positions: Callable[[int], NDArray[np.int64]],
        max_bad_fraction: float,
        sources: Sequence[ShardSource | None] | None = None,
        *,
        audio: bool = True,
    ) -> None:
        """
        Args:
            catalogs: of the split, one a dataset, opened with the members that they have of filmstrip, audio and gaze.
            sampler: draws the examples, of clips numbered through the catalogs.
            positions: a step's positions for this rank.
            max_bad_fraction: share of the split's clips that may be bad before the run stops.
            sources: where each catalog's shards are; None: beside it.
            audio: whether it is read.
        """
        self._with_audio = audio
        self._catalogs = tuple(catalogs)
        self._sampler = sampler
        self._positions = positions
        self._ends: list[int] = np.cumsum([len(catalog) for catalog in catalogs]).tolist()
        self._max_bad = int(max_bad_fraction * self._ends[-1])
        self._shards = [
            Shards(catalog, source) for catalog, source in zip(catalogs, sources or [None] * len(catalogs), strict=True)
        ]
        self._drawn: dict[tuple[int, int], Examples] = {}
        self._buffers = Buffers((), np.uint8)
        self._held: frozenset[tuple[int, ...]] = frozenset()
        self._gaze = [catalog.manifest.member(GAZE) for catalog in catalogs]
        self._gaze_length = next((int(np.prod(member.shape)) for member in self._gaze if member is not None), 103)
        self.bad: dict[int, str] = {}  #: key of every clip found bad, by its number
        self.substitutions = 0  #: examples replaced, a bad clip counting as often as it was drawn
        self.bytes = 0  #: bytes of members read and checked
        self.seconds = 0.0  #: seconds spent drawing, reading and checking

    def read(self, epoch: int, step: int) -> Loaded:
        """The examples of a step with their bytes.

        Raises:
            TooManyBadClipsError: more clips are bad than allowed.
            InputError: a shard is missing or has another length than declared.
        """
        start = time.perf_counter()
        positions = self._positions(step)
        self._hold(epoch, positions)
        examples = self._draw(epoch, step)
        kept = _Kept(self._buffers.lend(self._bytes_of(examples)))
        filmstrips, audio = [], []
        gaze = np.zeros((len(positions), self._gaze_length), np.float32)
        emotion = np.empty(len(positions), np.int64)
        gaze_valid = np.zeros(len(positions), np.bool_)
        for index in range(len(positions)):
            for attempt in range(_ATTEMPTS):
                if attempt > 0:
                    substitute = self._sampler.examples(epoch, positions[index : index + 1], attempt)
                    examples = examples.replaced(index, substitute)
                    self.substitutions += 1
                try:
                    picture = self._picture(int(examples.clip[index]))
                    sound = self._required(AUDIO, int(examples.audio_clip[index])) if self._with_audio else None
                except _BadClipError as error:
                    self._report(error)
                    continue
                break
            else:
                raise TooManyBadClipsError(f"{_ATTEMPTS} draws in a row gave bad clips: run sharding/verify.py")
            filmstrips.append(kept.copy(picture.filmstrip))
            if sound is not None:
                audio.append(kept.copy(sound))
                self.bytes += sound.size
            emotion[index] = picture.emotion
            self.bytes += picture.filmstrip.size
            if picture.gaze is not None:
                gaze[index], gaze_valid[index] = picture.gaze, True
        self.seconds += time.perf_counter() - start
        return Loaded(
            epoch, step, examples, Encoded(filmstrips, audio, examples.first_frame), gaze, gaze_valid, emotion
        )

    def _draw(self, epoch: int, step: int) -> Examples:
        """A step's examples, drawn together with those of the steps after it."""
        if (epoch, step) not in self._drawn:
            share = len(self._positions(step))
            steps = range(step, step + max(1, _DRAWN // share if share else 1))
            positions = [self._positions(later) for later in steps]  # none beyond the epoch's end
            ends = np.cumsum([len(of_step) for of_step in positions])
            drawn = self._sampler.examples(epoch, np.concatenate(positions)).split(ends[:-1])
            self._drawn = {(epoch, later): run for later, run in zip(steps, drawn, strict=True)}
        return self._drawn.pop((epoch, step))

    def _bytes_of(self, examples: Examples) -> int:
        """What the examples' members take together."""
        total = 0
        for member, clips in ((FILMSTRIP, examples.clip), (AUDIO, examples.audio_clip))[: 1 + self._with_audio]:
            for catalog, end in zip(self._catalogs, self._ends, strict=True):
                here = clips[(end - len(catalog) <= clips) & (clips < end)] - (end - len(catalog))
                total += int(catalog.members[member].size[here].sum())
        return total

    def _hold(self, epoch: int, positions: NDArray[np.int64]) -> None:
        """Tell the sources which shards are drawn from now, and which come next, when that changes."""
        now, soon = self._sampler.stretches(epoch, positions)
        held = frozenset(stretch.key for stretch in now)
        if held == self._held or not now:
            return
        for dataset, shards in enumerate(self._shards):
            current = {n: None for stretch in now if stretch.dataset == dataset for n in stretch.window.shards.tolist()}
            later = {n: None for stretch in soon if stretch.dataset == dataset for n in stretch.window.shards.tolist()}
            shards.source.hold([*current], [n for n in later if n not in current])
        self._held = held

    @property
    def check_seconds(self) -> float:
        """Seconds of `seconds` spent on checksums."""
        return sum(shards.check_seconds for shards in self._shards)

    def close(self) -> None:
        """Release the shards."""
        for shards in self._shards:
            shards.close()

    def locate(self, clip: int) -> tuple[int, int]:
        """The dataset of a clip, and its row in that dataset's catalog."""
        dataset = bisect_right(self._ends, clip)
        return dataset, clip - (self._ends[dataset - 1] if dataset else 0)

    def _picture(self, clip: int) -> _Picture:
        dataset, row = self.locate(clip)
        gaze, member = None, self._gaze[dataset]
        if member is not None:
            file = self._read(GAZE, clip)
            if file is not None:
                # An .npy file ends in its data; how long that is, the manifest says.
                dtype = np.dtype(member.dtype)
                gaze = file[file.size - self._gaze_length * dtype.itemsize :].view(dtype)
        return _Picture(self._required(FILMSTRIP, clip), gaze, int(self._catalogs[dataset].emotion[row]))

    def _required(self, member: str, clip: int) -> NDArray[np.uint8]:
        file = self._read(member, clip)
        if file is None:
            raise _BadClipError(clip, f"it has no {member}")
        return file

    def _read(self, member: str, clip: int) -> NDArray[np.uint8] | None:
        dataset, row = self.locate(clip)
        try:
            return self._shards[dataset].view(member, row)
        except CorruptMemberError as error:
            raise _BadClipError(clip, str(error)) from error

    def _report(self, error: _BadClipError) -> None:
        if error.clip in self.bad:
            return
        dataset, row = self.locate(error.clip)
        catalog = self._catalogs[dataset]
        key = str(catalog.table(["key"])["key"][row])
        self.bad[error.clip] = key
        _log.warning("bad clip %s (row %d of %s): %s; another takes its place", key, row, catalog.folder, error)
        if len(self.bad) > self._max_bad:
            raise TooManyBadClipsError(
                f"{len(self.bad)} of {self._ends[-1]} clips of {catalog.folder} are bad, the last {key}: "
                "run sharding/verify.py --repair, or raise max_bad_fraction"
            )

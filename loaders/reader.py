"""A step's bytes: drawn, read, checked, and replaced where they are bad."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loaders.catalog import Catalog
from loaders.examples import Examples, Sampler
from loaders.pipeline import Encoded
from loaders.storage import CorruptMemberError, Shards

_log = logging.getLogger(__name__)

FILMSTRIP, AUDIO, GAZE = "filmstrip", "audio", "gaze"
_ATTEMPTS = 100


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


class Reader:
    """Reads the steps of one rank. What it counts is for `loaders.stats`."""

    def __init__(
        self,
        catalog: Catalog,
        sampler: Sampler,
        positions: Callable[[int], NDArray[np.int64]],
        max_bad_fraction: float,
    ) -> None:
        """
        Args:
            catalog: of the split, opened with the members that it has of filmstrip, audio and gaze.
            sampler: draws the examples.
            positions: a step's positions for this rank.
            max_bad_fraction: share of the split's clips that may be bad before the run stops.
        """
        self._catalog = catalog
        self._sampler = sampler
        self._positions = positions
        self._max_bad = int(max_bad_fraction * len(catalog))
        self._shards = Shards(catalog)
        member = catalog.manifest.member(GAZE)
        self._gaze_dtype = np.dtype(member.dtype if member else np.float32)
        self._gaze_length = int(np.prod(member.shape)) if member else 103
        self.bad: dict[int, str] = {}  #: key of every clip found bad, by catalog row
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
        examples = self._sampler.examples(epoch, positions)
        filmstrips, audio = [], []
        gaze = np.zeros((len(positions), self._gaze_length), np.float32)
        gaze_valid = np.zeros(len(positions), np.bool_)
        for index in range(len(positions)):
            for attempt in range(_ATTEMPTS):
                if attempt > 0:
                    substitute = self._sampler.examples(epoch, positions[index : index + 1], attempt)
                    examples = examples.replaced(index, substitute)
                    self.substitutions += 1
                try:
                    members = self._members(int(examples.clip[index]), int(examples.audio_clip[index]))
                except CorruptMemberError as error:
                    self._report(error)
                    continue
                break
            else:
                raise TooManyBadClipsError(f"{_ATTEMPTS} draws in a row gave bad clips: run sharding/verify.py")
            strip, sound, statistics = members
            filmstrips.append(strip)
            audio.append(sound)
            self.bytes += strip.size + sound.size
            if statistics is not None:
                # An .npy file ends in its data; how long that is, the manifest says.
                tail = statistics[statistics.size - self._gaze_length * self._gaze_dtype.itemsize :]
                gaze[index] = tail.view(self._gaze_dtype)
                gaze_valid[index] = True
        emotion = self._catalog.emotion[examples.clip].astype(np.int64)
        self.seconds += time.perf_counter() - start
        return Loaded(
            epoch, step, examples, Encoded(filmstrips, audio, examples.first_frame), gaze, gaze_valid, emotion
        )

    def close(self) -> None:
        """Release the shards."""
        self._shards.close()

    def _members(
        self, clip: int, audio_clip: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8] | None]:
        strip = self._shards.read(FILMSTRIP, clip)
        sound = self._shards.read(AUDIO, audio_clip)
        if strip is None or sound is None:
            raise CorruptMemberError(clip if strip is None else audio_clip, "a required member", self._catalog.folder)
        gaze = self._shards.read(GAZE, clip) if GAZE in self._catalog.members else None
        return strip, sound, gaze

    def _report(self, error: CorruptMemberError) -> None:
        if error.clip in self.bad:
            return
        key = str(self._catalog.table(["key"])["key"][error.clip])
        self.bad[error.clip] = key
        _log.warning("bad clip %s (row %d): %s; another takes its place", key, error.clip, error)
        if len(self.bad) > self._max_bad:
            raise TooManyBadClipsError(
                f"{len(self.bad)} of {len(self._catalog)} clips of {self._catalog.folder} are bad, the last {key}: "
                "run sharding/verify.py --repair, or raise max_bad_fraction"
            )

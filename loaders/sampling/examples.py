"""Everything that is random about an example: a pure function of (seed, epoch, position).

An example is a clip's frames and gaze, some clip's audio, and whether the two match. What stands here is decided before
a byte is read, so any batch can be made again, on any machine, from three numbers.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loaders.dataset.catalog import Catalog
from loaders.errors import InputError
from loaders.sampling import randomness
from loaders.sampling.frames import FrameChoice, Sample
from loaders.sampling.mixture import DatasetSize, MixedOrder, WindowSlice
from loaders.sampling.negatives import KINDS, Negatives
from loaders.sampling.pairs import Clips, Nearby, Pairs

_log = logging.getLogger(__name__)

_NEARBY = 64  # windows whose candidates are kept: those of a few node groups and datasets, and the next ones


@dataclass(frozen=True, slots=True)
class Examples:
    """A run of examples, one entry, or row, each in every array."""

    clip: NDArray[np.int64]  #: catalog row of the frames and the gaze, counted through all datasets
    audio_clip: NDArray[np.int64]  #: catalog row of the audio, likewise
    match: NDArray[np.bool_]  #: whether the audio is the clip's own
    frames: NDArray[np.int16]  #: (B, T), which of the clip's frames, rising
    seed: NDArray[np.int64]  #: for the augmentation

    def __len__(self) -> int:
        return len(self.clip)

    def split(self, at: NDArray[np.int64]) -> list["Examples"]:
        """The runs that begin at 0 and at each of ``at``, as `numpy.split` cuts them."""
        columns = [np.split(getattr(self, name), at) for name in self.__slots__]
        return [Examples(*run) for run in zip(*columns, strict=True)]

    def replaced(self, index: int, other: "Examples") -> "Examples":
        """With entry ``index`` taken from the single entry of ``other``."""
        fields = {name: getattr(self, name).copy() for name in self.__slots__}
        for name, column in fields.items():
            column[index] = getattr(other, name)[0]
        return Examples(**fields)


class Sampler:
    """Draws the examples of one split, of one dataset or several.

    Clips are numbered through the datasets' catalogs, laid end to end.
    """

    def __init__(
        self,
        catalogs: Catalog | Sequence[Catalog],
        *,
        seed: int,
        training: bool,
        frames: int,
        stride: int = 1,
        sample: Sample = "window",
        negatives: Negatives | None,
        order: MixedOrder | None = None,
    ) -> None:
        """
        Args:
            catalogs: of the split, one a dataset.
            seed: of the run.
            training: shuffled, with random windows of frames; otherwise in catalog order with the middle window.
            frames: of an example, at most the clips' own.
            stride, sample: which ones, see `loaders.sampling.frames`.
            negatives: kinds of negatives with their weights, or a schedule of them by epoch, see
                `loaders.sampling.negatives`; None pairs nothing: every clip comes with its own audio. A negative is
                always of the clip's own dataset: its sound would tell otherwise.
            order: which clip stands where; by default every clip at one position of each epoch.

        Raises:
            InputError: negatives that the split cannot offer.
        """
        catalogs = (catalogs,) if isinstance(catalogs, Catalog) else tuple(catalogs)
        self._seed = seed
        self._training = training
        self.frames = FrameChoice(catalogs[0].manifest.clip.frames, frames, stride, sample)  #: of each example
        lengths = [len(catalog) for catalog in catalogs]
        self._first_row = np.cumsum(lengths) - lengths
        self._lengths = lengths
        self._order = order or MixedOrder(
            [DatasetSize(catalog.shard_clips) for catalog in catalogs], seed=seed, shuffle=training, global_batch=1
        )
        self._pairs: list[Pairs] = []
        self._nearby: OrderedDict[tuple[int, ...], Nearby] = OrderedDict()
        if negatives is not None:
            for catalog in catalogs:
                clips = Clips(
                    catalog.speaker, catalog.video, catalog.utterance, catalog.start, catalog.manifest.clip.seconds
                )
                self._pairs.append(Pairs(clips, negatives, seed))
            _require_offered(self._pairs, sum(lengths))

    def examples(self, epoch: int, positions: NDArray[np.int64], attempt: int = 0) -> Examples:
        """The examples at positions of an epoch.

        ``attempt`` 1, 2, … draws a substitute for an example whose bytes turned out to be bad: another clip of those at
        hand, and other audio, but the same answer to whether they match.
        """
        placed = self._order.at(epoch, positions)
        clip = np.empty(len(positions), np.int64)
        audio_clip = np.empty(len(positions), np.int64)
        match = np.ones(len(positions), np.bool_)
        for number, window_slice in enumerate(placed.window_slices):
            here = np.flatnonzero(placed.window_slice == number)
            row, where = placed.row[here], positions[here]
            if attempt > 0:
                stream = randomness.key(self._seed, epoch, "substitute", attempt)
                window = window_slice.window
                row = window.row(randomness.below(np.full(len(here), window.clips), stream, where))
            audio_row = row
            if self._pairs:
                pairs = self._pairs[window_slice.dataset]
                audio_row, match[here] = pairs.draw(epoch, where, row, attempt, self._nearby_of(window_slice))
            clip[here] = self._first_row[window_slice.dataset] + row
            audio_clip[here] = self._first_row[window_slice.dataset] + audio_row
        frames = self.frames.draw(self._seed, epoch, positions, training=self._training)
        seed = randomness.bits(randomness.key(self._seed, epoch, "augment"), positions).view(np.int64)
        return Examples(clip, audio_clip, match, frames, seed)

    def window_slices(self, epoch: int, positions: NDArray[np.int64]) -> tuple[list[WindowSlice], list[WindowSlice]]:
        """The windows of shards that positions of an epoch draw from, and those that come after them."""
        now = list(self._order.window_slices(epoch, positions))
        return now, [self._order.after(window_slice) for window_slice in now]

    def _nearby_of(self, window_slice: WindowSlice) -> Nearby | None:
        """The clips of a window, None where they are the whole dataset."""
        window = window_slice.window
        if window.clips == self._lengths[window_slice.dataset]:
            return None
        nearby = self._nearby.get(window_slice.key)
        if nearby is None:
            rows = np.sort(window.row(np.arange(window.clips)))
            self._nearby[window_slice.key] = nearby = self._pairs[window_slice.dataset].nearby(rows)
            if len(self._nearby) > _NEARBY:
                self._nearby.popitem(last=False)
        else:
            self._nearby.move_to_end(window_slice.key)
        return nearby


def _require_offered(pairs: Sequence[Pairs], clips: int) -> None:
    """Raise InputError where a kind is asked for that no clip offers; say so where some do not."""
    for kind in pairs[0].offered:
        offered = sum(of_dataset.offered[kind] for of_dataset in pairs)
        if offered == 0:
            raise InputError(
                f"negatives: none of {clips} clips has a candidate of kind {kind} ({KINDS[kind]}), so its weight has "
                "no effect: leave it out, or give data that offers it"
            )
        if offered < clips:
            _log.warning(
                "negatives: %d of %d clips have no candidate of kind %s (%s): they take the other kinds instead",
                clips - offered,
                clips,
                kind,
                KINDS[kind],
            )

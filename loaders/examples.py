"""Everything that is random about an example: a pure function of (seed, epoch, position).

An example is a clip's frames and gaze, some clip's audio, and whether the two match. What stands here is decided before
a byte is read, so any batch can be made again, on any machine, from three numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loaders import randomness
from loaders.catalog import Catalog
from loaders.order import Order
from loaders.pairs import Clips, Pairs


@dataclass(frozen=True, slots=True)
class Examples:
    """A run of examples, one entry each in every array."""

    clip: NDArray[np.int64]  #: catalog row of the frames and the gaze
    audio_clip: NDArray[np.int64]  #: catalog row of the audio
    match: NDArray[np.bool_]  #: whether the audio is the clip's own
    first_frame: NDArray[np.int64]  #: where the window of frames, and of the audio under them, begins
    seed: NDArray[np.int64]  #: for the augmentation

    def __len__(self) -> int:
        return len(self.clip)

    def replaced(self, index: int, other: "Examples") -> "Examples":
        """With entry ``index`` taken from the single entry of ``other``."""
        fields = {name: getattr(self, name).copy() for name in self.__slots__}
        for name, column in fields.items():
            column[index] = getattr(other, name)[0]
        return Examples(**fields)


class Sampler:
    """Draws the examples of one split."""

    def __init__(
        self, catalog: Catalog, *, seed: int, training: bool, frames: int, negatives: Mapping[str, float] | None
    ) -> None:
        """
        Args:
            catalog: the split's clips.
            seed: of the run.
            training: shuffled, with random windows of frames; otherwise in catalog order with the middle window.
            frames: length of the window, at most the clips' own.
            negatives: kinds of negatives with their weights, see `loaders.pairs`; None pairs nothing: every clip comes
                with its own audio.

        Raises:
            InputError: negatives that the split cannot offer.
        """
        self._seed = seed
        self._training = training
        self._windows = catalog.manifest.clip.frames - frames + 1
        self._clips = len(catalog)
        self._order = Order(self._clips, seed, shuffle=training)
        self._pairs = None
        if negatives is not None:
            seconds = catalog.manifest.clip.seconds
            clips = Clips(catalog.speaker, catalog.video, catalog.utterance, catalog.start, seconds)
            self._pairs = Pairs(clips, negatives, seed)

    def examples(self, epoch: int, positions: NDArray[np.int64], attempt: int = 0) -> Examples:
        """The examples at positions of an epoch.

        ``attempt`` 1, 2, … draws a substitute for an example whose bytes turned out to be bad: another clip, and
        other audio, but the same answer to whether they match.
        """
        if attempt == 0:
            clip = self._order.at(epoch, positions)
        else:
            stream = randomness.key(self._seed, epoch, "substitute", attempt)
            clip = randomness.below(np.full(len(positions), self._clips), stream, positions)
        if self._pairs is None:
            audio_clip, match = clip, np.ones(len(positions), np.bool_)
        else:
            audio_clip, match = self._pairs.draw(epoch, positions, clip, attempt)
        if self._training:
            stream = randomness.key(self._seed, epoch, "window")
            first_frame = randomness.below(np.full(len(positions), self._windows), stream, positions)
        else:
            first_frame = np.full(len(positions), (self._windows - 1) // 2)
        seed = randomness.bits(randomness.key(self._seed, epoch, "augment"), positions).view(np.int64)
        return Examples(clip, audio_clip, match, first_frame, seed)

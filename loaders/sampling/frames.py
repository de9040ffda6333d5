"""Which frames of a clip an example takes, and under which of them its sound is heard.

All are functions of (seed, epoch, position), for many positions at a time.
"""

from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from loaders.errors import InputError
from loaders.sampling import randomness

#: "window": so many frames, one `stride` after the other, and the sound under them; at a random place in training, in
#: the middle otherwise. "random": any, in rising order, in training. "even": the middles of equal parts of the clip.
#: The last two span the clip, and come with all of its sound.
Sample = Literal["window", "random", "even"]

_CLIPS_TOGETHER = 4096  # drawn at a time, so that all frames' numbers take little memory


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """So many frames of a clip's ``given``, chosen in one way."""

    given: int  #: frames of a clip
    count: int  #: frames of an example
    stride: int = 1  #: from one frame of a window to the next
    sample: Sample = "window"

    @property
    def is_whole(self) -> bool:
        """Whether examples have all frames."""
        return self.count == self.given

    @property
    def span(self) -> int:
        """Consecutive frames under which an example's sound is heard."""
        return (self.count - 1) * self.stride + 1 if self.sample == "window" else self.given

    def draw(self, seed: int, epoch: int, positions: NDArray[np.int64], *, training: bool) -> NDArray[np.int16]:
        """The frames' numbers, rising, (B,) → (B, count)."""
        if self.is_whole:
            return np.broadcast_to(np.arange(self.count, dtype=np.int16), (len(positions), self.count))
        if self.sample == "even":
            even = np.array(evenly_spaced(self.given, self.count), np.int16)
            return np.broadcast_to(even, (len(positions), self.count))
        if self.sample == "random":
            return self._random(randomness.key(seed, epoch, "frames"), positions)
        windows = self.given - self.span + 1
        if training:
            stream = randomness.key(seed, epoch, "window")
            first = randomness.below(np.full(len(positions), windows), stream, positions)
        else:
            first = np.full(len(positions), (windows - 1) // 2)
        return (first[:, None] + np.arange(self.count) * self.stride).astype(np.int16)

    def _random(self, stream: int, positions: NDArray[np.int64]) -> NDArray[np.int16]:
        """Every set of frames is as likely as any: those to which the smallest of ``given`` numbers fell."""
        chosen = np.empty((len(positions), self.count), np.int16)
        each = np.arange(self.given)
        for first in range(0, len(positions), _CLIPS_TOGETHER):
            some = slice(first, first + _CLIPS_TOGETHER)
            drawn = randomness.bits(stream, positions[some, None] * self.given + each)
            chosen[some] = np.argpartition(drawn, self.count - 1, axis=1)[:, : self.count]
        chosen.sort(axis=1)
        return chosen

    def heard_from(self, frames: NDArray[np.int16]) -> NDArray[np.int64]:
        """The frame at which each example's sound begins, (B, count) → (B,)."""
        if self.sample == "window":
            return frames[:, 0].astype(np.int64)
        return np.zeros(len(frames), np.int64)


def evenly_spaced(given: int, wanted: int) -> list[int]:
    """Which of ``given`` frames to take so that ``wanted`` are spread evenly: the middles of equal parts."""
    return [(2 * number + 1) * given // (2 * wanted) for number in range(wanted)]


def frame_choice(given: int, count: int, stride: int, sample: str, *, training: bool) -> FrameChoice:
    """What is asked for, if it can be had.

    Raises:
        InputError: it cannot, or an option of it has no effect.
    """
    if sample not in get_args(Sample):
        raise InputError(f"sample is {sample!r}: use window, random or even")
    if sample == "random" and not training and count < given:
        raise InputError("sample is 'random', which is for training: use even, or window, whose middle one it is then")
    if stride != 1 and sample != "window":
        raise InputError(f"stride is {stride} and sample {sample!r}, which has none: leave it away, or use window")
    if stride != 1 and count == 1:
        raise InputError(f"stride is {stride} and frames is 1, between which there is none: leave it away")
    choice = FrameChoice(given, count, stride, cast(Sample, sample))
    if choice.span > given:
        most = (given - 1) // stride + 1
        raise InputError(
            f"{count} frames at a stride of {stride} span {choice.span}, and clips have {given}: use {most} at most"
        )
    return choice

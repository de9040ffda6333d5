"""Networks that know nothing, simulated: answers that have nothing to do with what is asked, but with the speakers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.sampling.pairs import Clips, Pairs

Draw = np.random.Generator
Floats = NDArray[np.float64]

CLASSES = 7
#: How often each class is stated, as uneven as in OMG.
STATED = np.array([0.30, 0.28, 0.16, 0.12, 0.07, 0.04, 0.03])
#: How often each is said.
SAID = np.array([0.40, 0.25, 0.15, 0.08, 0.06, 0.04, 0.02])
#: The scores that answers have which are drawn by SAID whatever is stated.
TRUE = {
    "micro_f1": float(STATED @ SAID),
    "macro_f1": float(np.mean(2 * STATED * SAID / (STATED + SAID))),
    "uar": 1 / CLASSES,
    "ccc": 0.0,
    "pearson": 0.0,
    "rmse": float(np.hypot(0.3, 0.2)),
}


@dataclass(frozen=True, slots=True)
class Utterances:
    """Of some speakers; what is stated of them hangs together within a speaker."""

    speaker: NDArray[np.int64]
    stated: NDArray[np.int64]  #: codes
    number: Floats


def utterances(draw: Draw, speakers: int, each: int) -> Utterances:
    """As many speakers with 1 … 2·each − 1 utterances, half of whose labels are their speaker's."""
    speaker = np.repeat(np.arange(speakers), draw.integers(1, 2 * each, speakers))
    return Utterances(speaker, _classes(draw, speaker, STATED, 0.5), 0.3 * _numbers(draw, speaker, 0.5))


def _classes(draw: Draw, speaker: NDArray[np.int64], shares: Floats, own: float) -> NDArray[np.int64]:
    """Codes, of which a share ``own`` is their speaker's."""
    theirs = draw.choice(len(shares), speaker.max() + 1, p=shares)[speaker]
    return np.where(draw.random(len(speaker)) < own, theirs, draw.choice(len(shares), len(speaker), p=shares))


def _numbers(draw: Draw, speaker: NDArray[np.int64], own: float) -> Floats:
    """Of mean 0 and variance 1, of which a share ``own`` is from speaker to speaker."""
    theirs = draw.normal(size=speaker.max() + 1)[speaker]
    numbers: Floats = np.sqrt(own) * theirs + np.sqrt(1 - own) * draw.normal(size=len(speaker))
    return numbers


#: How much of an answer is the speaker's, whatever is said: none, half, all.
ANSWERS: Mapping[str, float] = {"independent": 0.0, "half the speaker's": 0.5, "the speaker's": 1.0}


def answers(draw: Draw, of: Utterances, own: float) -> tuple[NDArray[np.int64], Floats]:
    """Codes and numbers that a network says of each utterance."""
    return _classes(draw, of.speaker, SAID, own), 0.2 * _numbers(draw, of.speaker, own)


def one_hot(codes: NDArray[np.int64]) -> Floats:
    return np.eye(CLASSES)[codes]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Pairs of several rounds, as the loader draws them."""

    video: NDArray[np.int64]  #: (N,) clips
    audio: NDArray[np.int64]
    match: NDArray[np.int64]
    speaker: NDArray[np.int32]  #: of each clip

    @property
    def units(self) -> NDArray[np.int32]:
        return np.stack([self.speaker[self.video], self.speaker[self.audio]], axis=1)


def pairs(draw: Draw, speakers: int, each: int, rounds: int) -> Drawn:
    """Of speakers with 1 … 2·each − 1 clips, in two videos where there are two."""
    speaker = np.repeat(np.arange(speakers), draw.integers(1, 2 * each, speakers)).astype(np.int32)
    clips = len(speaker)
    video = (2 * speaker + np.arange(clips) % 2).astype(np.int32)
    drawing = Pairs(
        Clips(speaker, video, np.arange(clips, dtype=np.int32), np.zeros(clips), 2.0),
        {"other_video": 1.0},
        int(draw.integers(1 << 30)),
    )
    video_clip, audio_clip, match = [], [], []
    for number in range(rounds):
        order = draw.permutation(clips).astype(np.int64)
        audio, is_match = drawing.draw(number, np.arange(clips), order)
        video_clip.append(order)
        audio_clip.append(audio)
        match.append(is_match.astype(np.int64))
    return Drawn(np.concatenate(video_clip), np.concatenate(audio_clip), np.concatenate(match), speaker)


def _tied(draw: Draw, of: Drawn, number: NDArray[Any], width: int) -> Floats:
    """The product of fixed embeddings, one a picture's and one a sound's number."""
    seen, heard = (draw.normal(size=(number.max() + 1, width)) for _ in range(2))
    product: Floats = np.einsum("nk,nk->n", seen[number[of.video]], heard[number[of.audio]])
    return product


def _added(draw: Draw, of: Drawn, number: NDArray[Any]) -> Floats:
    seen, heard = (draw.normal(size=number.max() + 1) for _ in range(2))
    total: Floats = seen[number[of.video]] + heard[number[of.audio]] + 0.3
    return total


#: What a network says of pairs: more than 0 is a match.
MATCHERS: Mapping[str, Callable[[Draw, Drawn], Floats]] = {
    "independent": lambda draw, of: draw.normal(size=len(of.video)),
    "a score a clip": lambda draw, of: _added(draw, of, np.arange(len(of.speaker))),
    "a score a speaker": lambda draw, of: _added(draw, of, of.speaker),
    "an embedding a clip": lambda draw, of: _tied(draw, of, np.arange(len(of.speaker)), 16),
    "an embedding a speaker": lambda draw, of: _tied(draw, of, of.speaker, 16),
    "a small embedding a speaker": lambda draw, of: _tied(draw, of, of.speaker, 2),
    "that mostly says yes": lambda draw, of: _tied(draw, of, of.speaker, 16) + 4,
}

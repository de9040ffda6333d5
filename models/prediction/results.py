"""What a run says of a video: by window of time, target and modality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from loaders.dataset.labels import Label

MODALITIES = ("audio", "visual", "joint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one modality says of one target: one of the two, as the target has classes or is a number."""

    probabilities: Mapping[str, float] | None = None  #: by class, in the classes' order; they sum to 1
    number: float | None = None  #: in the label's own units

    @property
    def best(self) -> str | None:
        """The most probable class; None of a number."""
        if self.probabilities is None:
            return None
        return max(self.probabilities, key=self.probabilities.__getitem__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the modalities say of one target; None for those that there is nothing to say from."""

    audio: Answer | None = None
    visual: Answer | None = None
    joint: Answer | None = None

    def items(self) -> Iterator[tuple[str, Answer | None]]:
        """Each modality with its answer, in the order of `MODALITIES`."""
        return ((name, getattr(self, name)) for name in MODALITIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What is said of a stretch of time, as long as the clips that the run was trained on."""

    start: float  #: seconds of the file, from its first picture
    end: float  #: the same, without what a short video was padded with
    targets: Mapping[str, Answers]  #: by the target's name
    lacks: Mapping[str, str] = field(default_factory=dict)  #: what of the clip is not there, and a word for why


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoPrediction:
    """What is said of a video, or of a part of one."""

    path: str
    start: float  #: seconds of the file at which the part begins; 0 of a whole one
    seconds: float  #: that it lasts, as far as there are both pictures and sound
    labels: tuple[Label, ...]  #: the targets
    targets: Mapping[str, Answers]
    """By the target's name: the mean over the clips that lie end to end, as an evaluation has it of an utterance."""
    windows: tuple[Window, ...]  #: those clips, or one every so many seconds where that was asked for
    notes: tuple[str, ...]  #: what a person should know: what was not there, and what that means


def mean_of(windows: Sequence[Window], labels: Sequence[Label]) -> dict[str, Answers]:
    """The mean of what is said of windows, by target: of each modality over those that have it."""
    found: dict[str, Answers] = {}
    for label in labels:
        said: dict[str, Answer] = {}
        for modality in MODALITIES:
            answers = [a for window in windows if (a := getattr(window.targets[label.name], modality)) is not None]
            if not answers:
                continue
            if label.classes is None:
                said[modality] = Answer(number=float(np.mean([answer.number for answer in answers])))
            else:
                mean = np.mean([list((answer.probabilities or {}).values()) for answer in answers], axis=0)
                said[modality] = Answer(probabilities=dict(zip(label.classes, map(float, mean), strict=True)))
        found[label.name] = Answers(**said)
    return found

"""A video's windows as the loader would yield them: made, encoded and decoded as the clips of a dataset are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loaders.dataset.manifest import AUDIO, FILMSTRIP, GAZE, Member
from loaders.decode.cut import Cutter
from loaders.decode.turbo import FrameDecoder
from loaders.errors import InputError
from models.prediction.making import Making
from models.systems.streams import Needs
from sharding.members.beside import with_arrays
from sharding.members.declared import files_of_members, members_of
from sharding.packing.clips import RejectedError, Stretch, UtteranceMedia
from sharding.packing.members import decode_member
from sharding.settings import BuildSettings
from sharding.stages import Stopwatch
from sharding.utterance import Corpus, Utterance

_WHY = {
    "no_audio": "it has no sound",
    "audio_missing": "the file with its sound is not there",
    "no_video": "it has no pictures",
    "no_face": "no face is seen",
    "silent": "it is silent",
    "still": "one and the same picture stands",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipInputs:
    """A window of a video, decoded."""

    start: float  #: seconds from the beginning of the utterance
    end: float
    video: NDArray[np.uint8] | None  #: (T, H, W, 3), the frames that are chosen
    audio: NDArray[np.float32] | None  #: (samples,) in -1 … 1
    gaze: NDArray[np.float32] | None  #: (103,)
    members: Mapping[str, NDArray[np.generic]]  #: those that there are
    lacks: Mapping[str, str]  #: what is not there, by the members' names, and a word for why

    @property
    def is_seen(self) -> bool:
        """Whether it has pictures."""
        return FILMSTRIP not in self.lacks

    @property
    def is_heard(self) -> bool:
        """Whether it has sound."""
        return AUDIO not in self.lacks


class VideoClips:
    """An utterance, read, and its windows.

    Attributes:
        media: what was read.
        missing: why there are no pictures at all, or no sound, by the member's name.
    """

    def __init__(self, utterance: Utterance, making: Making, needs: Needs) -> None:
        """Read it.

        Raises:
            RejectedError: it has nothing that can be looked at or listened to.
            InputError: its file system fails, or a package is missing.
        """
        self._settings, self._needs = making.settings, needs
        self._members: dict[str, Member] = {member.name: member for member in members_of(making.settings)}
        self._chosen = making.chosen
        self._cutter = Cutter(making.settings.clip, len(making.chosen))
        self._decoder = FrameDecoder(making.settings.clip, len(making.chosen), "rgb")
        utterance = _with_files(utterance, making.settings)
        watch = Stopwatch()
        try:
            self.media = UtteranceMedia(utterance, making.settings, watch)
            self.missing = dict(self.media.lacking)
        except RejectedError as error:
            if error.reason != "no_face":
                raise
            try:
                self.media = UtteranceMedia(utterance, making.settings, watch, without="video")
            except RejectedError:  # nor has it sound
                raise error from None
            self.missing = {FILMSTRIP: "no_face"}

    @property
    def seconds(self) -> float:
        """That there are, before a short one was padded."""
        return self.media.frames / self._settings.fps - self.media.padded

    @property
    def clips(self) -> range:
        """The first frames of the clips that lie end to end, as those of a dataset do."""
        return self.every(self._settings.clip.frames)

    def every(self, frames: int) -> range:
        """The first frames of windows that begin every so many frames."""
        return range(0, self.media.frames - self._settings.clip.frames + 1, frames)

    def at(self, first: int) -> ClipInputs:
        """The window that begins with a frame.

        Raises:
            RejectedError: an array is not what is declared.
        """
        stretch = self.media.stretch(first)
        lacks = {**self.missing, **_lacking(stretch)}
        seen, heard = FILMSTRIP not in lacks, AUDIO not in lacks
        files, problems = self.media.encode(
            stretch, pictures=seen and self._needs.video, sound=heard and self._needs.audio
        )
        if GAZE in self._needs.of_gaze and seen and stretch.gaze.problem is not None:
            lacks[GAZE] = stretch.gaze.problem
        lacks |= {name: why for name, why in problems.items() if name in self._needs.members}
        clip = self._settings.clip
        audio = None
        if AUDIO in files:
            audio = np.asarray(decode_member(self._members[AUDIO], files[AUDIO], clip), np.float32)
        gaze = None
        if seen and GAZE in files:
            gaze = np.asarray(decode_member(self._members[GAZE], files[GAZE], clip), np.float32)
        return ClipInputs(
            start=stretch.start,
            end=stretch.end,
            video=self._decoded(files[FILMSTRIP]) if FILMSTRIP in files else None,
            audio=audio,
            gaze=gaze,
            members={
                name: np.asarray(decode_member(self._members[name], files[name], clip))
                for name in self._needs.members
                if name in files
            },
            lacks=lacks,
        )

    def _decoded(self, file: bytes) -> NDArray[np.uint8]:
        size, count = self._settings.clip.size, len(self._chosen)
        out = np.empty((count * size, size, 3), np.uint8)
        strip = self._cutter.cut(np.frombuffer(file, np.uint8), self._chosen).file
        self._decoder.decode_into(strip, self._chosen, out)
        return out.reshape(count, size, size, 3)


def notes_of(windows: Sequence[Mapping[str, str]], needs: Needs, making: Making, *, gaze_dropout: float) -> list[str]:
    """What was not there, a line each, and what that means for the answers.

    Args:
        windows: what each of those that were looked at lacks.
        needs: what the network looks at.
        making: how the windows were made.
        gaze_dropout: share of the training clips whose gaze was withheld.
    """
    notes = []
    counts = Counter((name, why) for lacks in windows for name, why in lacks.items())
    for (name, why), count in counts.items():
        where = "" if count == len(windows) else f"in {count} of {len(windows)} windows "
        if name in (FILMSTRIP, AUDIO):
            lost = "visual" if name == FILMSTRIP else "audio"
            notes.append(f"{where}{_WHY.get(why, why)} ({why}): no {lost} and no joint answer")
        elif name == GAZE or name in needs.of_gaze:
            mend = making.gaze_mend if why == "gaze_missing" else ""  # of a table that is there, it says what is wrong
            meaning = _without_gaze(mend, learned=making.gaze_learned, dropout=gaze_dropout)
            notes.append(f"{where}no gaze ({why}), which the network looks at; {meaning}")
        else:
            notes.append(f"{where}no {name} ({why}), which a tower takes: it is given zeros")
    return notes


def _without_gaze(mend: str, *, learned: bool, dropout: float) -> str:
    """What it means for the answers that there is no gaze, and what a person can do about it."""
    if not learned:
        return "no clip that it was trained on had any either"
    if dropout > 0:
        means = f"in training {dropout:.0%} of the clips came without, too (--gaze-dropout), so it answers without"
        return f"{means}; for answers with it, {mend}" if mend else means
    means = "in training it was withheld from no clip, so VISUAL AND JOINT MAY BE FAR OFF"
    again = "train again with --gaze-dropout 0.5, and it answers well without"
    return f"{means}: {mend}, or {again}" if mend else f"{means}: {again}"


def _lacking(stretch: Stretch) -> dict[str, str]:
    """What a dataset's clip would be left out for, or come without."""
    found: dict[str, str] = {}
    if len(stretch.frames) and not stretch.sees_face:
        found[FILMSTRIP] = "no_face"
    elif stretch.is_still:
        found[FILMSTRIP] = "still"
    if len(stretch.samples) and not stretch.has_sound:
        found[AUDIO] = "silent"
    return found


def _with_files(utterance: Utterance, settings: BuildSettings) -> Utterance:
    """With the files beside its video that ``--member`` asks for; it is said where there are none."""
    try:
        corpus = with_arrays(Corpus(name="", utterances=(utterance,)), files_of_members(settings), 1)
    except InputError as error:
        if error.try_again:
            raise
        return utterance
    return replace(corpus.utterances[0])

"""One clock over a file whose own clock jumps.

Recordings that were joined, and streams that were saved as they came, begin anew in mid-file or leave time out. Their
pictures go on, one after the other; the sound keeps its place under its own pictures.

- Where the pictures' clock goes back, they go on where the last one before stops. The sound's clock must go back as
  often: what sounded under a picture sounds under it.
- Where neither pictures nor sound have anything for longer than `JUMP`, that time is left out of both. Where only one
  of them has nothing, it is kept: a picture that stands still under speech, a pause in the sound.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

JUMP = 1.0
"""Seconds. Where both streams have nothing for longer, their clock has jumped. No encoder leaves out so much of both;
a shorter gap, of a broadcast that was lost for a moment, is time that passed, and stays."""

BACK = 0.1
"""Seconds. A clock that goes back by more has begun anew; by less, a stamp was rounded. Pictures of a slow rate may
come late by more, up to `LATE`: decoders learn while decoding how far a stream reorders."""

LATE = 0.4
_REORDERED = 4  # pictures
_SHOWN = 0.1  # seconds that are left to the last picture before a jump, or less


class ClockError(Exception):
    """The clocks of pictures and sound cannot be joined."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """From `begin` to `end`, in seconds, a file's clock runs evenly; `shift` seconds later lies the joined clock.

    era: how often the file's clock had gone back before. Two stretches of different eras may have the same times.
    """

    era: int = 0
    begin: float = -math.inf
    end: float = math.inf
    shift: float = 0.0


@dataclass(slots=True)
class JoinedClock:
    """The clock of a file's pictures, told their times in the order in which they are shown.

    silence: (era, begin, end) -> the longest part of that stretch in which no sound is, if it lies between two sounds.
    """

    silence: Callable[[int, float, float], tuple[float, float] | None]
    stretches: list[Stretch] = field(default_factory=lambda: [Stretch()])
    late: int = 0  # pictures whose time lies before that of one shown before
    spans: list[tuple[float, float]] = field(default_factory=list)  # of each era: the first picture's time, the last's
    _stays: float = 0.0  # seconds: the latest picture, as its file says, but no longer than a jump

    def shift(self, start: float, lasts: float, usual: float) -> float:
        """What is to be added to the time of the next picture.

        start, lasts: of the picture, in seconds on its file's clock. usual: seconds that its pictures last on average.
        """
        if not self.spans:
            self.spans.append((start, start))
        first, newest = self.spans[-1]
        if start < newest - min(max(BACK, _REORDERED * usual), LATE):
            stops = newest + self._stays
            self._go_on(
                stops, replace(self._now, era=self._now.era + 1, begin=start, shift=self._now.shift + stops - start)
            )
            self.spans.append((start, start))
        else:
            # In MP4 the picture before a jump is said to last until after it.
            self._leave_out(newest + min(self._stays, usual, _SHOWN), start)
            self.late += start < newest
            self.spans[-1] = first, max(newest, start)
        if start >= self.spans[-1][1]:
            self._stays = min(lasts, JUMP)
        return self._now.shift

    @property
    def _now(self) -> Stretch:
        return self.stretches[-1]

    def _go_on(self, end: float, following: Stretch) -> None:
        self.stretches[-1] = replace(self._now, end=end)
        self.stretches.append(following)

    def _leave_out(self, begin: float, end: float) -> None:
        if end - begin <= JUMP:
            return
        empty = self.silence(self._now.era, begin, end)
        if empty is not None and empty[1] - empty[0] > JUMP:
            begin, end = empty
            self._go_on(begin, replace(self._now, begin=end, shift=self._now.shift - (end - begin)))

    def require_match(self, sounds: list[tuple[float, float]]) -> None:
        """Raise ClockError unless sound with these eras, first and last second of each, goes with the pictures."""
        if len(sounds) != len(self.spans):
            went = f"{len(self.spans) - 1} times in its pictures, {len(sounds) - 1} times in its sound"
            raise ClockError(f"its clock goes back {went}: which belong together is not known")
        if len(sounds) > 1:
            for (first, last), (begins, ends) in zip(self.spans, sounds, strict=True):
                if begins > last or ends < first:
                    raise ClockError(
                        f"its clock goes back, and no sound is where its pictures are, {first:.2f} to {last:.2f} s"
                    )

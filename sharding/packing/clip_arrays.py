"""The arrays that ``--member`` adds to an utterance, and each clip's share of them."""

from contextlib import nullcontext

from sharding.gaze.statistics import GazeError, GazeTable
from sharding.media.reader import Media
from sharding.members.declared import makers_of, members_of
from sharding.members.registry import NoArrayError, OfClip, Source
from sharding.packing.clip_gaze import UtteranceGaze
from sharding.packing.members import encode_array
from sharding.settings import BuildSettings
from sharding.stages import Stopwatch
from sharding.utterance import Utterance


class UtteranceArrays:
    """The arrays of an utterance's clips, as the files that a shard holds."""

    def __init__(
        self,
        utterance: Utterance,
        media: Media,
        start: float,
        settings: BuildSettings,
        gaze: UtteranceGaze | None,
        watch: Stopwatch,
    ) -> None:
        """Make, or read, what is of the whole utterance.

        Args:
            utterance: whose they are.
            media: its frames and sound, before anything is added to them.
            start: second of the video's file at which they begin.
            settings: of the build.
            gaze: of the utterance; None where there are no pictures.
            watch: is told how long it takes.

        Raises:
            WrongArrayError: a file does not hold what is declared.
            OSError: a file cannot be read.
        """

        def gaze_table() -> GazeTable:
            if gaze is None:
                raise GazeError("gaze_no_video", "it has no pictures")
            return gaze.table()

        self._watch = watch
        self._members = {member.name: member for member in members_of(settings)} if settings.member else {}
        self._of_clip: dict[str, OfClip] = {}
        self._problems: dict[str, str] = {}
        source = Source(utterance=utterance, media=media, start=start, settings=settings, gaze_table=gaze_table)
        with watch.stage("members") if settings.member else nullcontext():
            for name, of_utterance in makers_of(settings).items():
                try:
                    self._of_clip[name] = of_utterance(source)
                except NoArrayError as error:
                    self._problems[name] = error.reason

    def of(self, start: float, end: float) -> tuple[dict[str, bytes], dict[str, str]]:
        """The clip's between these seconds of the utterance, and why it has not got the others, by the member's name.

        Raises:
            WrongArrayError: what there is, is not what is declared.
        """
        files: dict[str, bytes] = {}
        problems = dict(self._problems)
        if not self._of_clip:
            return files, problems
        with self._watch.stage("members"):
            for name, of_clip in self._of_clip.items():
                try:
                    files[name] = encode_array(self._members[name], of_clip(start, end))
                except NoArrayError as error:
                    problems[name] = error.reason
        return files, problems

"""An utterance: the unit in which corpora are published, and what a build is planned from."""

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path

_LONGEST_KEY = 80  # with a clip's number and a member's suffix it stays under the 100 bytes of a plain tar header


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One stretch of speech by one person, as a corpus publishes it."""

    corpus: str
    split: str
    speaker: str
    video: str  #: what a negative's audio must not come from
    utterance: str
    video_path: Path
    audio_path: Path | None = None  #: None: inside the video's file
    gaze_path: Path | None = None  #: OpenFace's table; None: there is none
    emotion: int = -1  #: `loaders.dataset.EMOTIONS`, -1: no label
    arousal: float = math.nan
    valence: float = math.nan

    @property
    def key(self) -> str:
        """What its clips' keys begin with: unique, without dots or slashes, and safe as a file name anywhere."""
        name = "+".join(_plain(part) for part in dict.fromkeys((self.speaker, self.video, self.utterance)))
        if len(name) > _LONGEST_KEY:
            name = f"{name[: _LONGEST_KEY - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return name


def _plain(text: str) -> str:
    """Letters, digits, - and _ as they are, the rest as its code in hexadecimal between ~: no two texts become one."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda match: f"~{ord(match[0]):x}~", text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """What a corpus' reader found."""

    name: str
    utterances: tuple[Utterance, ...]  #: in a stable order
    notes: tuple[str, ...] = ()  #: what a person should know, a line each: rows dropped, files without a table

"""An utterance: the unit in which corpora are published, and what a build is planned from."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from loaders.dataset.identity import UtteranceName
from loaders.dataset.labels import Label
from loaders.storage.urls import url_of

_LONGEST_KEY = 64  # with a clip's number and a member's suffix it stays under the 100 bytes of a plain tar header

Apart = Literal["speaker", "video", "utterance"]
"""What no two splits share: speakers and videos, or videos, or nothing but utterances."""

VideoNames = Literal["corpus", "speaker"]
"""Within what a video's name is unique, see `loaders.dataset.manifest.VIDEO_NAMES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxesFile:
    """Where an utterance lies in a longer video, and where in its pictures: one of VoxCeleb's txt files."""

    path: Path
    margin: float = 1.0  #: side of the crop over the longer side of the box
    height: int | None = None  #: rows of the picture that boxes in pixels refer to; None: the video's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One stretch of speech by one person, as a corpus publishes it."""

    corpus: str
    split: str
    speaker: str
    video: str  #: what a negative's audio must not come from; whose name it is, the corpus says (`VideoNames`)
    utterance: str
    video_path: Path
    audio_path: Path | None = None  #: None: inside the video's file
    gaze_path: Path | None = None  #: OpenFace's table; None: there is none
    boxes: BoxesFile | None = None  #: None: the video's file holds the utterance and nothing else
    arrays: Mapping[str, Path] = field(default_factory=dict)  #: files that there are of members, by the members' names
    start: float | None = None
    """Where the utterance is a part of the video's file: seconds after its first picture. Sound and gaze that lie apart
    are of the whole file, too. None: from its beginning."""
    end: float | None = None  #: the same; None: to its end
    labels: Mapping[str, str | float] = field(default_factory=dict)
    """What the corpus states of it, by the names of `Corpus.labels`: a class or a number. What is not stated is not
    there."""
    source_xxh3: int | None = None  #: `sharding.sources.fingerprint`, once it is taken: when the shard is built

    @property
    def is_whole(self) -> bool:
        """Whether nothing says that it is a part of the video's file; its boxes may."""
        return self.start is None and self.end is None

    @property
    def name(self) -> UtteranceName:
        """Which it is, within its corpus."""
        return UtteranceName(self.speaker, self.video, self.utterance)

    @property
    def key(self) -> str:
        """What its clips' keys begin with: unique, without dots or slashes, and safe as a file name anywhere."""
        # Where a corpus names no speakers but its videos, once is enough: two parts are never three.
        parts = self.name[1:] if self.speaker == self.video else self.name
        name = "+".join(_plain(part) for part in parts)
        if len(name) > _LONGEST_KEY:
            name = f"{name[: _LONGEST_KEY - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return name


def _plain(text: str) -> str:
    """Letters, digits, - and _ as they are, the rest as its code in hexadecimal between ~: no two texts become one."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda match: f"~{ord(match[0]):x}~", text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """What is not in the dataset, and why: an utterance, or a folder of a corpus that could not be looked into."""

    split: str
    speaker: str
    video: str
    utterance: str
    path: str
    reason: str  #: a word to count by
    detail: str  #: a line for a person
    source_xxh3: int | None = None  #: the utterance's fingerprint; None where the corpus' reader left it out

    @property
    def name(self) -> UtteranceName:
        """Which utterance it is; names are empty where it is none."""
        return UtteranceName(self.speaker, self.video, self.utterance)

    @classmethod
    def of(cls, utterance: Utterance, reason: str, detail: str) -> "Rejection":
        """That of an utterance."""
        return cls(
            split=utterance.split,
            speaker=utterance.speaker,
            video=utterance.video,
            utterance=utterance.utterance,
            path=readable(utterance.video_path),
            reason=reason,
            detail=detail,
            source_xxh3=utterance.source_xxh3,
        )


def readable(path: Path | str) -> str:
    """A path or URL as text that can be stored: bytes that are no UTF-8 stand in it as \\xNN."""
    return (url_of(path) or str(path)).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """What a corpus' reader found."""

    name: str
    utterances: tuple[Utterance, ...]  #: in a stable order
    rejected: tuple[Rejection, ...] = ()  #: what it holds beside them and cannot be built
    labels: tuple[Label, ...] = ()  #: what may be stated of its utterances
    declared: frozenset[str] = frozenset()
    """The labels whose classes, with their order, or range somebody declared. Those of others are what utterances
    state."""
    notes: tuple[str, ...] = ()  #: what a person should know, a line each: rows dropped, files without a table
    apart: Apart = "speaker"  #: what its splits promise
    video_names: VideoNames = "speaker"  #: "corpus": what two speakers have under one name is one video
    absent: frozenset[Path] | None = None
    """Files that utterances name and that were not there when the sources were listed. All others were: where one is
    gone when the build is planned, the build stops. None: nobody has looked, and what is not there is rejected."""

"""Where a corpus says that its utterances are: in which files, and in which part of them.

A table's row may get another file, or other times, and keep its names and labels. Whoever builds again is told so by a
digest of all rows, without that a file is opened. It cannot tell a file that was moved from another one: where it
differs, the files' own fingerprints decide, see `sharding.sources.fingerprint`.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from sharding.utterance import Corpus, Utterance, readable


def places_sha256(corpus: Corpus) -> str | None:
    """SHA-256 of where all of its utterances are, whatever their order; None where their names say so.

    Files count by their paths below the folder that all of their kind have in common: a corpus may be moved.
    """
    if not (corpus.is_listed or any(not utterance.is_whole for utterance in corpus.utterances)):
        return None
    files = [_Files.of(utterance) for utterance in corpus.utterances]
    common = _common(one for these in files for one in these.by_kind.items())
    stated = sorted(
        [
            *utterance.name,
            utterance.split,
            [utterance.start is not None, utterance.start or 0.0, utterance.end is not None, utterance.end or 0.0],
            sorted((kind, path[common[kind] :]) for kind, path in these.by_kind.items()),
        ]
        for utterance, these in zip(corpus.utterances, files, strict=True)
    )
    return hashlib.sha256(json.dumps(stated).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Files:
    by_kind: dict[str, list[str]]  # the parts of a path

    @classmethod
    def of(cls, utterance: Utterance) -> "_Files":
        paths: dict[str, Path | None] = {
            "video": utterance.video_path,
            "audio": utterance.audio_path,
            "gaze": utterance.gaze_path,
            "boxes": None if utterance.boxes is None else utterance.boxes.path,
            **{f"array {name}": path for name, path in utterance.arrays.items()},
        }
        return cls({kind: readable(path).split("/") for kind, path in paths.items() if path is not None})


def _common(paths: Iterable[tuple[str, list[str]]]) -> dict[str, int]:
    """How many parts all paths of a kind begin with, their last apart."""
    known: dict[str, list[str]] = {}
    for kind, path in paths:
        folder = path[:-1]
        pairs = zip(known.setdefault(kind, folder), folder, strict=False)
        known[kind] = [part for part, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
    return defaultdict(int, {kind: len(parts) for kind, parts in known.items()})

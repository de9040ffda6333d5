"""Is an utterance's source still what it was? Its files' sizes, beginnings and ends tell, without reading it all."""

import os
from pathlib import Path
from typing import BinaryIO

import xxhash

from loaders.filesystem import url_of
from sharding.corpora.utterance import Utterance
from sharding.read_errors import failures_named
from sharding.sources import looked_into

# A film's header, with the size of every frame in it, is at one of its ends; most tables of gaze are shorter than both.
_ENDS = 1 << 16
_ABSENT = b"absent"


def fingerprint(utterance: Utterance, unread: list[Path] | None = None) -> int:
    """XXH3-64 of what the utterance's clips are cut from: where the files lie does not count.

    Each file (film, sound, gaze table, boxes) counts by its size and its first and last 64 KiB, and as absent where it
    may not be read; how boxes are to be taken counts too.

    Args:
        utterance: whose.
        unread: is given the files that count as absent.

    Raises:
        SourceError: a file system fails.
        InputError: a store does.
    """
    boxes = utterance.boxes
    digest = xxhash.xxh3_64()
    for path in (utterance.video_path, utterance.audio_path, utterance.gaze_path, boxes.path if boxes else None):
        ends = _ends(path)
        if ends == _ABSENT and path is not None and unread is not None:
            unread.append(path)
        digest.update(ends)
    if boxes is not None:
        digest.update(f"{boxes.margin!r} {boxes.height!r}".encode())
    return digest.intdigest()


def _ends(path: Path | None) -> bytes:
    if path is None:
        return b"none"
    try:
        if url_of(path) is not None:
            return looked_into(path, _ends_of) or _ABSENT
        with failures_named(path), path.open("rb") as file:
            return _ends_of(file)
    except OSError:
        return _ABSENT


def _ends_of(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    first = file.read(_ENDS)
    file.seek(max(size - _ENDS, len(first)))
    parts = (first, file.read(_ENDS))
    return b"".join([b"%d " % size, *(xxhash.xxh3_64_digest(part) for part in parts)])

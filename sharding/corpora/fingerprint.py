"""Is an utterance's source still what it was? Its files' sizes, beginnings and ends tell, without reading it all."""

import os
from pathlib import Path

import xxhash

from sharding.corpora.utterance import Utterance

# A film's header, with the size of every frame in it, is at one of its ends; most tables of gaze are shorter than both.
_ENDS = 1 << 16


def fingerprint(utterance: Utterance) -> int:
    """XXH3-64 of what the utterance's clips are cut from: where the files lie does not count.

    Each file (film, sound, gaze table, boxes) counts by its size and its first and last 64 KiB, and as absent where it
    cannot be read; how boxes are to be taken counts too.
    """
    boxes = utterance.boxes
    digest = xxhash.xxh3_64()
    for path in (utterance.video_path, utterance.audio_path, utterance.gaze_path, boxes.path if boxes else None):
        digest.update(_ends(path))
    if boxes is not None:
        digest.update(f"{boxes.margin!r} {boxes.height!r}".encode())
    return digest.intdigest()


def _ends(path: Path | None) -> bytes:
    if path is None:
        return b"none"
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            first = file.read(_ENDS)
            file.seek(max(size - _ENDS, len(first)))
            parts = (first, file.read(_ENDS))
    except OSError:
        return b"absent"
    return b"".join([b"%d " % size, *(xxhash.xxh3_64_digest(part) for part in parts)])

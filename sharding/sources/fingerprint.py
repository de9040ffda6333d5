"""Is an utterance's source still what it was? Its files' sizes, beginnings and ends tell, without reading it all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import xxhash

from loaders.storage.urls import url_of
from sharding.sources.copies import looked_into
from sharding.sources.read_errors import failures_named
from sharding.sources.regular import open_regular
from sharding.utterance import Utterance

# A film's header, with the size of every frame in it, is at one of its ends; most tables of gaze are shorter than both.
_ENDS = 1 << 16
_ABSENT = b"absent"
_BLOCK = 1 << 22


def fingerprint(utterance: Utterance, unread: list[Path] | None = None) -> int:
    """XXH3-64 of what the utterance's clips are cut from: where the files lie does not count.

    Each file (film, sound, gaze table, boxes, arrays) counts by its size and its first and last 64 KiB, and as absent
    where it may not be read; how boxes are to be taken counts too, and which part of the film is the utterance.

    Args:
        utterance: whose.
        unread: is given the files that count as absent.

    Raises:
        SourceError: a file system fails.
        InputError: a store does.
    """
    digest = xxhash.xxh3_64()
    for path in _files(utterance):
        ends = _ends(path)
        if ends == _ABSENT and path is not None and unread is not None:
            unread.append(path)
        digest.update(ends)
    digest.update(_manner(utterance))
    return digest.intdigest()


def contents(utterance: Utterance) -> bytes | None:
    """XXH3-128 of the same files, every byte of them; None where one of them cannot be read, or the film is empty."""
    digest = xxhash.xxh3_128()
    for path in _files(utterance):
        if path is None:
            digest.update(b"none")
            continue
        try:
            with failures_named(path):
                whole = _read(path, _whole_of)
        except OSError:
            return None
        if whole is None or (path is utterance.video_path and whole.startswith(b"0 ")):
            return None
        digest.update(whole)
    digest.update(_manner(utterance))
    return digest.digest()


def _files(utterance: Utterance) -> tuple[Path | None, ...]:
    boxes = utterance.boxes
    arrays = (path for _, path in sorted(utterance.arrays.items()))
    return utterance.video_path, utterance.audio_path, utterance.gaze_path, boxes.path if boxes else None, *arrays


def _manner(utterance: Utterance) -> bytes:
    boxes = utterance.boxes
    taken = "" if boxes is None else f"{boxes.margin!r} {boxes.height!r}"
    # An utterance that is all of its film has the fingerprint of its files.
    part = "" if utterance.is_whole else f" part {utterance.start!r} {utterance.end!r}"
    return (taken + part).encode()


def _ends(path: Path | None) -> bytes:
    if path is None:
        return b"none"
    try:
        with failures_named(path):
            return _read(path, _ends_of) or _ABSENT
    except OSError:
        return _ABSENT


def _read(path: Path, use: Callable[[BinaryIO], bytes]) -> bytes | None:
    """What ``use`` returns of a file; None where a store has no such object."""
    if url_of(path) is not None:
        return looked_into(path, use)
    with open_regular(path) as file:
        return use(file)


def _ends_of(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    first = file.read(_ENDS)
    file.seek(max(size - _ENDS, len(first)))
    parts = (first, file.read(_ENDS))
    return b"".join([b"%d " % size, *(xxhash.xxh3_64_digest(part) for part in parts)])


def _whole_of(file: BinaryIO) -> bytes:
    digest, size = xxhash.xxh3_128(), 0
    while block := file.read(_BLOCK):
        digest.update(block)
        size += len(block)
    return b"%d %s" % (size, digest.digest())

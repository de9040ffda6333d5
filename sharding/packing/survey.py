"""All sources of a build are looked at before it is planned: what each one is now, and how long it lasts.

The work is spread over the engine's workers, for a corpus may have a million files. Lengths are kept beside the
receipts as they become known, by the fingerprints of the files that they are read from: a build that is run again looks
at every file's ends alone, and takes none for what it was before.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import av

from loaders.storage.urls import url_of
from sharding.engines.local import Engine, LocalEngine
from sharding.media.probe import probe_seconds
from sharding.packing.writer import LENGTHS, WORK_FOLDER
from sharding.sources.copies import is_gone
from sharding.sources.fingerprint import fingerprint
from sharding.sources.unchanged import change_of, require_unchanged
from sharding.utterance import Corpus, Utterance

_CHUNK = 128  # utterances that are looked at as one job
_FEW = 512  # utterances that are looked at sooner than processes start
_THREADS = 4  # a worker: what is waited for is a disk
_REMOTE_THREADS = 16  # or a store
_WRITTEN_BY = [1, av.__version__]  # the first line: other code may read other lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a build is planned from."""

    utterances: tuple[Utterance, ...]  #: of the corpus, in its order, with their fingerprints
    seconds: tuple[float, ...]  #: how long each one lasts, see `sharding.media.probe`


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    first: int  # place of its first utterance
    utterances: tuple[Utterance, ...]
    needs_seconds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    fingerprint: int
    seconds: float | None  # None: not asked for
    gone: tuple[Path, ...]  # files that are not there


def survey(corpus: Corpus, folder: Path, engine: Engine, tell: Callable[[int], None] = lambda _: None) -> Survey:
    """Look at all utterances.

    Args:
        corpus: whose.
        folder: of the dataset that is built; lengths are kept in its work folder, where there is one.
        engine: whose workers look, where there is much to look at.
        tell: is called with a number of utterances when so many have been looked at.

    Raises:
        SourceError: a file that the corpus' reader found is gone, changes while it is looked at, or its file system
            fails.
        InputError: a store does.
    """
    expected = corpus.absent
    utterances = corpus.utterances
    if len(utterances) <= _FEW:
        engine = LocalEngine(workers=1)
    with _kept(folder / WORK_FOLDER / LENGTHS) as (known, keep):
        prints = [0] * len(utterances)

        def look(places: Sequence[int], *, needs_seconds: bool) -> None:
            for place, seen in _look(places, utterances, engine, needs_seconds=needs_seconds, tell=tell, keep=keep):
                if expected is not None and any(path not in expected for path in seen.gone):
                    raise change_of(utterances[place])
                prints[place] = seen.fingerprint
                if seen.seconds is not None:
                    known[seen.fingerprint] = seen.seconds

        look(range(len(utterances)), needs_seconds=not known)
        left = [place for place, value in enumerate(prints) if value not in known]
        tell(-len(left))  # they are looked at again
        look(left, needs_seconds=True)
    return Survey(
        utterances=tuple(replace(u, source_xxh3=value) for u, value in zip(utterances, prints, strict=True)),
        seconds=tuple(known[value] for value in prints),
    )


def require_all_unchanged(
    utterances: Sequence[Utterance], engine: Engine, tell: Callable[[int], None] = lambda _: None
) -> None:
    """Look at all utterances again.

    Args:
        utterances: with their fingerprints.
        engine: whose workers look, where there is much to look at.
        tell: is called with a number of utterances when so many have been looked at.

    Raises:
        SourceError: one is not what it was, or its file system fails.
        InputError: a store does.
    """
    if len(utterances) <= _FEW:
        engine = LocalEngine(workers=1)
    for place, seen in _look(range(len(utterances)), utterances, engine, needs_seconds=False, tell=tell):
        if seen.fingerprint != utterances[place].source_xxh3:
            raise change_of(utterances[place])


def _look(
    places: Sequence[int],
    utterances: Sequence[Utterance],
    engine: Engine,
    *,
    needs_seconds: bool,
    tell: Callable[[int], None],
    keep: Callable[[Iterable[_Seen]], None] = lambda _: None,
) -> Iterator[tuple[int, _Seen]]:
    """What is seen of the utterances at these places, chunk by chunk, in whatever order."""
    chunks = [
        _Chunk(
            first=first,
            utterances=tuple(utterances[place] for place in places[first : first + _CHUNK]),
            needs_seconds=needs_seconds,
        )
        for first in range(0, len(places), _CHUNK)
    ]
    for first, seen in engine.run(_look_at_chunk, chunks):
        keep(seen)
        yield from zip(places[first : first + _CHUNK], seen, strict=True)
        tell(len(seen))


def _look_at_chunk(chunk: _Chunk) -> tuple[int, list[_Seen]]:
    is_remote = any(url_of(utterance.video_path) is not None for utterance in chunk.utterances)
    with ThreadPoolExecutor(_REMOTE_THREADS if is_remote else _THREADS) as pool:
        return chunk.first, list(pool.map(partial(_look_at, needs_seconds=chunk.needs_seconds), chunk.utterances))


def _look_at(utterance: Utterance, *, needs_seconds: bool) -> _Seen:
    unread: list[Path] = []
    known = fingerprint(utterance, unread)
    seconds = probe_seconds(utterance) if needs_seconds else None
    if needs_seconds and (url_of(utterance.video_path) is None or not seconds):
        # A length is kept for these very files; what changes in a store meanwhile, the shard's worker notices.
        require_unchanged(replace(utterance, source_xxh3=known))
    return _Seen(fingerprint=known, seconds=seconds, gone=tuple(path for path in unread if is_gone(path)))


@contextmanager
def _kept(file: Path) -> Iterator[tuple[dict[int, float], Callable[[Iterable[_Seen]], None]]]:
    """The lengths that are kept in a file, and what adds to it; without the file's folder nothing is kept."""
    if not file.parent.is_dir():
        yield {}, lambda _: None
        return
    # No link is followed: what it leads to is not ours to write to.
    with os.fdopen(os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666), "a+b") as opened:
        known, whole = _read(opened)
        opened.truncate(whole)
        if whole == 0:
            opened.write(json.dumps(_WRITTEN_BY).encode() + b"\n")

        def keep(seen: Iterable[_Seen]) -> None:
            lengths = [(one.fingerprint, one.seconds) for one in seen if one.seconds is not None]
            if lengths:
                opened.write(json.dumps(lengths).encode() + b"\n")
                opened.flush()

        yield known, keep


def _read(file: BinaryIO) -> tuple[dict[int, float], int]:
    """The lengths by fingerprint, and how many bytes hold them: a killed build may have left half a line."""
    file.seek(0)
    known: dict[int, float] = {}
    whole = 0
    for line in file:
        try:
            content = json.loads(line)
            if not isinstance(content, list):
                break
            if whole == 0 and content != _WRITTEN_BY:
                return {}, 0
            if whole > 0:
                known.update({int(value): float(seconds) for value, seconds in content})
        except (ValueError, TypeError):
            break
        if not line.endswith(b"\n"):
            break
        whole += len(line)
    return known, whole

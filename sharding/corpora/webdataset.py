"""A corpus in WebDataset's tars: a sample is the files of one key, a video and what is said of it beside it.

The key is a file's name up to the first dot, with its folders; what follows is what the file holds: ``mp4``, ``json``,
or with a part of its own ``answer.json``, ``left.mp4``. So img2dataset and video2dataset write them, and Energon. The
videos are read where they lie in the tar, see `sharding.sources.packed`.
"""

import glob
import json
import os
import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import product
from pathlib import Path, PurePosixPath

from loaders.errors import InputError, first_line
from loaders.storage.urls import local_path, url_of
from sharding.corpora.records import (
    Located,
    Record,
    RecordOptions,
    RecordReader,
    columns_read,
    is_empty,
    possible_columns,
)
from sharding.corpora.registry import corpus
from sharding.corpora.suffixes import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from sharding.corpora.tree import by_suffix, is_hidden
from sharding.sources.copies import is_folder, listed
from sharding.sources.tars import Listing, TarFile, list_tar
from sharding.utterance import Corpus, Rejection, readable

KEY, SHARD = "__key__", "__shard__"  #: columns that every sample has: its key, and its tar's name without the suffix
_TEXTS = frozenset({".txt", ".cls"})
_THREADS = 8  # that list tars: what is waited for is a disk, or a store


@corpus("webdataset", "Build a dataset from WebDataset tars with a video in each sample, and any labels.")
@dataclass(frozen=True, slots=True, kw_only=True)
class WebdatasetSources(RecordOptions):
    """Tars of samples, and which of a sample's files are video, sound and gaze."""

    source: tuple[str, ...]
    """The tars, here or at URLs: paths with braces as shards/{0000..0099}.tar, patterns as shards/*.tar, or folders.
    The columns of a sample, such as speaker, video_id, utterance, start, end, split and its labels, are the fields of
    its <key>.json; txt and cls, what such files hold; <part>.<field>, <part>.txt and <part>.cls of files with a part of
    their own; __key__, and __shard__, the tar's name. Samples of which two files say different things in a column that
    is used are rejected."""
    video_suffix: str | None = None
    """What follows the key of the video, such as left.mp4, where samples have several."""
    audio_suffix: str | None = None
    """What follows the key of the sound, such as wav, where samples have several. The sound is in the video's file
    where there is no other."""
    gaze_suffix: str | None = None
    """What follows the key of OpenFace's table, such as openface.csv."""

    def read(self) -> Corpus:
        """See `read_webdataset`."""
        return read_webdataset(self)


@dataclass(slots=True)
class _Sample:
    """Files of one key in one tar, by what follows the key."""

    tar: Path
    key: str
    files: dict[str, TarFile] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Which it is, for messages."""
        return f"{readable(self.tar)}: {self.key}"


def read_webdataset(sources: WebdatasetSources) -> Corpus:
    """The utterances of the samples that have a video, in the order of the tars.

    Samples without one are among the rejected, as "no_video", and as "contradiction" those of which two files say
    different things in a column that is used.

    Raises:
        InputError: a tar is missing, compressed or damaged, a sample has several videos or a description that is none,
            a column is missing or says what cannot be, two samples are one utterance, or none has a video.
    """
    where = f"--source {' '.join(sources.source)}"
    paths = [path for source in sources.source for path in _expanded(source)]
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise InputError(f"{where}: names {readable(twice[0])} twice: name each tar once")
    wanted, (read, numbers) = possible_columns(sources), columns_read(sources)
    header: dict[str, None] = {}
    located: list[Located] = []
    rejected: list[Rejection] = []
    passed: Counter[str] = Counter()
    unread: Counter[str] = Counter()
    used: set[str] = set()
    with ThreadPoolExecutor(_THREADS) as pool:
        listings = pool.map(partial(list_tar, wants_content=_describes), paths)
        for path, listing in zip(paths, listings, strict=True):
            for sample in _samples(path, listing, passed):
                files = _media(sources, sample)
                used.update(files)
                unread.update(
                    f".{suffix}"
                    for suffix, file in sample.files.items()
                    if file.content is None and suffix not in files.values()
                )
                if "video" not in files:
                    held = by_suffix(Counter(f".{suffix}" for suffix in sample.files))
                    rejected.append(_rejection(sample, "no_video", f"the sample has no video, but {held}"))
                    continue
                fields, said_twice = _fields(sample)
                header.update(dict.fromkeys(fields))
                why = next(
                    _contradictions({name: said_twice[name] for name in read & said_twice.keys()}, numbers), None
                )
                if why is not None:
                    rejected.append(_rejection(sample, "contradiction", why))
                    continue
                # A description may be long, and of a million samples it is not kept.
                said = {name: value for name, value in fields.items() if name in wanted}
                located.append(_located(sample, files, said))
    by_reason = {reason: [r for r in rejected if r.reason == reason] for reason in ("no_video", "contradiction")}
    if not located and by_reason["contradiction"]:
        first = by_reason["contradiction"][0]
        raise InputError(f"{where}: no sample can be used: {first.path}: {first.detail}: mend the samples")
    if not located:
        raise InputError(
            f"{where}: no sample has a video, but {by_suffix(unread) or 'nothing'}: is it the right source?"
        )
    for kind, told in (("audio", sources.audio_suffix), ("gaze", sources.gaze_suffix)):
        if told is not None and kind not in used:
            raise InputError(
                f"{where}: no sample has a {told}: leave out --{kind}-suffix, or give what follows the key"
            )
    reader = RecordReader(sources, where, [name for name in header if name not in (KEY, SHARD)], (), (KEY, SHARD))
    found = reader.corpus(located, "webdataset")
    notes = [f"{where}: {len(paths)} tars, {len(located) + len(rejected)} samples", *found.notes]
    for reason, what in (("no_video", "have no video"), ("contradiction", "contradict themselves and are left out")):
        if of_reason := by_reason[reason]:
            why = f" ({of_reason[0].detail})" if reason == "contradiction" else ""
            notes.append(f"{where}: {len(of_reason)} samples {what}, the first {of_reason[0].path}{why}")
    if unread:
        notes.append(f"{where}: not looked at (--member takes .npy): {by_suffix(unread)}")
    notes += [f"{where}: {count} {what} were passed by" for what, count in sorted(passed.items())]
    return replace(found, rejected=tuple(rejected), notes=tuple(notes), absent=frozenset())


def _expanded(source: str) -> Iterator[Path]:
    """The tars of one --source, in order."""
    for text in _braces(source):
        path = local_path(text, "") if text.startswith("file:/") else Path(text)
        is_remote = url_of(path) is not None
        where = f"--source {readable(path)}"
        is_here = not is_remote and os.path.lexists(path)  # whatever its name looks like
        if not is_here and re.search(r"[*?\[]", str(path)):
            found = _matched(path, is_remote)
        elif path.name.lower().endswith(".tar"):
            found = [path]
        elif is_folder(path):
            found = _matched(Path(glob.escape(str(path)) if is_here else path, "*.tar"), is_remote)
        else:
            found = [path]  # which is no tar, says who opens it
        if not found:
            raise InputError(f"{where}: no such tar: mend the list of shards")
        yield from found


def _matched(path: Path, is_remote: bool) -> list[Path]:
    if not is_remote:
        start = Path(path.anchor or ".")
        return sorted(below for below in start.glob(str(path.relative_to(path.anchor))) if not is_hidden(below.name))
    folder = path.parent
    if re.search(r"[*?\[]", str(folder)):
        raise InputError(f"--source {readable(path)}: a URL may have * in its last part alone: name the folders")
    found = [below for below, is_plain in listed(folder) if is_plain and below.parent == folder]
    return [below for below in found if fnmatchcase(below.name, path.name) and not is_hidden(below.name)]


def _braces(text: str) -> list[str]:
    """A text with {0000..0099} and {a,b} as all the texts that it stands for, as a shell has it."""
    parts = re.split(r"\{([^{}]*)\}", text)
    choices = [[part] if place % 2 == 0 else _choices(part) for place, part in enumerate(parts)]
    return ["".join(chosen) for chosen in product(*choices)]


def _choices(inner: str) -> list[str]:
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", inner)
    if numbers is None:
        return inner.split(",") if "," in inner else [f"{{{inner}}}"]
    first, last = numbers.groups()
    if int(last) < int(first):
        raise InputError(f"--source …{{{inner}}}…: runs backwards: put the smaller number first")
    width = max(len(first), len(last)) if first.startswith("0") or last.startswith("0") else 0
    return [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]


def _describes(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in {".json", *_TEXTS} and not _is_passed_by(name)


def _is_passed_by(name: str) -> bool:
    return any(map(is_hidden, PurePosixPath(name).parts))


def _samples(tar: Path, listing: Listing, passed: Counter[str]) -> Iterator[_Sample]:
    """A tar's samples, in the order of their first files. What is in none is counted."""
    passed.update(listing.others)
    samples: dict[str, _Sample] = {}
    for file in listing.files:
        folder, _, name = file.name.rpartition("/")
        first, dot, suffix = name.partition(".")
        if _is_passed_by(file.name):
            passed["hidden files"] += 1
            continue
        if not (first and dot and suffix):
            passed["files without a suffix"] += 1
            continue
        key = f"{folder}/{first}".removeprefix("./") if folder not in ("", ".") else first
        sample = samples.setdefault(key, _Sample(tar=tar, key=key))
        if sample.files.setdefault(suffix.lower(), file) is not file:
            raise InputError(f"{readable(tar)}: holds {file.name} twice: leave one out")
    yield from samples.values()


def _only(sample: _Sample, told: str | None, suffixes: Sequence[str], option: str) -> str | None:
    """Which of a sample's files is the video, or the sound; None where it has none."""
    if told is not None:
        suffix = told.removeprefix(".").lower()
        return suffix if suffix in sample.files else None
    found = [suffix for suffix in sample.files if f".{suffix.rpartition('.')[2]}" in suffixes]
    if len(found) > 1:
        raise InputError(f"{sample.place}: has {' and '.join(found)}: {option} says which is meant")
    return found[0] if found else None


_Said = tuple[str, object]  # by the file of that suffix, and what


def _fields(sample: _Sample) -> tuple[dict[str, object], dict[str, list[_Said]]]:
    """What is said of a sample, by column; and of the columns in which several files say something, who says what.

    What states nothing, as null, does not stand in the way of what does.
    """
    fields: dict[str, object] = {}
    said_by: dict[str, list[_Said]] = {}

    def add(name: str, value: object, suffix: str) -> None:
        if name not in fields or not is_empty(value):
            fields[name] = value
        if not is_empty(value):
            said_by.setdefault(name, []).append((suffix, value))

    for suffix, file in sample.files.items():
        if file.content is None:
            continue
        part, _, kind = suffix.rpartition(".")
        try:
            text = file.content.decode("utf-8-sig")
            if kind != "json":
                add(suffix, text, suffix)
                continue
            said = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{sample.place}.{suffix}: cannot be read ({first_line(error)}): mend it") from error
        if not isinstance(said, Mapping):
            said = {kind: said} if part == "" else {part: said}
        elif part:
            said = {f"{part}.{name}": value for name, value in said.items()}
        for name, value in said.items():
            add(str(name), value, suffix)
    said_twice = {name: said for name, said in said_by.items() if len(said) > 1 and name not in (KEY, SHARD)}
    return {**fields, KEY: sample.key, SHARD: sample.tar.stem}, said_twice


def _contradictions(said_twice: Mapping[str, Sequence[_Said]], numbers: Container[str]) -> Iterator[str]:
    """What of these columns is said in two ways, a line for a person each."""
    for name, said in sorted(said_twice.items()):
        (by, first), *others = said
        for other, value in others:
            if _as_read(value, name in numbers) != _as_read(first, name in numbers):
                yield f"{name} is {first!r} by its {by} and {value!r} by its {other}"


def _as_read(value: object, is_number: bool) -> object:
    """A value as a label or a number has it, in the end."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).lower() if isinstance(value, bool) else str(value).strip()
    try:
        return float(text) if is_number else text
    except ValueError:
        return text


def _media(sources: WebdatasetSources, sample: _Sample) -> dict[str, str]:
    """Which of a sample's files are video, sound and gaze, by what follows the key."""
    found = {
        "video": _only(sample, sources.video_suffix, VIDEO_SUFFIXES, "--video-suffix"),
        "audio": _only(sample, sources.audio_suffix, AUDIO_SUFFIXES, "--audio-suffix"),
        "gaze": _only(sample, sources.gaze_suffix, (), "--gaze-suffix"),
    }
    return {kind: suffix for kind, suffix in found.items() if suffix is not None}


def _located(sample: _Sample, files: Mapping[str, str], fields: Mapping[str, object]) -> Located:
    paths = {kind: sample.files[suffix].packed.path for kind, suffix in files.items()}
    return Located(
        record=Record(place=sample.place, fields=fields),
        video=paths["video"],
        name=sample.key,
        file_name=sample.key.rpartition("/")[2],
        audio=paths.get("audio"),
        gaze=paths.get("gaze"),
    )


def _rejection(sample: _Sample, reason: str, detail: str) -> Rejection:
    return Rejection(
        split="",
        speaker="",
        video="",
        utterance="",
        path=f"{readable(sample.tar)}/{sample.key}",
        reason=reason,
        detail=detail,
    )

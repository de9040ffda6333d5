"""Any corpus, by a table of its videos: a row an utterance, in CSV, TSV, Parquet or JSON lines, here or at a URL."""

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from loaders.errors import InputError, first_line
from loaders.storage.urls import local_path, url_of
from sharding.corpora.records import Located, Record, RecordOptions, RecordReader
from sharding.corpora.registry import corpus
from sharding.corpora.suffixes import VIDEO_SUFFIXES
from sharding.corpora.tree import FOLLOW, Entry, LeftOut, Tree, read_tree, refusal
from sharding.sources.copies import existence, is_folder, read_bytes
from sharding.utterance import Corpus, Rejection, Utterance, readable

_FILES = ("video", "audio", "gaze")
_NAMES_ROOT = "--root names what paths are relative to"
_FORMATS = ".csv, .tsv, .parquet, .jsonl or .ndjson"


@corpus("table", "Build a dataset from a table of videos, with any labels: CSV, TSV, Parquet or JSON lines.")
@dataclass(frozen=True, slots=True, kw_only=True)
class TableSources(RecordOptions):
    """A table of videos."""

    table: Path
    """The table: .csv, .tsv, .parquet, .jsonl or .ndjson, here or at a URL. Its columns: video, the file's path or URL,
    or a pattern as clips/**/*.mp4, of which each file is an utterance; and where there are such audio and gaze, files
    with the sound and OpenFace's table; speaker; video_id; utterance; start and end, the utterance's part of the file
    in seconds; split. Empty cells state nothing, nor do nan, null, None and <NA>."""
    root: Path | None = None
    """The folder, or URL, that the table's paths are relative to: the table's own, unless told otherwise."""
    follow_links: bool = False
    """Follow symbolic links that lead out of the root, or out of its own folder if a file lies elsewhere. Unless told
    otherwise what they lead to is rejected."""

    def read(self) -> Corpus:
        """See `read_table`."""
        return read_table(self)


def read_table(sources: TableSources) -> Corpus:
    """The utterances of a table's rows, in its order.

    A row whose file is missing is kept, for the build to reject by name. Files that are links which lead out of their
    root, or no regular files, are among the rejected; such a table of gaze is not used, with a note. Rows that name no
    video are dropped, with a note.

    Raises:
        InputError: the table cannot be read, lacks a column or says what cannot be, names one utterance twice, or none
            that can be used.
    """
    path = _path_of(str(sources.table))
    root = path.parent if sources.root is None else _path_of(str(sources.root))
    if sources.root is not None and not is_folder(root):
        raise InputError(
            f"--root {readable(root)}: no such folder: give the one that the table's paths are relative to"
        )
    where = readable(path.name)
    table = _opened(path)
    reader = RecordReader(sources, where, table.header, _FILES)
    if "video" not in reader.roles:
        have = ", ".join(table.header) or "none"
        raise InputError(f"{where}: no column 'video', but {have}: --columns video=… names it")
    places = _Places(root, sources.follow_links)
    located, rejected, blank = _located(table.rows(reader.used), reader, places, where)
    if not located:
        but = f", but {len(rejected)} links and folders that are left out{FOLLOW}" if rejected else ""
        raise InputError(f"{where}: no row names a video{but}: fill the column {reader.roles['video']!r}")
    found = reader.corpus(located, path.stem)
    notes = list(found.notes)
    if blank:
        notes.append(f"{where}: {blank} rows name no video and were dropped")
    homes = {one.video: places.home(one.video) for one in located}
    kept: list[Utterance] = []
    refused: Counter[str] = Counter()
    for utterance in found.utterances:
        why = _refusal(utterance, homes[utterance.video_path], places)
        if why is not None:
            rejected.append(Rejection.of(utterance, *why))
            continue
        gaze = utterance.gaze_path
        why = None if gaze is None else refusal(gaze, places.home(gaze), follow_links=sources.follow_links)
        if why is not None:
            refused[why[0]] += 1
        kept.append(utterance if why is None else replace(utterance, gaze_path=None))
    notes += [
        f"{where}: {count} tables of gaze were left out as {reason}{FOLLOW if reason == 'outside_source' else ''}"
        for reason, count in sorted(refused.items())
    ]
    for reason, count in sorted(Counter(rejection.reason for rejection in rejected).items()):
        notes.append(f"{where}: {count} left out as {reason}{FOLLOW if reason == 'outside_source' else ''}")
    absent = places.absent(kept)
    if not kept or (absent is not None and all(utterance.video_path in absent for utterance in kept)):
        raise InputError(f"{where}: none of its {len(located)} videos can be used{_why(notes, kept, root)}")
    if absent is not None:
        for kind, paths in (
            ("video", [u.video_path for u in kept]),
            ("audio", [u.audio_path for u in kept]),
            ("gaze", [u.gaze_path for u in kept]),
        ):
            if missing := sum(path in absent for path in paths):
                notes.append(f"{where}: of {len(kept)} utterances {missing} have no file where {kind} says")
    return replace(found, utterances=tuple(kept), rejected=tuple(rejected), notes=tuple(notes), absent=absent)


def _why(notes: Sequence[str], kept: Sequence[Utterance], root: Path) -> str:
    if kept:
        first = kept[0].video_path
        return f", the first is not there, {readable(first)}: {_how_it_is_called(first) or _NAMES_ROOT}"
    return f": {'; '.join(notes)}"


def _how_it_is_called(path: Path) -> str | None:
    """The mend, where a file that is not there is by a name that is nearly the same; None: there is none."""
    if url_of(path) is not None:
        return None
    other = Path(str(path).replace("\\", "/"))
    if other != path and other.is_file():
        return "its table says \\ for /: write /"
    suffix = next((suffix for suffix in VIDEO_SUFFIXES if Path(f"{path}{suffix}").is_file()), None)
    return None if suffix is None else f"{readable(Path(f'{path}{suffix}'))} is: give names with their suffix"


def _refusal(utterance: Utterance, home: Path, places: "_Places") -> tuple[str, str] | None:
    why = refusal(utterance.video_path, home, follow_links=places.follow_links)
    audio = utterance.audio_path
    if why is None and audio is not None:
        why = refusal(audio, places.home(audio), follow_links=places.follow_links)
        return None if why is None else (why[0], f"{readable(audio)}: {why[1]}")
    return why


def _located(
    records: Iterable[Record], reader: RecordReader, places: "_Places", where: str
) -> tuple[list[Located], list[Rejection], int]:
    """The rows with their files, what their patterns match and is not to be used, and how many rows name no video."""
    located: list[Located] = []
    rejected: dict[Path, Rejection] = {}  # two patterns may match one
    blank = 0
    for record in records:
        text = reader.text(record, "video")
        if text is None:
            blank += 1
            continue
        beside = {role: reader.text(record, role) for role in ("audio", "gaze")}
        audio, gaze = (None if value is None else places.path(value) for value in beside.values())
        try:
            matched = places.matched(text)
        except re.error as error:
            raise InputError(f"{where}, {record.place}: {text!r} is no pattern of paths: {error}: mend it") from error
        if matched is None:
            videos = [places.path(text)]
        else:
            if audio is not None or gaze is not None:
                raise InputError(
                    f"{where}, {record.place}: audio and gaze are one file's, and {text!r} may be many: name it"
                )
            # Without a match the pattern itself is what is missing.
            found, left_out = matched
            videos = [entry.path for entry in found] or ([] if left_out else [places.path(text)])
            rejected.update({out.entry.path: out.rejection() for out in left_out})
        located += [
            Located(
                record=record,
                video=video,
                name=places.name(video),
                file_name=readable(_stem(video).name),
                audio=audio,
                gaze=gaze,
            )
            for video in videos
        ]
    return located, list(rejected.values()), blank


def _stem(path: Path) -> Path:
    """A path without the suffix of a video."""
    return path.with_suffix("") if path.suffix.lower() in VIDEO_SUFFIXES else path


def _path_of(text: str) -> Path:
    """A path or URL as a path; a file's URL as that of the file."""
    return local_path(text, "") if text.startswith("file:/") else Path(text)


class _Places:
    """Where the files are that cells name."""

    def __init__(self, root: Path, follow_links: bool) -> None:
        self._root, self.follow_links = root, follow_links
        self._tree = cache(lambda folder: read_tree(folder, VIDEO_SUFFIXES, follow_links=follow_links))

    def path(self, text: str) -> Path:
        """The file of a cell."""
        if url_of(text) is not None:
            return _path_of(text)
        path = self._root / text
        return path if url_of(path) is None else Path(os.path.normpath(path))

    def name(self, path: Path) -> str:
        """What a video is called, where nothing names it: its path below the root, without suffix."""
        below = path.relative_to(self._root) if path.is_relative_to(self._root) else path
        return readable(_stem(below))

    def home(self, path: Path) -> Path:
        """The folder that a link in the place of a file must not lead out of."""
        return self._root if self._is_below_root(path) else path.parent

    def _is_below_root(self, path: Path) -> bool:
        return Path(os.path.normpath(path)).is_relative_to(os.path.normpath(self._root))

    def matched(self, text: str) -> tuple[list[Entry], list[LeftOut]] | None:
        """The videos that a pattern matches, and what it matches and is left out; None where it is no pattern.

        ``*`` and ``?`` stand for any of a name, ``**`` for any folders, ``[ab]`` for a letter. What is hidden, or no
        video by its suffix, no pattern matches.

        Raises:
            re.error: a part between brackets is none, as [z-a].
        """
        path = self.path(text)
        is_remote = url_of(path) is not None
        if not re.search(r"\*" if is_remote else r"[*?\[]", text) or (not is_remote and os.path.lexists(path)):
            return None
        parts = path.parts
        first = next(place for place, part in enumerate(parts) if re.search(r"[*?\[]", part))
        folder = Path(*parts[:first])
        if not is_folder(folder):
            return [], []
        pattern = re.compile(_expression("/".join(parts[first:])))
        tree: Tree = self._tree(folder)

        def matches(entry: Path) -> bool:
            return pattern.fullmatch(entry.relative_to(folder).as_posix()) is not None

        return (
            [entry for entry in tree.files if matches(entry.path)],
            [out for out in tree.left_out if matches(out.entry.path) or out.is_folder],
        )

    def absent(self, utterances: Sequence[Utterance]) -> frozenset[Path] | None:
        """The files that are not there; None where nobody can tell without asking for each."""
        paths = [path for u in utterances for path in (u.video_path, u.audio_path, u.gaze_path) if path is not None]
        url = url_of(self._root)
        is_listed = url is not None and not url.startswith(("http:", "https:"))  # those list nothing
        remote = [path for path in paths if url_of(path) is not None]
        if remote and not (is_listed and all(map(self._is_below_root, remote))):
            return None
        is_object: Callable[[Path], bool] = existence(self._root) if remote else os.path.isfile
        return frozenset(path for path in paths if not (os.path.isfile if url_of(path) is None else is_object)(path))


def _expression(pattern: str) -> str:
    """A pattern of paths as a regular expression."""
    of = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}

    def of_token(match: "re.Match[str]") -> str:
        token = match[0]
        if token in of:
            return of[token]
        if len(token) > 1:  # [abc], [!abc]
            return "[" + re.sub(r"([\\\[&~|^])", r"\\\1", token[1:-1]).replace("!", "^", token[1] == "!") + "]"
        return re.escape(token)

    return re.sub(r"\*\*/|\*\*|\*|\?|\[!?[^\]/]+\]|.", of_token, pattern, flags=re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    header: tuple[str, ...]
    rows: Callable[[Collection[str]], Iterator[Record]]  #: of these columns at least


def _opened(path: Path) -> _Table:
    """A table. Raises InputError where it is none."""
    where, suffix = f"--table {readable(path)}", path.suffix.lower()
    try:
        if suffix in (".csv", ".tsv"):
            return _csv(read_bytes(path).decode("utf-8-sig"), suffix, where)
        if suffix in (".jsonl", ".ndjson"):
            return _json_lines(read_bytes(path).decode("utf-8-sig"), where)
        if suffix == ".parquet":
            return _parquet(read_bytes(path))
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        mend = "save it as UTF-8" if isinstance(error, UnicodeDecodeError) else "mend it, or give another"
        raise InputError(f"{where}: cannot be read as a table: {why}: {mend}") from error
    raise InputError(f"{where}: a table of this suffix is not read: give {_FORMATS}")


def _csv(text: str, suffix: str, where: str) -> _Table:
    csv.field_size_limit(1 << 30)
    said = re.match(r"sep=(.)\r?\n", text)  # by Excel, for itself
    head = (text[said.end() :] if said else text).partition("\n")[0]
    delimiter = said[1] if said else "\t" if suffix == ".tsv" else _delimiter(head)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    if said:
        next(reader)
    header = tuple(name.strip() for name in next(reader, ()))
    _require_distinct(header, where)

    def rows(_: Collection[str]) -> Iterator[Record]:
        line = reader.line_num + 1  # where a row begins: quoted cells may go on over several
        try:
            for cells in reader:
                place, line = f"line {line}", reader.line_num + 1
                if not cells:
                    continue
                if len(cells) > len(header):
                    raise InputError(f"{where}, {place}: {len(cells)} cells in {len(header)} columns: mend the row")
                yield Record(place=place, fields=dict(zip(header, cells, strict=False)))
        except csv.Error as error:
            is_open = str(error) == "unexpected end of data"
            why = "its quotation mark is never closed" if is_open else str(error)
            raise InputError(f"{where}, line {line}: {why}: mend the row") from error

    return _Table(header=header, rows=rows)


def _delimiter(head: str) -> str:
    """What parts the columns of a first line: spreadsheets write semicolons where decimals have commas."""
    return next((mark for mark in (",", "\t", ";") if mark in head), ",")


def _require_distinct(header: Sequence[str], where: str) -> None:
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    if twice:
        raise InputError(f"{where}: two columns are called {twice[0]!r}: rename one")


def _json_lines(text: str, where: str) -> _Table:
    records: list[Record] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}, line {number}: no JSON ({first_line(error)}): mend the line") from error
        if not isinstance(fields, dict):
            raise InputError(f"{where}, line {number}: no object with a name for each value: mend the line")
        records.append(Record(place=f"line {number}", fields=fields))
    header = tuple(dict.fromkeys(name for record in records for name in record.fields))
    return _Table(header=header, rows=lambda _: iter(records))


def _parquet(content: bytes) -> _Table:
    file = pq.ParquetFile(pa.BufferReader(content))
    header = tuple(file.schema_arrow.names)

    def rows(columns: Collection[str]) -> Iterator[Record]:
        number = 0
        for batch in file.iter_batches(columns=[name for name in header if name in columns]):
            for fields in batch.to_pylist():
                number += 1
                yield Record(place=f"row {number}", fields=fields)

    return _Table(header=header, rows=rows)

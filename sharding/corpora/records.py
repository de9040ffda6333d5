"""Records: what a table's row or a tar's sample says of a video, by names of columns, and the utterance that it is.

Which column says what, which are labels and numbers, and how the utterances are split, are options that every corpus of
records has. What no column says has a default that stands here.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from loaders.dataset.columns import COLUMNS
from loaders.dataset.identity import UtteranceName
from loaders.dataset.labels import Label
from loaders.errors import InputError
from sharding.corpora.naming import Naming, settle_names
from sharding.corpora.split import hashed_split
from sharding.utterance import Apart, Corpus, Utterance

NAMING = ("speaker", "video_id", "utterance", "start", "end", "split")  #: columns that every record may have
_NOT_STATED = frozenset({"nan", "null", "<na>"})  # what programs write for an empty cell, lower case
_NO_NAME = _NOT_STATED | {"none"}  # likewise, where it can be no class of a label
_TEST_FRACTION = 0.2
_SHOWN = 12  # columns that a note names


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordOptions:
    """What the columns of the records mean, and how the utterances are split."""

    columns: tuple[str, ...] = ()
    """Columns of other names, NAME=COLUMN each, such as speaker=spk emotion=Emotion. NAME= passes a column of that name
    by."""
    labels: tuple[str, ...] = ()
    """Columns that are labels, one of some classes each."""
    classes: tuple[str, ...] = ()
    """Classes of labels, in the order of their codes: LABEL=A,B,C each. Those of other labels are what the records say,
    sorted."""
    numbers: tuple[str, ...] = ()
    """Columns that are labels, a number each."""
    ranges: tuple[str, ...] = ()
    """Ranges of numbers, NUMBER=LOW,HIGH each. Those of other numbers are what the records say."""
    split_by: Apart | None = None
    """What the sides of the split do not share, and whose id's hash decides where an utterance falls if no column
    "split" does. Unless told otherwise speaker, where a column names speakers, and video where none does."""
    test_fraction: float | None = None
    """Share of the ids that make the split "test", where no column says it: 0.2 unless told otherwise."""
    validation_fraction: float | None = None
    """Share of the ids that make the split "validation", where no column says it: none unless told otherwise. The
    others make "train"."""
    video_names: Naming = "auto"
    """Whether two speakers' videos of one name are one video (corpus), as of a YouTube id, or two (speaker). auto:
    corpus where all names might be YouTube ids, 11 letters, digits, - and _, or where a file has two speakers;
    otherwise speaker."""
    name: str | None = None
    """The corpus' name in the dataset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A row, or a sample."""

    place: str  #: which it is, for messages: "line 3"
    fields: Mapping[str, object]  #: by column


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A record and the files that it is of."""

    record: Record
    video: Path
    name: str  #: of the video, where the record does not name it
    file_name: str  #: of the utterance, where the record does not name it
    audio: Path | None = None
    gaze: Path | None = None


def columns_read(options: RecordOptions) -> tuple[set[str], set[str]]:
    """The columns that these options have a reader read where they are there: all, and those of numbers."""
    told = {name: column.strip() for name, _, column in (text.partition("=") for text in options.columns)}
    numbers = {told.get(name, name) for name in (*options.numbers, "start", "end")}
    return numbers | {told.get(name, name) for name in (*NAMING, *options.labels)}, numbers


def possible_columns(options: RecordOptions) -> set[str]:
    """The columns that these options may have a reader look at."""
    return {*NAMING, *options.labels, *options.numbers, *(text.partition("=")[2].strip() for text in options.columns)}


class RecordReader:
    """Utterances of records, by the options."""

    def __init__(
        self,
        options: RecordOptions,
        where: str,
        header: Collection[str],
        roles: Sequence[str] = (),
        more: Sequence[str] = (),
    ) -> None:
        """Find the columns that the options name.

        Args:
            options: of the corpus.
            where: the table or tars, for messages.
            header: all columns that there are.
            more: columns that there are too, and that nobody has to use.
            roles: names that a column may have of its own, beside `NAMING`: of files, as "video".

        Raises:
            InputError: an option is none, names a column that is not there, or goes with another that is not given.
        """
        self._options, self._where = options, where
        self._unasked = tuple(more)
        self._header = (*header, *more)
        roles = (*roles, *NAMING)
        told = _pairs("--columns", options.columns, (*roles, *options.labels, *options.numbers))
        self.labels = {name: self._column(name, told) for name in options.labels}
        self.numbers = {name: self._column(name, told) for name in options.numbers}
        self.roles = {role: self._column(role, told) for role in roles if told.get(role) or role in self._header}
        self.roles = {role: column for role, column in self.roles.items() if told.get(role) != ""}
        self._classes = {
            name: tuple(part.strip() for part in text.split(","))
            for name, text in _pairs("--classes", options.classes, options.labels).items()
        }
        self._ranges = {
            name: _range(name, text) for name, text in _pairs("--ranges", options.ranges, options.numbers).items()
        }
        self._check()

    def _column(self, name: str, told: Mapping[str, str]) -> str:
        column = told.get(name, name)
        if not column and name in (*self._options.labels, *self._options.numbers):
            raise InputError(f"--columns {name}=: passes by the column of the label {name}: leave out one of the two")
        if column and column not in self._header:
            have = ", ".join(sorted(self._header)) or "none"
            raise InputError(
                f"{self._where}: no column {column!r} for {name}: it has {have}: --columns {name}=… names another"
            )
        return column

    def _check(self) -> None:
        options, reserved = self._options, {column.name for column in COLUMNS}
        for name in (*options.labels, *options.numbers):
            # Its classes and range are checked with the others' when they are known.
            problem = Label(name=name, low=0.0, high=0.0).problem(reserved)
            if problem is not None:
                raise InputError(f"{self._where}: {problem}: call it otherwise, --labels NAME --columns NAME={name}")
            reserved.add(name)
        fractions = {"--test-fraction": options.test_fraction, "--validation-fraction": options.validation_fraction}
        for option, value in fractions.items():
            if value is not None and "split" in self.roles:
                column = self.roles["split"]
                raise InputError(
                    f"{option} {value:g}: the column {column!r} says the split: leave it out, or give --columns split="
                )
            if value is not None and not 0 <= value < 1:
                raise InputError(f"{option} is {value:g}: use a share from 0 to below 1")
        if self._shares[0] + self._shares[1] >= 1:
            raise InputError(
                "--test-fraction and --validation-fraction leave nothing for train: use less than 1 in all"
            )
        if options.split_by == "speaker" and "speaker" not in self.roles:
            raise InputError(
                f"{self._where}: --split-by speaker: no column names speakers: --columns speaker=…, or --split-by video"
            )

    @property
    def _shares(self) -> tuple[float, float]:
        test, validation = self._options.test_fraction, self._options.validation_fraction
        return _TEST_FRACTION if test is None else test, 0.0 if validation is None else validation

    @property
    def used(self) -> set[str]:
        """The columns that are looked at."""
        return {*self.roles.values(), *self.labels.values(), *self.numbers.values()}

    def text(self, record: Record, role: str) -> str | None:
        """What a record says in the column of a role, as text; None: nothing, or there is no such column.

        What programs write for an empty cell, nan, null, None and <NA>, is nothing.

        Raises:
            InputError: it is no text.
        """
        column = self.roles.get(role)
        # Only a file's name may stand for bytes that are no UTF-8, as Python has them.
        if column is None:
            return None
        text = self._text(record, column, "strict" if role in NAMING else "surrogateescape")
        return None if text is None or text.lower() in _NO_NAME else text

    def corpus(self, located: Sequence[Located], name: str) -> Corpus:
        """The utterances of the records, with labels and notes.

        Args:
            located: at least one record, with its files.
            name: of the corpus, unless the options name it.

        Raises:
            InputError: a record says what cannot be, or two are the same utterance.
        """
        options = self._options
        split_by: Apart = options.split_by or ("speaker" if "speaker" in self.roles else "video")
        corpus = options.name or name
        utterances: list[Utterance] = []
        places: dict[UtteranceName, str] = {}
        for one in located:
            utterance = self._utterance(one, corpus, split_by)
            other = places.setdefault(utterance.name, one.record.place)
            if other is not one.record.place:
                raise InputError(
                    f"{self._where}, {one.record.place}: is the utterance {utterance.name} of {other} too: a column "
                    "video_id or utterance tells them apart, or leave one out"
                )
            utterances.append(utterance)
        labels = tuple(self._label(label, utterances) for label in (*self.labels, *self.numbers))
        video_names, notes = settle_names(utterances, options.video_names, split_by)
        return Corpus(
            name=corpus,
            utterances=tuple(utterances),
            labels=labels,
            declared=frozenset((*self._classes, *self._ranges)),
            notes=(*self._notes(located), *self._found(labels), *notes),
            apart=split_by,
            video_names=video_names,
        )

    def _notes(self, located: Sequence[Located]) -> list[str]:
        notes = []
        unused = [column for column in self._header if column not in {*self.used, *self._unasked}]
        if unused:
            more = f" and {len(unused) - _SHOWN} more" if len(unused) > _SHOWN else ""
            notes.append(
                f"{self._where}: columns not used: {', '.join(name or repr(name) for name in unused[:_SHOWN])}{more} "
                "(--labels and --numbers take a column as a label)"
            )
        speakers = [self.text(one.record, "speaker") for one in located]
        without = [one for one, speaker in zip(located, speakers, strict=True) if speaker is None]
        if without:
            written = self._written(located, "speaker")
            of = f" ({written})" if written else ""
            which = f"{len(without)} of {len(located)} name no speaker{of}"
            notes.append(f"{self._where}: {which}: each video there has a speaker of its own")
            if alike := sorted({self._video(one) for one in without}.intersection(filter(None, speakers))):
                notes.append(
                    f"{self._where}: but {len(alike)} of these videos are called as a speaker is, the first "
                    f"{alike[0]!r}, and are taken for that speaker's: name their speakers, or call them otherwise "
                    "(video_id)"
                )
        others = {role: self._written(located, role) for role in self.roles if role not in ("speaker", "video")}
        notes += [f"{self._where}: {role}: {said}: taken for empty cells" for role, said in others.items() if said]
        for label in (*self.labels, *self.numbers):
            column = self.labels.get(label) or self.numbers[label]
            is_missing = is_empty if label in self.labels else _is_no_number
            missing = sum(is_missing(one.record.fields.get(column)) for one in located)
            if missing:
                notes.append(f"{self._where}: {missing} of {len(located)} state no {label}")
        return notes

    def _found(self, labels: Sequence[Label]) -> list[str]:
        """What the records say of labels whose classes or range no option does: slips of the pen are seen here."""
        notes = []
        for label in labels:
            if label.classes is None:
                if label.name not in self._ranges:
                    notes.append(f"{self._where}: {label.name} is from {label.low:g} to {label.high:g} (or --ranges)")
            elif label.name not in self._classes:
                shown = ", ".join(map(_shown, label.classes[:_SHOWN]))
                more = f" and {len(label.classes) - _SHOWN} more" if len(label.classes) > _SHOWN else ""
                count = "1 class" if len(label.classes) == 1 else f"{len(label.classes)} classes"
                notes.append(f"{self._where}: {label.name} has {count}: {shown}{more} (or --classes)")
                alike: dict[str, list[str]] = {}
                for name in label.classes:
                    alike.setdefault(unicodedata.normalize("NFKC", name).casefold(), []).append(name)
                notes += [
                    f"{self._where}: {' and '.join(map(_shown, names))} are classes of their own: write them alike "
                    f"where they are one {label.name}"
                    for names in alike.values()
                    if len(names) > 1
                ]
        return notes

    def _written(self, located: Sequence[Located], role: str) -> str:
        """How many records say nothing of a role by a word for it, and by which; empty where none does."""
        values = [one.record.fields.get(self.roles[role]) for one in located if role in self.roles]
        words = Counter(v.strip() for v in values if isinstance(v, str) and v.strip().lower() in _NO_NAME)
        return ", ".join(f"{count} say {word!r}" for word, count in sorted(words.items()))

    def _video(self, located: Located) -> str:
        return self.text(located.record, "video_id") or located.name

    def _utterance(self, located: Located, corpus: str, split_by: Apart) -> Utterance:
        record = located.record
        video = self._video(located)
        start, end = self._seconds(record)
        part = "" if start is None and end is None else f"@{start or 0.0:.9g}"  # hours, to the millisecond
        names = UtteranceName(
            self.text(record, "speaker") or video,
            video,
            self.text(record, "utterance") or f"{located.file_name}{part}",
        )
        return Utterance(
            corpus=corpus,
            split=self._split(record, names, split_by),
            speaker=names.speaker,
            video=names.video,
            utterance=names.utterance,
            video_path=located.video,
            audio_path=located.audio,
            gaze_path=located.gaze,
            start=start,
            end=end,
            labels=self._stated(record),
        )

    def _split(self, record: Record, names: UtteranceName, split_by: Apart) -> str:
        if "split" not in self.roles:
            identity = {"speaker": names.speaker, "video": names.video, "utterance": "/".join(names)}[split_by]
            return hashed_split(identity, *self._shares)
        split = self.text(record, "split")
        if split is None or not re.fullmatch(r"\w[\w.-]*", split):
            said = record.fields.get(self.roles["split"])
            value = repr(said) if isinstance(said, str) and said.strip() else "empty"
            raise self._wrong(record, self.roles["split"], f"is {value}: use a word such as train, validation or test")
        return split

    def _seconds(self, record: Record) -> tuple[float | None, float | None]:
        start, end = (
            self._number(record, self.roles[role], seconds=True) if role in self.roles else None
            for role in ("start", "end")
        )
        if start is not None and start < 0:
            raise self._wrong(record, self.roles["start"], f"is {start:g}: use seconds from 0 on")
        if end is not None and end <= (start or 0.0):
            raise self._wrong(record, self.roles["end"], f"is {end:g}: use seconds after the start, {start or 0.0:g}")
        return start, end

    def _stated(self, record: Record) -> dict[str, str | float]:
        stated: dict[str, str | float] = {}
        for name, column in self.labels.items():
            value = None if is_empty(record.fields.get(column)) else self._text(record, column)
            classes = self._classes.get(name)
            if value is not None:
                if classes is not None and value not in classes:
                    raise self._wrong(
                        record, column, f"is {value!r}: use one of {', '.join(classes)}, or leave it empty"
                    )
                stated[name] = value
        for name, column in self.numbers.items():
            number = self._number(record, column)
            low, high = self._ranges.get(name, (-math.inf, math.inf))
            if number is not None:
                if not low <= number <= high:
                    raise self._wrong(record, column, f"is {number:g}: use {low:g} to {high:g}, or leave it empty")
                stated[name] = number
        return stated

    def _label(self, name: str, utterances: Sequence[Utterance]) -> Label:
        stated = {utterance.labels[name] for utterance in utterances if name in utterance.labels}
        if not stated:
            column = self.labels.get(name) or self.numbers[name]
            raise InputError(f"{self._where}: nothing states the column {column!r}: leave {name} out")
        if name in self.labels:
            label = Label(name=name, classes=self._classes.get(name) or _sorted(cast("set[str]", stated)))
        else:
            numbers = cast("set[float]", stated)
            low, high = self._ranges.get(name) or (min(numbers), max(numbers))
            label = Label(name=name, low=low, high=high)
        problem = label.problem(())
        if problem is not None:
            raise InputError(f"{self._where}: {problem}: mend --classes or --ranges")
        return label

    def _text(self, record: Record, column: str, escapes: str = "strict") -> str | None:
        value = record.fields.get(column)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, str | int | float):
            raise self._wrong(record, column, f"is {_shown(value)}, neither text nor a number")
        text = str(value).strip()
        try:
            text.encode("utf-8", escapes)
        except UnicodeEncodeError:
            raise self._wrong(record, column, f"is {_shown(value)}, which is no Unicode text: mend it") from None
        if "\0" in text:
            raise self._wrong(record, column, f"is {_shown(value)}, with a zero byte: mend it")
        return text or None

    def _number(self, record: Record, column: str, *, seconds: bool = False) -> float | None:
        value = record.fields.get(column)
        if _is_no_number(value):
            return None
        try:
            if isinstance(value, bool) or not isinstance(value, str | int | float) or "_" in str(value):
                raise ValueError
            number = float(value)
            with np.errstate(over="ignore"):
                if not np.isfinite(np.float32(number)):
                    raise ValueError
        except (ValueError, OverflowError):
            mend = "give seconds, such as 62.5" if seconds else "mend it, or leave it empty"
            if isinstance(value, str) and re.fullmatch(r"[+-]?[\d.,]*,\d+", value.strip()):
                mend = "decimals stand after a point, and nothing parts thousands"
            raise self._wrong(record, column, f"is {_shown(value)}, which is no number: {mend}") from None
        return number

    def _wrong(self, record: Record, column: str, what: str) -> InputError:
        return InputError(f"{self._where}, {record.place}: {column} {what}")


def _pairs(option: str, given: Iterable[str], names: Collection[str]) -> dict[str, str]:
    """NAME=VALUE arguments, by name."""
    pairs: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in names:
            known = ", ".join(names) or "none is given"
            raise InputError(f"{option} {text}: use NAME=…, with one of these names: {known}")
        if name in pairs:
            raise InputError(f"{option} {text}: {name} is given twice: leave one out")
        pairs[name] = value.strip()
    return pairs


def _range(name: str, text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(","))
    except ValueError as error:
        raise InputError(f"--ranges {name}={text}: use LOW,HIGH, such as {name}=-1,1") from error
    return low, high


def is_empty(value: object) -> bool:
    """Whether nothing is stated: an empty cell, null or NaN."""
    if isinstance(value, str):
        return not value.strip() or value.strip().lower() in _NOT_STATED
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_no_number(value: object) -> bool:
    """`is_empty`, also by a word that might be a class."""
    return is_empty(value) or (isinstance(value, str) and value.strip().lower() in _NO_NAME)


def _sorted(classes: Collection[str]) -> tuple[str, ...]:
    """In the order of their numbers, where all are whole numbers; otherwise of their letters."""
    if all(re.fullmatch(r"-?\d{1,15}", name) for name in classes):
        return tuple(sorted(classes, key=lambda name: (int(name), name)))
    return tuple(sorted(classes))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"

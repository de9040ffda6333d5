"""Arrays that others have computed: an .npy file beside each video, ``video.mp4`` and ``video.tokens.npy``.

What a file claims for its own size is held against what ``--member`` declares before anything is read, and nothing of
it is ever evaluated.
"""

import math
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from loaders.errors import InputError
from sharding.media.reader import SLACK
from sharding.members.registry import ArrayType, NoArrayError, OfClip, Source, WrongArrayError
from sharding.settings import BuildSettings
from sharding.sources.regular import open_regular

DTYPES = (
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)
"""What a member's numbers can be."""

_FORM = re.compile(r"([^=]*)=([^:]*):([^\[:]*)\[([^\]]*)\](?:@(.*))?")
_HOW = (
    "write NAME=SUFFIX:DTYPE[SHAPE], as tokens=.tokens.npy:int32[<=64], or with @RATE, as lm=.lm.npy:float32[68,2]@25"
)
_VERSIONS = ((1, 0), (2, 0), (3, 0))  # of the .npy format
_LENGTHS_APART = (0.2, 0.01)  # an array may differ from its video by so many seconds, and by this share of it


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayFile:
    """A file beside each video, and what a clip gets of it.

    With a rate the file has a row each 1 / rate seconds of the video's file, and a clip gets those of its own time.
    Without, every clip of an utterance gets the whole array.
    """

    name: str  #: of the member
    suffix: str  #: in place of the video's own: ``video.mp4`` has ``video<suffix>``
    dtype: str
    shape: tuple[int, ...]  #: with a rate of a row, otherwise of the array; of one of varying length with the most rows
    variable: bool
    rate: float | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """What ``--member NAME=SUFFIX:DTYPE[SHAPE]`` or ``…@RATE`` says.

        Raises:
            InputError: it is not of that form.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise InputError(f"--member {text}: {_HOW}")
        name, suffix, dtype, shape, rate = found.groups()
        if not suffix.endswith(".npy") or "/" in suffix or "\\" in suffix:
            raise InputError(f"--member {text}: {suffix!r} is no suffix of an .npy file beside the video: {_HOW}")
        if dtype not in DTYPES:
            raise InputError(f"--member {text}: {dtype!r} is no kind of number: use one of {', '.join(DTYPES)}")
        lengths = [length.strip() for length in shape.split(",")] if shape.strip() else []
        variable = bool(lengths) and lengths[0].startswith("<=")
        if variable:
            lengths[0] = lengths[0].removeprefix("<=").strip()
        if not all(re.fullmatch(r"[1-9]\d{0,9}", length) for length in lengths):
            raise InputError(
                f"--member {text}: [{shape}] is no shape: use whole numbers, the first with <= where rows vary"
            )
        per_second = None
        if rate is not None:
            if variable:
                raise InputError(f"--member {text}: with @RATE [{shape}] is the shape of a row: leave out the <=")
            if not re.fullmatch(r"\d+(\.\d+)?", rate) or not 0 < float(rate) <= 100_000:
                raise InputError(f"--member {text}: {rate!r} is no number of rows a second: use more than 0")
            per_second = float(rate)
        return cls(
            name=name,
            suffix=suffix,
            dtype=dtype,
            shape=tuple(int(length) for length in lengths),
            variable=variable,
            rate=per_second,
        )

    def type(self, settings: BuildSettings) -> ArrayType:
        """What a clip gets. Raises InputError where a clip is shorter than a row lasts."""
        if self.rate is None:
            return ArrayType(dtype=self.dtype, shape=self.shape, variable=self.variable)
        steps = self._steps(settings)
        if steps < 1:
            raise InputError(f"--member {self.name}: @{self.rate:g} is less than a row a clip: use a higher rate")
        return ArrayType(dtype=self.dtype, shape=(steps, *self.shape))

    def _steps(self, settings: BuildSettings) -> int:
        return round(settings.clip_seconds * (self.rate or 0.0))

    def beside(self, video: str) -> str:
        """The name of the file of a video, by the video's name."""
        return PurePath(video).stem + self.suffix

    def of_utterance(self, source: Source) -> OfClip:
        """See `sharding.members.registry.OfUtterance`.

        Raises:
            NoArrayError: the utterance has no such file, or one of another length than its video.
            WrongArrayError: the file does not hold what is declared.
            OSError: it cannot be read.
        """
        path = source.utterance.arrays.get(self.name)
        if path is None:
            raise NoArrayError(f"{self.name}_missing", f"no {self.beside(source.utterance.video_path.name)}")
        with open_regular(path) as file:
            if self.rate is not None:
                return self._by_time(file, path, source, self.rate)
            whole = self._rows(file, path, None)
        return lambda start, end: whole

    def _by_time(self, file: BinaryIO, path: Path, source: Source, rate: float) -> OfClip:
        header = self._header(file, path)
        if not header or header[1:] != self.shape:
            raise self._wrong(path, f"has the shape {header}, not (rows, {', '.join(map(str, self.shape))})")
        count = header[0]
        is_whole = source.utterance.is_whole and source.utterance.boxes is None
        lasts, seconds = count / rate, source.media.source_seconds
        if is_whole and abs(lasts - seconds) > max(_LENGTHS_APART[0], _LENGTHS_APART[1] * seconds) + 1 / rate:
            what = f"{count} rows at {rate:g} a second are {lasts:.2f} s of a video of {seconds:.2f} s"
            raise NoArrayError(f"{self.name}_wrong_length", what)
        first = round(source.start * rate)
        steps = self._steps(source.settings)
        used = min(count, math.ceil((source.start + source.media.seconds) * rate) + steps)
        rows = self._rows(file, path, (first, max(used, first)))

        def of_clip(start: float, end: float) -> NDArray[Any]:
            begin = round((source.start + start) * rate) - first
            lacking = begin + round((end - start) * rate) - len(rows)
            if not len(rows) or lacking > max(1, int(SLACK * rate)):
                raise NoArrayError(f"{self.name}_too_short", f"{path.name} ends {lacking} rows before {end:g} s")
            # What lacks at the end, or lies under what a short clip is padded with, is like the last row there is.
            return rows[np.minimum(np.arange(begin, begin + steps), len(rows) - 1)]

        return of_clip

    def _rows(self, file: BinaryIO, path: Path, span: tuple[int, int] | None) -> NDArray[Any]:
        """The array in the file, or these rows of it."""
        file.seek(0)
        shape = self._header(file, path)
        if span is None:
            fits = shape == self.shape
            if self.variable:
                fits = len(shape) == len(self.shape) and shape[1:] == self.shape[1:] and shape[0] <= self.shape[0]
            if not fits:
                raise self._wrong(path, f"has the shape {shape}")
        else:
            shape = (max(min(span[1], shape[0]) - span[0], 0), *shape[1:])
            file.seek(span[0] * self._row_bytes(), 1)
        size = math.prod(shape) * np.dtype(self.dtype).itemsize
        data = file.read(size)
        if len(data) != size:
            raise self._wrong(path, "ends too early")
        if span is None and file.read(1):
            raise self._wrong(path, "goes on after its array")
        array: NDArray[Any] = np.frombuffer(data, np.dtype(self.dtype).newbyteorder("<")).reshape(shape)
        if not np.isfinite(array).all():
            raise self._wrong(path, "holds numbers that are not finite")
        return array

    def _row_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def _header(self, file: BinaryIO, path: Path) -> tuple[int, ...]:
        """The array's shape; the file stands at its first number afterwards."""
        try:
            version = np.lib.format.read_magic(file)
            if version not in _VERSIONS:
                raise ValueError(f"version {version}")
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, is_fortran, dtype = read(file)  # a literal is parsed, and never evaluated
        except (ValueError, EOFError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError) as error:
            raise self._wrong(path, "is no .npy file") from error
        if dtype != np.dtype(self.dtype).newbyteorder("<"):
            raise self._wrong(path, f"holds {dtype}")
        if is_fortran and len(shape) > 1:
            raise self._wrong(path, "has its columns first (Fortran order): save numpy.ascontiguousarray of it")
        return tuple(shape)

    def _wrong(self, path: Path, what: str) -> WrongArrayError:
        return WrongArrayError(f"{self.name}_wrong", f"{path}: {what}, declared as {self.declared}")

    @property
    def declared(self) -> str:
        """DTYPE[SHAPE], with @RATE where there is one."""
        lengths = [str(length) for length in self.shape]
        if self.variable:
            lengths[0] = f"<={lengths[0]}"
        rate = "" if self.rate is None else f"@{self.rate:g}"
        return f"{self.dtype}[{','.join(lengths)}]{rate}"

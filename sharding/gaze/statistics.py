"""OpenFace 2's table of one video (a row a frame) to the 103 gaze statistics of that video.

The statistics are those of O'Dwyer, Murray and Flynn, "Eye-based Continuous Affect Prediction" (ACII 2019), as listed
in Table 3.2 of the thesis. The table prints "Δ gaze angle x" twice; the second is gaze angle y's. Where the authors'
published R code departs from its own comments, the documented meaning is computed: fixation and approach are not
inverted, a run still open at the last frame counts, and the distance is read from both eyes.

Every number is float64. Frames on which OpenFace did not succeed are left out before anything is computed: a difference
is then taken to the last frame that succeeded, and a run goes on across the gap. It makes no difference whether their
rows are in the table or were taken out of it: frames are counted by their numbers.

OpenFace's timestamps are its frame numbers over one rate for the whole video. Where the rate varies they are no times,
and a row is placed by its number instead, at the picture that it is of (`on_pictures`).

    python -m sharding.gaze TABLE.csv [--rows A:B] [--json]
"""

from __future__ import annotations

import io
import json
import math
import re
import sys
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.csv
import tyro
from numpy.typing import NDArray

from loaders.arguments import cli
from loaders.errors import InputError
from sharding.sources.read_errors import failures_named
from sharding.sources.regular import open_regular

Floats = NDArray[np.float64]

OPENFACE, MEDIAPIPE = (
    "openface",
    "mediapipe",
)  #: trackers; a table says in its column "tracker" that it is no OpenFace's

FIXATION_DEGREES_PER_SECOND = 3.2
"""Gaze that turns no faster than this fixates (Lappi 2016)."""

# Twelve signals, and which statistics of each are kept (thesis, Table 3.2).
_DISTRIBUTION = (
    *("min", "max", "mean", "median", "quartile_1", "quartile_3", "SD"),
    *("IQR_1_2", "IQR_2_3", "IQR_1_3", "LR_intercept", "LR_slope"),
)
_VARYING = {
    "gaze_angle_x": _DISTRIBUTION,
    "gaze_angle_y": _DISTRIBUTION,
    "delta_gaze_angle_x": _DISTRIBUTION,
    "delta_gaze_angle_y": _DISTRIBUTION,
    "pupil_diameter_mm": _DISTRIBUTION,
    "delta_pupil_diameter_mm": tuple(name for name in _DISTRIBUTION if name != "median"),
    "eye_blink_intensity": tuple(name for name in _DISTRIBUTION if name not in ("min", "quartile_1")),
}
_ON_OFF = {
    "pupil_dilation": ("time_ratio", "time_secs_mean", "time_secs_max", "time_secs_total"),
    "pupil_constriction": ("time_ratio", "time_secs_mean", "time_secs_max", "time_secs_total"),
    "gaze_approach": ("time_ratio", "time_secs_mean", "time_secs_max", "time_secs_median"),
    "eyes_closed": ("time_ratio", "time_secs_min", "time_secs_max", "time_secs_mean", "time_secs_median"),
    "gaze_fixation": ("time_ratio", "time_secs_min", "time_secs_max", "time_secs_mean", "time_secs_median"),
}

SIGNAL_NAMES: tuple[str, ...] = (*_VARYING, *_ON_OFF)
"""The columns of `signals`, in order: seven that vary, then five that are 0 or 1."""

GAZE_NAMES: tuple[str, ...] = tuple(
    f"{signal}_{statistic}" for signal, kept in (_VARYING | _ON_OFF).items() for statistic in kept
)
"""The names of the 103 values of `statistics`, in order."""

# What is read, and the name OpenFace gives it. Upper-case X and Z are millimetres in the camera's space (the lower-case
# columns of the same number are pixels). Landmarks 51 and 55 lie opposite each other on the edge of one pupil, to its
# left and right; 8 and 42 are the outer corners of the two eyes.
_COLUMNS = {
    "frame": "frame",
    "timestamp": "timestamp",
    "confidence": "confidence",
    "success": "success",
    "gaze_angle_x": "gaze_angle_x",
    "gaze_angle_y": "gaze_angle_y",
    "pupil_x_51": "eye_lmk_X_51",
    "pupil_x_55": "eye_lmk_X_55",
    "corner_z_8": "eye_lmk_Z_8",
    "corner_z_42": "eye_lmk_Z_42",
    "blink_intensity": "AU45_r",
    "eyes_closed": "AU45_c",
}
TRACKER = "tracker"  #: a column of tables that are not OpenFace's
_HALF_TIMESTAMP_STEP = 0.0005  # seconds: OpenFace rounds its timestamps to milliseconds


class GazeError(Exception):
    """A table that gives no gaze. `reason` is a slug to count by, `detail` one line for a person.

    Reasons: `gaze_missing` (no such file), `gaze_unreadable` (not a whole OpenFace 2 table), `gaze_few_frames` (too few
    frames on which OpenFace succeeded).
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # both, so that it can be pickled on its way out of a worker process
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GazeTable:
    """The columns of OpenFace 2's output that gaze is computed from, each (rows,) and float64 but for `success`.

    `timestamp` is in seconds, the angles in radians, pupil and corner positions in millimetres, `blink_intensity` 0 to
    5, `eyes_closed` 0 or 1. Where `success` is false, all but `frame` and `timestamp` may hold anything.

    `fps` is the frame rate of the whole video and stays with any part cut from it: worked out anew from the few rounded
    timestamps of a short part, it would not be the same.

    `lasting` is how many seconds each row's picture stays, where that varies; None: 1 / fps, all of them.

    `tracker` is what made the table.
    """

    frame: Floats
    timestamp: Floats
    confidence: Floats
    success: NDArray[np.bool_]
    gaze_angle_x: Floats
    gaze_angle_y: Floats
    pupil_x_51: Floats
    pupil_x_55: Floats
    corner_z_8: Floats
    corner_z_42: Floats
    blink_intensity: Floats
    eyes_closed: Floats
    fps: float
    lasting: Floats | None = None
    tracker: str = OPENFACE

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def frames(self) -> int:
        """How many frames there are from the first row to the last, with those whose rows have been left out."""
        return max(len(self), round(np.ptp(self.frame)) + 1) if len(self) else 0

    def rows(self, selection: slice | NDArray[np.bool_]) -> GazeTable:
        """The rows of a slice or a mask, as they are."""
        lasting = None if self.lasting is None else self.lasting[selection]
        return replace(self, lasting=lasting, **{field: getattr(self, field)[selection] for field in _COLUMNS})


def read_table(path: Path) -> GazeTable:
    """Read a `FeatureExtraction` table of OpenFace 2, with or without spaces after its commas.

    Raises `GazeError`: `gaze_missing`, `gaze_unreadable` (columns missing, cut short, empty, not numbers, several
    faces), or `gaze_few_frames` where OpenFace succeeded on fewer than two frames: they do not even give a frame rate;
    `SourceError` where its file system fails.
    """
    try:
        with failures_named(path), open_regular(path) as file:
            content = file.read()
    except FileNotFoundError:
        raise GazeError("gaze_missing", "no such file") from None
    except OSError as error:
        raise GazeError("gaze_unreadable", error.strerror or str(error)) from error
    return parse_table(content)


def parse_table(content: bytes) -> GazeTable:
    """The table in a file's content; `GazeError` as from `read_table`."""
    lines = io.BytesIO(content)
    names = [name.strip() for name in lines.readline().decode("utf-8-sig", errors="replace").split(",")]
    _require_columns(names)
    if not any(line.strip() for line in lines):
        raise GazeError("gaze_unreadable", "holds a header and no rows")
    columns = _parse(content, names)
    _require_numbers(columns)
    succeeded = columns["success"] == 1
    if np.count_nonzero(succeeded) < 2:
        raise _few_frames(int(np.count_nonzero(succeeded)), round(np.ptp(columns["frame"])) + 1)
    fps = _frame_rate(columns["frame"][succeeded], columns["timestamp"][succeeded])
    numbers = {field: columns[name] for field, name in _COLUMNS.items() if field != "success"}
    return GazeTable(success=succeeded, fps=fps, tracker=_tracker(content, names), **numbers)


def on_pictures(table: GazeTable, starts: Floats, seconds: float) -> GazeTable:
    """The table with every row at the time of the picture that its frame number, counted from 1, stands for.

    Args:
        table: of all pictures of a video, some of which may be left out.
        starts: seconds at which its pictures appear, (pictures,), from 0 on.
        seconds: that the video lasts.

    Returns:
        The table; frames that the video does not have, and those whose picture is never on screen (it comes late, when
        the next one has appeared), count as failed.
    """
    starts = np.maximum.accumulate(starts)
    picture = table.frame.astype(int) - 1
    is_there = (picture >= 0) & (picture < len(starts))
    picture = np.clip(picture, 0, len(starts) - 1)
    lasting = np.diff(starts, append=max(seconds, float(starts[-1])))[picture]
    return replace(
        table,
        timestamp=starts[picture],
        success=table.success & is_there & (lasting > 0),
        lasting=lasting,
        fps=len(starts) / seconds,
    )


def window(table: GazeTable, start_seconds: float, end_seconds: float) -> GazeTable:
    """The frames from `start_seconds` up to, not including, `end_seconds`, with time counted from `start_seconds`.

    So the statistics of a clip do not depend on where in its video the clip lies; a regression's intercept is the value
    at the start of the clip, not one extrapolated to the start of the video. Bounds are compared to within the rounding
    of the timestamps. Raises `GazeError` (`gaze_few_frames`) where under half of the frames that the window should have
    are in the table and succeeded; where the frames' rate varies, those of under half of its time.
    """
    if not start_seconds < end_seconds:
        raise ValueError(f"a window must end after it starts, not last from {start_seconds} to {end_seconds} s")
    first, last = start_seconds - _HALF_TIMESTAMP_STEP, end_seconds - _HALF_TIMESTAMP_STEP
    part = table.rows((table.timestamp >= first) & (table.timestamp < last))
    if part.lasting is None:
        require_half(part, round((end_seconds - start_seconds) * table.fps))
        return replace(part, timestamp=part.timestamp - start_seconds)
    lasting = np.minimum(part.lasting, end_seconds - part.timestamp)
    seen, whole = float(lasting[part.success].sum()), end_seconds - start_seconds
    if 2 * seen < whole - 2 * _HALF_TIMESTAMP_STEP:
        raise GazeError(
            "gaze_few_frames", f"the tracker succeeded on {seen:.2f} s of {whole:g} s; half of it is needed"
        )
    return replace(part, timestamp=part.timestamp - start_seconds, lasting=lasting)


def signals(table: GazeTable, *, fixation_degrees_per_second: float = FIXATION_DEGREES_PER_SECOND) -> Floats:
    """What every frame says of gaze: (rows, 12), columns as in `SIGNAL_NAMES`; NaN in the rows that did not succeed.

    Angles are in radians, diameters in millimetres; `delta_…` is the difference to the frame before that succeeded, 0
    at the first. `gaze_approach`: the eyes come nearer to the camera or keep their distance. `gaze_fixation`: the gaze
    turns by no more than the threshold allows in one frame. Both are of a movement, and there is none before the first
    frame, which takes the second's value.

    Differences are compared with zero as they come. OpenFace writes landmarks to a tenth of a millimetre, so a diameter
    often stays the same, and then the rounding of binary fractions decides between dilation, constriction and neither.
    The reference values are made so.

    Raises `GazeError` (`gaze_few_frames`) where fewer than two frames succeeded.
    """
    seen = table.rows(table.success)
    if len(seen) < 2:
        raise _few_frames(len(seen), table.frames)
    turn_x, turn_y = _change(seen.gaze_angle_x), _change(seen.gaze_angle_y)
    diameter = np.abs(seen.pupil_x_55 - seen.pupil_x_51)
    growth = _change(diameter)
    approach = _change((seen.corner_z_8 + seen.corner_z_42) / 2) <= 0
    allowed: Floats | float = math.radians(fixation_degrees_per_second) / table.fps
    if seen.lasting is not None:  # a turn takes as long as the picture before stayed
        allowed = math.radians(fixation_degrees_per_second) * np.concatenate([seen.lasting[:1], seen.lasting[:-1]])
    fixation = np.hypot(turn_x, turn_y) <= allowed
    approach[0], fixation[0] = approach[1], fixation[1]

    result = np.full((len(table), len(SIGNAL_NAMES)), np.nan)
    result[table.success] = np.column_stack(
        [
            *(seen.gaze_angle_x, seen.gaze_angle_y, turn_x, turn_y),
            *(diameter, growth, seen.blink_intensity),
            *(growth > 0, growth < 0, approach, seen.eyes_closed, fixation),
        ]
    )
    return result


def statistics(table: GazeTable, *, fixation_degrees_per_second: float = FIXATION_DEGREES_PER_SECOND) -> Floats:
    """The 103 statistics, (103,), in the order of `GAZE_NAMES`.

    Angles are in radians, diameters in millimetres, `time_secs_…` in seconds, slopes per second. Distributions are over
    frames, whether or not all stay equally long; durations and shares of time are of time.

    Raises `GazeError` (`gaze_few_frames`) where under half of the frames succeeded, or fewer than two; frames whose
    rows have been left out between the first row and the last count as failed.
    """
    require_half(table, table.frames)
    frames = signals(table, fixation_degrees_per_second=fixation_degrees_per_second)[table.success]
    split = len(_VARYING)
    seen = table.rows(table.success)
    distribution = _distribution(frames[:, :split], seen.timestamp)
    values = [distribution[name][column] for column, kept in enumerate(_VARYING.values()) for name in kept]
    for column, kept in enumerate(_ON_OFF.values(), start=split):
        durations = _durations(frames[:, column] > 0, table.fps if seen.lasting is None else seen.lasting)
        values.extend(durations[name] for name in kept)
    return np.array(values)


def _distribution(values: Floats, seconds: Floats) -> dict[str, Floats]:
    """Of each column of values (frames, signals): its distribution and its regression on time; every result (signals,).

    Quartiles interpolate linearly (R's type 7), the deviation divides by n − 1, the regression is least squares.
    """
    quartile_1, median, quartile_3 = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
    mean = values.mean(axis=0)
    elapsed = seconds - seconds.mean()
    slope = elapsed @ (values - mean) / (elapsed @ elapsed)
    return {
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "mean": mean,
        "median": median,
        "quartile_1": quartile_1,
        "quartile_3": quartile_3,
        "SD": values.std(axis=0, ddof=1),
        "IQR_1_2": median - quartile_1,
        "IQR_2_3": quartile_3 - median,
        "IQR_1_3": quartile_3 - quartile_1,
        "LR_intercept": mean - slope * seconds.mean(),
        "LR_slope": slope,
    }


def _durations(is_on: NDArray[np.bool_], clock: float | Floats) -> dict[str, float]:
    """Of a 0/1 signal: the share of ones, and how long its runs of ones last, in seconds (0 where there are none).

    ``clock`` is frames a second, or the seconds of each.
    """
    edges = np.diff(np.concatenate(([0], is_on.astype(np.int8), [0])))
    begin, end = np.flatnonzero(edges > 0), np.flatnonzero(edges < 0)
    if isinstance(clock, np.ndarray):
        passed = np.concatenate(([0.0], np.cumsum(clock)))
        runs, ratio = passed[end] - passed[begin], float(clock @ is_on / passed[-1])
    else:
        runs, ratio = (end - begin) / clock, float(is_on.mean())
    if not len(runs):
        runs = np.zeros(1)
    return {
        "time_ratio": ratio,
        "time_secs_min": float(runs.min()),
        "time_secs_max": float(runs.max()),
        "time_secs_mean": float(runs.mean()),
        "time_secs_median": float(np.median(runs)),
        "time_secs_total": float(runs.sum()),
    }


def _change(values: Floats) -> Floats:
    """Each value less the one before; 0 for the first."""
    return np.diff(values, prepend=values[0])


def _frame_rate(frame: Floats, timestamp: Floats) -> float:
    """Whole frames a second, from the second frame's timestamp, or from the median step where that is not at hand.

    Rounded down, as the statistics define it: 0.033 s is 30 frames a second. Steps are divided by the frames they span,
    so that frames left out do not slow the clock.
    """
    if timestamp[0] == 0 and frame[1] - frame[0] == 1:
        step = float(timestamp[1])
    else:
        step = float(np.median(np.diff(timestamp) / np.diff(frame)))
    fps = math.floor(1 / step * (1 + 1e-9))  # 5.04 − 5.00 is a little more than 0.04, and yet 25 frames a second
    if fps < 1:
        raise GazeError("gaze_unreadable", f"frames are {step:g} s apart; gaze needs at least one a second")
    return float(fps)


def _parse(content: bytes, names: list[str]) -> dict[str, Floats]:
    """The needed columns of the table, by OpenFace's names; NaN where a cell is empty."""
    needed = list(_COLUMNS.values())
    try:
        # One thread, as the processes that build shards already fill every core; one block, as far as Arrow allows it.
        block = min(len(content) + 1, 2**30)
        parsed = pyarrow.csv.read_csv(
            pa.BufferReader(content),
            pyarrow.csv.ReadOptions(use_threads=False, block_size=block, column_names=names, skip_rows=1),
            pyarrow.csv.ParseOptions(quote_char=False),
            pyarrow.csv.ConvertOptions(include_columns=needed, column_types=dict.fromkeys(needed, pa.float64())),
        )
    except pa.ArrowInvalid as error:
        told = re.sub(r"CSV column #(\d+)", lambda match: names[int(match[1])], str(error)).replace("Row #", "line ")
        raise GazeError("gaze_unreadable", textwrap.shorten(told, 160, placeholder=" …")) from error
    return {name: parsed[name].to_numpy() for name in needed}


def _tracker(content: bytes, names: list[str]) -> str:
    """What a table says that made it, in its first row."""
    if TRACKER not in names:
        return OPENFACE
    lines = content.splitlines()
    return lines[1].decode(errors="replace").split(",")[names.index(TRACKER)].strip() if len(lines) > 1 else OPENFACE


def _require_columns(names: list[str]) -> None:
    missing = [name for name in _COLUMNS.values() if name not in names]
    if not missing:
        return
    detail = f"lacks the columns {', '.join(missing)}"
    if "gaze_0_x" in names and not any(name.startswith(("gaze_angle", "eye_lmk")) for name in names):
        detail = f"looks like OpenFace 1 output, run OpenFace 2's FeatureExtraction instead: {detail}"
    raise GazeError("gaze_unreadable", detail)


def _require_numbers(columns: dict[str, Floats]) -> None:
    """Refuse a table that holds, in a row that will be computed with, what cannot be."""
    succeeded = columns["success"] == 1
    _require_all(np.isin(columns["success"], (0, 1)), "success is neither 0 nor 1")
    for name, values in columns.items():
        left_out = ~succeeded & (name not in ("frame", "timestamp"))
        _require_all(np.isfinite(values) | left_out, f"{name} is not a finite number")
    _require_all(columns["frame"] % 1 == 0, "frame is not a whole number")
    _require_all(np.isin(columns["AU45_c"], (0, 1)) | ~succeeded, "AU45_c is neither 0 nor 1")
    for name, hint in (("frame", "one row a frame and one face a table are needed"), ("timestamp", "time must go on")):
        if not (np.diff(columns[name][succeeded]) > 0).all():
            raise GazeError("gaze_unreadable", f"{name} does not increase from row to row: {hint}")


def _require_all(is_fine: NDArray[np.bool_], complaint: str) -> None:
    if not is_fine.all():
        raise GazeError("gaze_unreadable", f"line {np.argmin(is_fine) + 2}: {complaint}")


def require_half(table: GazeTable, frames: int) -> None:
    """Refuse a table where under half succeeded, of its rows or of the `frames` there should be, whichever is more.

    Raises `GazeError` (`gaze_few_frames`).
    """
    succeeded, frames = int(np.count_nonzero(table.success)), max(frames, len(table))
    if 2 * succeeded < frames:
        raise _few_frames(succeeded, frames)


def _few_frames(succeeded: int, frames: int) -> GazeError:
    return GazeError(
        "gaze_few_frames", f"the tracker succeeded on {succeeded} of {frames} frames; half, and 2, are needed"
    )


def _cut(table: GazeTable, rows: str) -> GazeTable:
    """The rows `A:B` of a table, counted from 0, B not included; either may be left out."""
    match = re.fullmatch(r"(\d*):(\d*)", rows)
    if match is None:
        raise InputError(f"--rows {rows}: give A:B, such as 0:240, counted from 0")
    first, last = int(match[1] or 0), int(match[2] or len(table))
    if not first < last <= len(table):
        raise InputError(f"--rows {rows}: the table has rows 0:{len(table)}")
    return table.rows(slice(first, last))


def _show(
    table: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    rows: str = ":",
    fixation_degrees_per_second: float = FIXATION_DEGREES_PER_SECOND,
    as_json: Annotated[bool, tyro.conf.arg(name="json"), tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Print the 103 gaze statistics of a table of OpenFace 2.

    Args:
        table: What OpenFace 2's FeatureExtraction wrote (CSV).
        rows: Only the rows A:B, counted from 0, B not included.
        fixation_degrees_per_second: Gaze that turns no faster than this fixates.
        as_json: One JSON object of names and values instead of a table.
    """
    try:
        part = _cut(read_table(table), rows)
        values = statistics(part, fixation_degrees_per_second=fixation_degrees_per_second).tolist()
    except GazeError as error:
        raise InputError(f"{table}: {error.detail}") from error
    if as_json:
        print(json.dumps(dict(zip(GAZE_NAMES, values, strict=True)), indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    print(f"{table}: {np.count_nonzero(part.success)} of {part.frames} frames, {part.fps:g} a second")
    grid = Table()
    grid.add_column("statistic")
    grid.add_column("value", justify="right")
    rest = iter(values)
    for signal, kept in (_VARYING | _ON_OFF).items():
        for statistic in kept:
            grid.add_row(f"{signal}_{statistic}", f"{next(rest):.6g}", end_section=statistic == kept[-1])
    Console().print(grid)


def main() -> None:
    """The command line; exit status 2 and one line where the input is wrong."""
    try:
        cli(_show, prog="python -m sharding.gaze")
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)

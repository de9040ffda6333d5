"""The 103 gaze statistics: reference values, the definitions written out plainly, and what holds of any table."""

from __future__ import annotations

import itertools
import json
import math
import pickle
import re
import statistics as plain
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from sharding.gaze import statistics as gaze
from sharding.gaze.statistics import (
    GAZE_NAMES,
    SIGNAL_NAMES,
    GazeError,
    GazeTable,
    on_pictures,
    read_table,
    signals,
    statistics,
    window,
)

SHARED = Path(__file__).parents[3] / "../shared"
REAL = SHARED / "real/openface/openface2_30fps_600frames.csv"
OLD_LAYOUT = SHARED / "real/openface/openface1_old_layout.csv"
needs_shared = pytest.mark.skipif(not REAL.exists(), reason="needs the real OpenFace tables of ../shared")

holds = settings(max_examples=60, deadline=None)  # no deadline: a busy machine is not a defect

GRID = 1024  # values in multiples of 1/1024 add and subtract without rounding
FPS = 32.0  # and so do times


# Tables, in memory and on disk ---------------------------------------------------------------------------------------


def table_of(rows: int, *, success: Sequence[bool] | None = None, fps: float = FPS, **columns: Any) -> GazeTable:
    """A table of so many frames; columns that are not given hold a face that looks straight ahead and stays still."""
    still = {
        "frame": 1 + np.arange(rows),
        "timestamp": np.arange(rows) / fps,
        "confidence": np.full(rows, 0.98),
        "gaze_angle_x": np.zeros(rows),
        "gaze_angle_y": np.zeros(rows),
        "pupil_x_51": np.full(rows, 34.0),
        "pupil_x_55": np.full(rows, 28.0),
        "corner_z_8": np.full(rows, 220.0),
        "corner_z_42": np.full(rows, 244.0),
        "blink_intensity": np.zeros(rows),
        "eyes_closed": np.zeros(rows),
    }
    values = {name: np.asarray(value, dtype=np.float64) for name, value in (still | columns).items()}
    return GazeTable(success=np.ones(rows, bool) if success is None else np.asarray(success, bool), fps=fps, **values)


def openface_csv(table: GazeTable, *, comma: str = ",", newline: str = "\n", without: Sequence[str] = ()) -> str:
    """The table as OpenFace 2 lays it out, among columns that are not needed, some of them named almost alike."""
    decoys = {name: np.full(len(table), -999.0) for name in ("eye_lmk_x_51", "eye_lmk_x_55", "gaze_0_x", "pose_Tx")}
    columns = {
        "frame": table.frame,
        "face_id": np.zeros(len(table)),
        "timestamp": table.timestamp,
        "confidence": table.confidence,
        "success": table.success.astype(float),
        **decoys,
        "gaze_angle_x": table.gaze_angle_x,
        "gaze_angle_y": table.gaze_angle_y,
        "eye_lmk_X_51": table.pupil_x_51,
        "eye_lmk_X_55": table.pupil_x_55,
        "eye_lmk_Z_8": table.corner_z_8,
        "eye_lmk_Z_42": table.corner_z_42,
        "AU45_r": table.blink_intensity,
        "AU28_c": np.zeros(len(table)),
        "AU45_c": table.eyes_closed,
    }
    kept = {name: values for name, values in columns.items() if name not in without}
    whole = {"frame", "face_id", "success", "AU28_c", "AU45_c"}
    lines = [comma.join(kept)]
    for row in zip(*kept.values(), strict=True):
        cells = (f"{value:g}" if name in whole else repr(float(value)) for name, value in zip(kept, row, strict=True))
        lines.append(comma.join(cells))
    return newline.join(lines) + newline


@st.composite
def tables(draw: st.DrawFn, *, min_rows: int = 2, may_fail: bool = True) -> GazeTable:
    """Tables of which at least half of the frames succeeded, on a grid where sums are exact."""
    rows = draw(st.integers(min_rows, 40))

    def column(low: int, high: int) -> NDArray[np.float64]:
        return draw(arrays(np.int32, rows, elements=st.integers(low * GRID, high * GRID))) / GRID

    failed = draw(st.sets(st.integers(0, rows - 1), max_size=min(rows // 2, rows - 2))) if may_fail else set()
    return table_of(
        rows,
        success=[row not in failed for row in range(rows)],
        gaze_angle_x=column(-1, 1),
        gaze_angle_y=column(-1, 1),
        pupil_x_51=column(-50, 50),
        pupil_x_55=column(-50, 50),
        corner_z_8=column(100, 900),
        corner_z_42=column(100, 900),
        blink_intensity=column(0, 5),
        eyes_closed=draw(arrays(np.int8, rows, elements=st.integers(0, 1))),
    )


def altered(table: GazeTable, **columns: Any) -> GazeTable:
    fields = {name: getattr(table, name) for name in GazeTable.__slots__}
    return GazeTable(**(fields | columns))


def named(table: GazeTable, **settings: float) -> dict[str, float]:
    return dict(zip(GAZE_NAMES, statistics(table, **settings).tolist(), strict=True))


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# The reference -------------------------------------------------------------------------------------------------------


@needs_shared
@pytest.mark.parametrize(("rows", "end"), [("rows 0-239", 240), ("rows 0-599", 600)])
def test_the_reference_values_come_out(rows: str, end: int) -> None:
    golden = json.loads((SHARED / "reference/gaze103_golden.json").read_text())[rows]
    found = named(read_table(REAL).rows(slice(0, end)))
    assert list(found) == list(golden)
    # A difference of almost nothing from almost nothing has no relative accuracy: 1e-12 rad, mm or s is none at all.
    assert_allclose(list(found.values()), list(golden.values()), rtol=1e-6, atol=1e-12)


@needs_shared
def test_the_names_are_the_reference_names() -> None:
    assert list(GAZE_NAMES) == (SHARED / "reference/gaze103_names.txt").read_text().split()


@needs_shared
def test_a_real_table_of_openface_1_is_refused() -> None:
    with pytest.raises(GazeError, match="looks like OpenFace 1") as refusal:
        read_table(OLD_LAYOUT)
    assert refusal.value.reason == "gaze_unreadable"


def test_there_are_103_names_of_twelve_signals() -> None:
    assert len(set(GAZE_NAMES)) == len(GAZE_NAMES) == 103
    # No signal's name begins another's, so the signal is the one that the name begins with.
    counts = Counter(next(signal for signal in SIGNAL_NAMES if name.startswith(f"{signal}_")) for name in GAZE_NAMES)
    assert list(counts) == list(SIGNAL_NAMES)
    assert list(counts.values()) == [12, 12, 12, 12, 12, 11, 10, 4, 4, 4, 5, 5]
    assert GAZE_NAMES[0] == "gaze_angle_x_min"
    assert GAZE_NAMES[-1] == "gaze_fixation_time_secs_median"
    assert not {"delta_pupil_diameter_mm_median", "eye_blink_intensity_min"} & set(GAZE_NAMES)


# The definitions, written out plainly --------------------------------------------------------------------------------


def plainly(table: GazeTable) -> dict[str, float]:
    """Every statistic that any signal might have, one at a time, with Python's own `statistics` and loops."""
    kept = [row for row in range(len(table)) if table.success[row]]
    time = [float(table.timestamp[row]) for row in kept]
    angle_x = [float(table.gaze_angle_x[row]) for row in kept]
    angle_y = [float(table.gaze_angle_y[row]) for row in kept]
    pupil = [abs(float(table.pupil_x_55[row] - table.pupil_x_51[row])) for row in kept]
    distance = [float(table.corner_z_8[row] + table.corner_z_42[row]) / 2 for row in kept]

    def change(values: list[float]) -> list[float]:
        return [0.0] + [after - before for before, after in itertools.pairwise(values)]

    approach = [step <= 0 for step in change(distance)]
    limit = 3.2 * math.pi / 180 / table.fps
    fixation = [math.hypot(x, y) <= limit for x, y in zip(change(angle_x), change(angle_y), strict=True)]
    varying = {
        "gaze_angle_x": angle_x,
        "gaze_angle_y": angle_y,
        "delta_gaze_angle_x": change(angle_x),
        "delta_gaze_angle_y": change(angle_y),
        "pupil_diameter_mm": pupil,
        "delta_pupil_diameter_mm": change(pupil),
        "eye_blink_intensity": [float(table.blink_intensity[row]) for row in kept],
    }
    on_off = {
        "pupil_dilation": [step > 0 for step in change(pupil)],
        "pupil_constriction": [step < 0 for step in change(pupil)],
        "gaze_approach": [approach[1], *approach[1:]],
        "eyes_closed": [bool(table.eyes_closed[row]) for row in kept],
        "gaze_fixation": [fixation[1], *fixation[1:]],
    }
    found: dict[str, float] = {}
    for signal, values in varying.items():
        quartile_1, median, quartile_3 = plain.quantiles(values, n=4, method="inclusive")
        slope, intercept = plain.linear_regression(time, values)
        found |= {
            f"{signal}_min": min(values),
            f"{signal}_max": max(values),
            f"{signal}_mean": plain.fmean(values),
            f"{signal}_quartile_1": quartile_1,
            f"{signal}_median": median,
            f"{signal}_quartile_3": quartile_3,
            f"{signal}_IQR_1_2": median - quartile_1,
            f"{signal}_IQR_2_3": quartile_3 - median,
            f"{signal}_IQR_1_3": quartile_3 - quartile_1,
            f"{signal}_SD": plain.stdev(values),
            f"{signal}_LR_intercept": intercept,
            f"{signal}_LR_slope": slope,
        }
    for signal, flags in on_off.items():
        runs = [len(list(run)) / table.fps for is_on, run in itertools.groupby(flags) if is_on] or [0.0]
        found |= {
            f"{signal}_time_ratio": sum(flags) / len(flags),
            f"{signal}_time_secs_total": math.fsum(runs),
            f"{signal}_time_secs_min": min(runs),
            f"{signal}_time_secs_max": max(runs),
            f"{signal}_time_secs_mean": plain.fmean(runs),
            f"{signal}_time_secs_median": plain.median(runs),
        }
    return found


@holds
@given(tables())
def test_every_statistic_is_what_its_definition_says(table: GazeTable) -> None:
    expected = plainly(table)
    assert_allclose(statistics(table), [expected[name] for name in GAZE_NAMES], rtol=1e-9, atol=1e-9)


@holds
@given(tables())
def test_statistics_summarise_the_signals_of_the_frames_that_succeeded(table: GazeTable) -> None:
    frames, found = signals(table), named(table)
    assert frames.shape == (len(table), len(SIGNAL_NAMES))
    assert_array_equal(np.isnan(frames), np.repeat(~table.success[:, None], len(SIGNAL_NAMES), axis=1))
    means = dict(zip(SIGNAL_NAMES, np.nanmean(frames, axis=0), strict=True))
    assert found["eye_blink_intensity_mean"] == pytest.approx(means["eye_blink_intensity"])
    for signal in SIGNAL_NAMES[7:]:
        assert found[f"{signal}_time_ratio"] == pytest.approx(means[signal])


@pytest.mark.parametrize(
    ("closed", "runs"),
    [
        ([0, 0, 0, 0, 0, 0], []),
        ([1, 1, 1, 1, 1, 1], [6]),
        ([0, 1, 1, 0, 1, 0], [2, 1]),
        ([1, 0, 0, 1, 1, 1], [1, 3]),  # one open at each end
        ([0, 0, 0, 0, 0, 1], [1]),
        ([1, 0, 1, 0, 1, 1], [1, 1, 2]),
    ],
)
def test_runs_of_closed_eyes(closed: list[int], runs: list[int]) -> None:
    found = named(table_of(6, eyes_closed=closed))
    seconds = [run / FPS for run in runs] or [0.0]
    expected = {"min": min(seconds), "max": max(seconds), "mean": plain.mean(seconds), "median": plain.median(seconds)}
    assert {name: found[f"eyes_closed_time_secs_{name}"] for name in expected} == pytest.approx(expected)
    assert found["eyes_closed_time_ratio"] == sum(runs) / 6


def test_the_first_frame_has_no_movement_and_takes_the_second_frames_approach_and_fixation() -> None:
    leaving = table_of(3, gaze_angle_x=[0.5, 0.75, 0.75], corner_z_8=[200, 210, 205])
    frames = dict(zip(SIGNAL_NAMES, signals(leaving).T.tolist(), strict=True))
    assert frames["delta_gaze_angle_x"] == [0, 0.25, 0]
    assert frames["gaze_approach"] == [0, 0, 1]
    assert frames["gaze_fixation"] == [0, 0, 1]


def test_distance_is_that_of_both_eyes() -> None:
    turning = table_of(
        3, corner_z_8=[200, 210, 220], corner_z_42=[240, 229, 218]
    )  # nearer by half a millimetre a frame
    assert named(turning)["gaze_approach_time_ratio"] == 1


@pytest.mark.parametrize("fps", [25.0, 30.0])
def test_gaze_fixates_up_to_the_threshold_in_degrees_a_second(fps: float) -> None:
    step = math.radians(3.2) / fps
    for share, ratio in ((0.999, 1.0), (1.001, 0.0)):
        turning = np.arange(9) * step * share * math.sqrt(0.5)  # as far in x as in y
        table = table_of(9, fps=fps, gaze_angle_x=turning, gaze_angle_y=-turning)
        assert named(table)["gaze_fixation_time_ratio"] == ratio
        assert named(table, fixation_degrees_per_second=3.3)["gaze_fixation_time_ratio"] == 1


# What must hold of any table -----------------------------------------------------------------------------------------


@holds
@given(tables())
def test_quartiles_are_in_order_and_their_ranges_add_up(table: GazeTable) -> None:
    found = named(table)
    for signal in SIGNAL_NAMES[:5]:
        at = {name: found[f"{signal}_{name}"] for name in ("min", "quartile_1", "median", "quartile_3", "max")}
        assert list(at.values()) == sorted(at.values())
        parts = found[f"{signal}_IQR_1_2"] + found[f"{signal}_IQR_2_3"]
        assert parts == pytest.approx(found[f"{signal}_IQR_1_3"], abs=1e-12)
        assert at["min"] <= found[f"{signal}_mean"] <= at["max"]
        assert 0 <= found[f"{signal}_SD"] <= (at["max"] - at["min"]) + 1e-12


@holds
@given(tables())
def test_times_fit_into_the_duration(table: GazeTable) -> None:
    found = named(table)
    duration = np.count_nonzero(table.success) / table.fps
    for signal in ("pupil_dilation", "pupil_constriction"):
        assert found[f"{signal}_time_ratio"] * duration == pytest.approx(found[f"{signal}_time_secs_total"])
    for signal in SIGNAL_NAMES[7:]:
        ratio = found[f"{signal}_time_ratio"]
        longest = found[f"{signal}_time_secs_max"]
        shortest = found.get(f"{signal}_time_secs_min", 0.0)
        assert 0 <= ratio <= 1
        assert 0 <= shortest <= longest <= ratio * duration + 1e-12
        assert (longest > 0) == (ratio > 0)
        for middle in ("mean", "median"):
            assert shortest <= found.get(f"{signal}_time_secs_{middle}", longest) <= longest
    assert found["pupil_dilation_time_ratio"] + found["pupil_constriction_time_ratio"] < 1  # the first frame is neither


@holds
@given(st.integers(2, 60), st.integers(-GRID, GRID), st.integers(0, 5 * GRID), st.integers(0, 1))
def test_of_a_still_face_nothing_varies(rows: int, angle: int, blink: int, closed: int) -> None:
    looks = np.full(rows, angle / GRID)
    intensity = np.full(rows, blink / GRID)
    still = table_of(rows, gaze_angle_x=looks, blink_intensity=intensity, eyes_closed=np.full(rows, closed))
    found = named(still)
    duration = rows / FPS
    for name, value in found.items():
        if name.endswith(("SD", "IQR_1_2", "IQR_2_3", "IQR_1_3", "slope")) or name.startswith(("delta", "pupil_dil")):
            assert value == pytest.approx(0, abs=1e-12), name
    for name in ("min", "max", "mean", "median", "quartile_1", "quartile_3", "LR_intercept"):
        assert found[f"gaze_angle_x_{name}"] == pytest.approx(angle / GRID)
    assert found["pupil_diameter_mm_mean"] == 6
    assert found["gaze_approach_time_secs_max"] == found["gaze_fixation_time_secs_max"] == duration
    assert found["eyes_closed_time_ratio"] == closed
    assert found["eyes_closed_time_secs_max"] == closed * duration


@holds
@given(tables(), st.integers(-GRID, GRID))
def test_looking_elsewhere_moves_the_location_and_nothing_else(table: GazeTable, offset: int) -> None:
    shift = offset / GRID
    before, after = named(table), named(altered(table, gaze_angle_x=table.gaze_angle_x + shift))
    moved = {"min", "max", "mean", "median", "quartile_1", "quartile_3", "LR_intercept"}
    expected = {
        name: value + (shift if name.removeprefix("gaze_angle_x_") in moved else 0) for name, value in before.items()
    }
    assert after == pytest.approx(expected, rel=1e-9, abs=1e-9)


@holds
@given(tables(), st.sampled_from([0.25, 0.5, 2.0]))
def test_a_wider_gaze_scales_its_statistics_and_its_threshold(table: GazeTable, factor: float) -> None:
    wider = altered(table, gaze_angle_x=table.gaze_angle_x * factor, gaze_angle_y=table.gaze_angle_y * factor)
    before = named(table)
    after = named(wider, fixation_degrees_per_second=gaze.FIXATION_DEGREES_PER_SECOND * factor)
    expected = {name: value * (factor if "gaze_angle" in name else 1) for name, value in before.items()}
    assert after == pytest.approx(expected, rel=1e-9, abs=1e-9)


@holds
@given(tables(), st.floats(0, 500), st.floats(0, 500))
def test_a_higher_threshold_never_makes_less_fixation(table: GazeTable, one: float, other: float) -> None:
    low, high = sorted((one, other))
    ratio = [named(table, fixation_degrees_per_second=limit)["gaze_fixation_time_ratio"] for limit in (low, high)]
    assert ratio[0] <= ratio[1]


@holds
@given(tables(), st.integers(0, 2**32 - 1))
def test_frames_that_failed_count_for_nothing(table: GazeTable, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(scale=1e6, size=(9, len(table)))
    noise[:, ::3] = np.nan
    kept = ("frame", "timestamp", "success", "fps", "lasting", "tracker")
    measured = [name for name in GazeTable.__slots__ if name not in kept]
    garbled = {
        name: np.where(table.success, getattr(table, name), junk) for name, junk in zip(measured, noise, strict=True)
    }
    expected = statistics(table)
    assert_array_equal(statistics(altered(table, **garbled)), expected)
    assert_array_equal(statistics(table.rows(table.success)), expected)


def test_a_difference_reaches_back_over_frames_that_failed() -> None:
    table = table_of(4, success=[True, False, True, True], gaze_angle_x=[0.25, 9, 0.5, 0.5])
    assert_array_equal(signals(table)[:, SIGNAL_NAMES.index("delta_gaze_angle_x")], [0, np.nan, 0.25, 0])


@pytest.mark.parametrize(("succeeded", "frames"), [(0, 6), (1, 2), (1, 3), (2, 5), (49, 99)])
def test_too_few_frames_give_no_gaze(succeeded: int, frames: int) -> None:
    table = table_of(frames, success=[row < succeeded for row in range(frames)])
    with pytest.raises(GazeError, match=f"{succeeded} of {frames}") as refusal:
        statistics(table)
    assert refusal.value.reason == "gaze_few_frames"


@holds
@given(st.lists(st.booleans(), max_size=60))
def test_rows_that_were_left_out_count_like_rows_that_are_marked(success: list[bool]) -> None:
    success = [True, *success, True]  # what is missing before the first row and after the last, no table can tell
    marked = table_of(len(success), success=success)
    left_out = marked.rows(marked.success)
    assert left_out.frames == marked.frames == len(marked)
    if 2 * sum(success) >= len(success):
        assert_array_equal(statistics(left_out), statistics(marked))
        return
    for table in (marked, left_out):
        with pytest.raises(GazeError, match=f"{sum(success)} of {len(success)} frames"):
            statistics(table)


def test_a_table_of_too_few_rows_says_how_many_there_should_be(tmp_path: Path, command: Any) -> None:
    marked = table_of(75, success=[row < 20 or row >= 73 for row in range(75)])
    for table in (marked, marked.rows(marked.success)):
        path = written(tmp_path / "table.csv", openface_csv(table))
        status, output, complaint = command(path)
        assert (status, output) == (2, "")
        assert "22 of 75 frames" in complaint
    one = written(tmp_path / "table.csv", openface_csv(marked.rows(np.array([0, 74])), without=[]))
    one.write_text(cell(1, "success", "0")(one.read_text()))
    with pytest.raises(GazeError, match="1 of 75"):
        read_table(one)


@pytest.mark.parametrize(("succeeded", "frames"), [(2, 2), (2, 4), (50, 99), (50, 100)])
def test_half_of_the_frames_is_enough(succeeded: int, frames: int) -> None:
    table = table_of(frames, success=[row < succeeded for row in range(frames)])
    assert np.isfinite(statistics(table)).all()


# Windows -------------------------------------------------------------------------------------------------------------


@holds
@given(tables(min_rows=8, may_fail=False), st.data())
def test_a_window_is_as_if_the_video_had_begun_with_it(table: GazeTable, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(table) - 2))
    last = data.draw(st.integers(first + 2, len(table)))
    part = window(table, first / FPS, last / FPS)
    assert_array_equal(part.frame, table.frame[first:last])
    alone = altered(table.rows(slice(first, last)), timestamp=np.arange(last - first) / FPS)
    assert_array_equal(statistics(part), statistics(alone))


@holds
@given(st.sampled_from([24.0, 25.0, 29.97, 30.0, 50.0]), st.integers(0, 200), st.integers(2, 90))
def test_a_window_on_frames_keeps_them_though_timestamps_are_rounded(fps: float, first: int, frames: int) -> None:
    rounded = np.round(np.arange(300) / fps, 3)
    part = window(table_of(300, fps=fps, timestamp=rounded), first / fps, (first + frames) / fps)
    assert_array_equal(part.frame, 1 + np.arange(first, first + frames))
    assert abs(part.timestamp[0]) <= 0.0005 + 1e-9
    assert part.fps == fps


def test_a_window_that_the_table_hardly_covers_has_no_gaze() -> None:
    table = table_of(64)  # two seconds
    assert len(window(table, 1, 3)) == 32
    for start, end in ((1.25, 3.25), (5, 7)):
        with pytest.raises(GazeError) as refusal:
            window(table, start, end)
        assert refusal.value.reason == "gaze_few_frames"
    with pytest.raises(ValueError, match="end after it starts"):
        window(table, 1, 1)


# Pictures that do not all stay equally long --------------------------------------------------------------------------


def test_rows_stand_at_their_pictures_times() -> None:
    """Two seconds at 16 pictures a second, then two at 4: OpenFace counts 40 rows at 10 a second."""
    starts = np.concatenate([np.arange(32) / 16, 2 + np.arange(8) / 4])
    closed = starts < 2
    turn = np.where(closed, np.arange(40) * 0.003, np.arange(40) * 0.012)  # by 0.048 radians a second, first and last
    table = on_pictures(table_of(40, fps=10.0, eyes_closed=closed, gaze_angle_x=turn), starts, 4.0)
    assert_array_equal(table.timestamp, starts)
    for start in (0, 1, 2, 3):
        part = named(window(table, start, start + 1))
        for kind in ("min", "max", "mean", "median"):
            assert part[f"eyes_closed_time_secs_{kind}"] == (start < 2)
        assert part["eyes_closed_time_ratio"] == (start < 2)
        assert part["gaze_fixation_time_ratio"] == 1  # 2.75 degrees a second, at either rate
        assert part["gaze_angle_x_LR_slope"] == pytest.approx(0.048)
    whole = named(table)
    assert (whole["eyes_closed_time_ratio"], whole["eyes_closed_time_secs_max"]) == (0.5, 2.0)


def test_evenly_spaced_pictures_change_nothing() -> None:
    table = table_of(64, eyes_closed=np.arange(64) % 5 < 2, gaze_angle_x=np.sin(np.arange(64)))
    placed = on_pictures(table, table.timestamp, 2.0)
    assert statistics(placed) == pytest.approx(statistics(table))
    assert statistics(window(placed, 0.5, 1.5)) == pytest.approx(statistics(window(table, 0.5, 1.5)))


@pytest.mark.parametrize(("failed", "is_enough"), [(range(32), False), (range(32, 40), True), (range(12), True)])
def test_half_of_a_windows_time_is_enough(failed: range, is_enough: bool) -> None:
    starts = np.concatenate([np.arange(32) / 16, 2 + np.arange(2) / 1, 4 + np.arange(6) / 4])
    table = table_of(40, fps=10.0, success=[row not in failed for row in range(40)])
    for part in (table, table.rows(table.success)):
        placed = on_pictures(part, starts, 5.5)
        if is_enough:
            assert np.isfinite(statistics(window(placed, 0, 4))).all()
        else:
            with pytest.raises(GazeError, match=r"0\.00 s of 2 s") as refusal:
                window(placed, 0, 2)
            assert refusal.value.reason == "gaze_few_frames"


def test_frames_that_are_never_on_screen_count_as_failed() -> None:
    """The third comes late, as late as the fourth; the video has no sixth."""
    table = on_pictures(table_of(6), np.array([0.0, 0.2, 0.1, 0.2, 0.5]), 1.0)
    assert table.success.tolist() == [True, False, False, True, True, False]
    assert np.isfinite(statistics(window(table, 0, 1))).all()


# Reading -------------------------------------------------------------------------------------------------------------


@holds
@given(tables(), st.sampled_from([",", ", "]), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\ufeff"]))
def test_a_table_reads_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, table: GazeTable, comma: str, newline: str, mark: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "gaze_read_back.csv"
    found = read_table(written(path, mark + openface_csv(table, comma=comma, newline=newline)))
    for name in GazeTable.__slots__:
        assert_array_equal(getattr(found, name), getattr(table, name), err_msg=name)


@pytest.mark.parametrize(("fps", "decimals"), [(10, 3), (20, 3), (25, 3), (25, 6), (30, 3), (30, 6), (50, 3)])
@pytest.mark.parametrize("failed", [(), (0,), (1,), (1, 2, 5)])
def test_the_frame_rate_is_the_videos(tmp_path: Path, fps: int, decimals: int, failed: tuple[int, ...]) -> None:
    success = [row not in failed for row in range(30)]
    for begins in (0, 126):
        frames = begins + np.arange(30)
        table = table_of(30, frame=frames + 1, timestamp=np.round(frames / fps, decimals), success=success)
        for part in (table, table.rows(table.success)):  # failed frames may have been taken out of the file before
            assert read_table(written(tmp_path / "table.csv", openface_csv(part))).fps == fps


@pytest.mark.parametrize(
    ("second", "fps"), [(0.033, 30), (0.033367, 29), (0.034, 29), (0.04, 25), (0.042, 23), (1.0, 1), (0.0001, 10000)]
)
def test_the_frame_rate_is_rounded_down(tmp_path: Path, second: float, fps: int) -> None:
    table = table_of(3, timestamp=[0, second, 9])
    assert read_table(written(tmp_path / "table.csv", openface_csv(table))).fps == fps


def test_missing_columns_are_named(tmp_path: Path) -> None:
    without = ["gaze_angle_y", "eye_lmk_X_51", "AU45_r"]
    path = written(tmp_path / "table.csv", openface_csv(table_of(3), without=without))
    with pytest.raises(GazeError, match=r"lacks the columns gaze_angle_y, eye_lmk_X_51, AU45_r$") as refusal:
        read_table(path)
    assert refusal.value.reason == "gaze_unreadable"


def test_the_layout_of_openface_1_is_named(tmp_path: Path) -> None:
    content = "frame, timestamp, confidence, success, gaze_0_x, AU45_r, AU45_c\n1, 0, 0.9, 1, 0.1, 0, 0\n"
    with pytest.raises(GazeError, match=r"OpenFace 1 .* lacks the columns gaze_angle_x, gaze_angle_y, eye_lmk_X_51"):
        read_table(written(tmp_path / "table.csv", content))


def cell(row: int, column: str, value: str) -> Callable[[str], str]:
    """Puts a value into a cell of a table's text."""

    def edit(content: str) -> str:
        lines = [line.split(",") for line in content.splitlines()]
        lines[row + 1][lines[0].index(column)] = value
        return "\n".join(map(",".join, lines)) + "\n"

    return edit


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda content: "", "lacks the columns"),
        (lambda content: "\x00\x01\x02" * 99, "lacks the columns"),
        (lambda content: content.splitlines()[0], "no rows"),
        (lambda content: content.splitlines()[0] + "\n", "no rows"),
        (lambda content: content.splitlines()[0] + "\n\n", "no rows"),
        (lambda content: content[:-30], "line 7: Expected"),
        (lambda content: content.replace("0.98", "high"), "confidence: line 2: .*'high'"),
        (cell(2, "gaze_angle_x", ""), r"line 4: gaze_angle_x is not a finite number"),
        (cell(2, "gaze_angle_x", "nan"), r"line 4: gaze_angle_x is not a finite number"),
        (cell(2, "gaze_angle_x", "-nan(ind)"), r"line 4: gaze_angle_x is not a finite number"),
        (cell(3, "eye_lmk_Z_8", "inf"), r"line 5: eye_lmk_Z_8 is not a finite number"),
        (cell(0, "AU45_r", "?"), r"AU45_r: line 2: .*'\?'"),
        (cell(4, "AU45_c", "0.5"), "line 6: AU45_c is neither 0 nor 1"),
        (cell(4, "success", "2"), "line 6: success is neither 0 nor 1"),
        (cell(4, "success", "nan"), "line 6: success is neither 0 nor 1"),
        (cell(4, "frame", "4.5"), "line 6: frame is not a whole number"),
        (cell(4, "frame", "4"), "frame does not increase .*one face a table"),
        (cell(4, "timestamp", "0"), "timestamp does not increase"),
        (cell(1, "timestamp", "nan"), "line 3: timestamp is not a finite number"),
        (
            lambda content: cell(1, "success", "0")(cell(1, "frame", "")(content)),
            "line 3: frame is not a finite number",
        ),
    ],
)
def test_a_spoilt_table_is_refused_in_one_line(tmp_path: Path, edit: Callable[[str], str], complaint: str) -> None:
    path = written(tmp_path / "table.csv", edit(openface_csv(table_of(6))))
    with pytest.raises(GazeError) as refusal:
        read_table(path)
    assert refusal.value.reason == "gaze_unreadable"
    assert re.search(complaint, refusal.value.detail)
    assert "\n" not in refusal.value.detail


def test_frames_a_long_time_apart_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GazeError, match="2 s apart"):
        read_table(written(tmp_path / "table.csv", openface_csv(table_of(6, fps=0.5))))


def test_what_a_failed_frame_holds_is_not_looked_at(tmp_path: Path) -> None:
    table = table_of(6, success=[True, True, False, True, True, True])
    content = cell(2, "AU45_c", "7")(cell(2, "gaze_angle_x", "-nan(ind)")(openface_csv(table)))
    assert_array_equal(statistics(read_table(written(tmp_path / "table.csv", content))), statistics(table))


def test_a_table_without_a_face_has_no_gaze(tmp_path: Path) -> None:
    with pytest.raises(GazeError) as refusal:
        read_table(written(tmp_path / "table.csv", openface_csv(table_of(6, success=[False] * 6))))
    assert refusal.value.reason == "gaze_few_frames"


def test_no_file_is_told_from_a_bad_one(tmp_path: Path) -> None:
    reasons = []
    for path in (tmp_path / "nothing.csv", tmp_path):
        with pytest.raises(GazeError) as refusal:
            read_table(path)
        reasons.append(refusal.value.reason)
    assert reasons == ["gaze_missing", "gaze_unreadable"]


def test_errors_and_tables_cross_between_processes() -> None:
    error = pickle.loads(pickle.dumps(GazeError("gaze_missing", "no such file")))
    assert (error.reason, error.detail, str(error)) == ("gaze_missing", "no such file", "gaze_missing: no such file")
    table = table_of(5)
    assert_array_equal(statistics(pickle.loads(pickle.dumps(table))), statistics(table))


# The command line ----------------------------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line; gives exit status, standard output and standard error."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gaze", *map(str, arguments)])
        status = 0
        try:
            gaze.main()
        except SystemExit as end:
            status = int(end.code or 0)
        return (status, *capsys.readouterr())

    return run


@pytest.mark.parametrize(("rows", "cut"), [(":", slice(None)), ("0:5", slice(0, 5)), ("3:", slice(3, None))])
def test_the_command_prints_names_and_values(tmp_path: Path, command: Any, rows: str, cut: slice) -> None:
    table = table_of(12, gaze_angle_x=np.sin(np.arange(12)))
    path = written(tmp_path / "table.csv", openface_csv(table))
    status, output, _ = command(path, "--rows", rows, "--json")
    assert status == 0
    assert json.loads(output) == named(table.rows(cut))
    status, output, _ = command(path, "--rows", rows)
    assert status == 0
    assert all(re.search(rf"\b{name}\b", output) for name in GAZE_NAMES)


@pytest.mark.parametrize("rows", ["5", "a:b", "-3:5", "5:5", "6:2", "0:13", "12:"])
def test_the_command_refuses_rows_that_are_not_there(tmp_path: Path, command: Any, rows: str) -> None:
    path = written(tmp_path / "table.csv", openface_csv(table_of(12)))
    status, output, complaint = command(path, f"--rows={rows}", "--json")
    assert (status, output) == (2, "")
    assert re.fullmatch(rf"--rows {rows}: .*\n", complaint)


def test_the_command_refuses_a_bad_table_by_name(tmp_path: Path, command: Any) -> None:
    few = table_of(6, success=[True, True, False, False, False, False])
    for content in (openface_csv(few), "frame, gaze_0_x\n1, 2\n", None):
        path = tmp_path / "table.csv"
        path.unlink(missing_ok=True)
        if content is not None:
            written(path, content)
        status, output, complaint = command(path)
        assert (status, output) == (2, "")
        assert re.fullmatch(rf"{re.escape(str(path))}: .*\n", complaint)

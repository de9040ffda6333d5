"""Gaze by MediaPipe's networks on real clips, and the table that it becomes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from sharding.gaze.mediapipe import COLUMNS, main, run_mediapipe, track
from sharding.gaze.statistics import GAZE_NAMES, MEDIAPIPE, GazeError, GazeTable, parse_table, read_table, statistics
from tests.sharding.gaze.tracked import GRID, REAL, TALKING, TURNING, WINKING, needs_real_faces, pictures

FPS = 25.0
#: Counted by looking at every picture, at 25 a second: when both eyes are closed, first and last picture.
BLINKS = {
    TALKING: ((24, 26), (30, 33), (62, 64), (72, 76), (105, 107), (115, 118)),
    GRID: ((43, 45), (50, 55)),
    WINKING: ((25, 28), (103, 106), (190, 194), (212, 215), (226, 229)),
}
#: And those of one eye, which need not be found.
WINKS = {WINKING: ((51, 52), (66, 69))}


def closed(table: GazeTable) -> list[tuple[int, int]]:
    """First and last picture of each time that the eyes are closed."""
    edges = np.diff(np.concatenate([[0], table.eyes_closed, [0]]))
    first, end = np.flatnonzero(edges > 0), np.flatnonzero(edges < 0)
    return [(int(a), int(b) - 1) for a, b in zip(first, end, strict=True)]


def meet(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def require_blinks(clip: str, first: int = 0, last: int | None = None) -> None:
    found = [(a + first, b + first) for a, b in closed(run_mediapipe(pictures(clip)[first:last], FPS))]
    for blink in BLINKS[clip]:
        assert any(meet(blink, one) for one in found), f"{blink} of {clip} is not among {found}"
    for one in found:
        assert any(meet(one, known) for known in BLINKS[clip] + WINKS.get(clip, ())), f"{one} of {clip} is none"


@needs_real_faces
class TestRealClips:
    def test_blinks_are_those_that_were_counted(self) -> None:
        require_blinks(GRID, 30, 66)

    @pytest.mark.parametrize("clip", [TALKING, WINKING])
    def test_blinks_of_longer_clips(self, clip: str, full: bool) -> None:
        if not full:
            pytest.skip("seconds of tracking: --full")
        require_blinks(clip)

    def test_a_mirrored_video_gives_the_opposite_horizontal_angle(self, full: bool) -> None:
        for clip in (GRID, TURNING, TALKING) if full else (TURNING,):
            shown = pictures(clip, None if full else 16)
            one = run_mediapipe(shown, FPS)
            other = run_mediapipe((np.ascontiguousarray(picture[:, ::-1]) for picture in shown), FPS)
            assert np.corrcoef(one.gaze_angle_x, other.gaze_angle_x)[0, 1] <= -0.95
            assert np.corrcoef(one.gaze_angle_y, other.gaze_angle_y)[0, 1] >= 0.95
            assert abs(np.degrees(np.median(one.gaze_angle_x + other.gaze_angle_x))) < 1

    def test_a_still_picture_does_not_move(self) -> None:
        for clip in (GRID, TURNING):
            table = run_mediapipe([pictures(clip, 16)[15]] * 4, FPS)
            assert table.success.all()
            assert np.degrees(max(np.ptp(table.gaze_angle_x), np.ptp(table.gaze_angle_y))) < 1

    def test_two_eyes_agree(self, full: bool) -> None:
        if not full:
            pytest.skip("seconds of tracking: --full")
        eyes: list[list[float]] = []
        for clip in [*sorted(REAL.glob("voxceleb2/**/*.mp4")), REAL / GRID, REAL / TALKING]:
            text = track(pictures(str(clip.relative_to(REAL)), 120), FPS)
            rows = [dict(zip(COLUMNS, row.split(","), strict=True)) for row in text.splitlines()[1:]]
            for row in rows:
                x = [np.degrees(np.arctan2(float(row[f"gaze_{e}_x"]), -float(row[f"gaze_{e}_z"]))) for e in (0, 1)]
                ahead = max(*map(abs, x), abs(np.degrees(float(row["pose_Ry"])))) < 30
                if row["success"] == "1" and float(row["AU45_r"]) < 1.5 and ahead:
                    eyes.append(x)
        assert len(eyes) > 500
        assert np.corrcoef(np.array(eyes).T)[0, 1] >= 0.8


@needs_real_faces
class TestTable:
    def test_has_what_the_statistics_are_made_of_and_says_whose_it_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = [str(REAL / "edge/short_10fps_no_face.mp4"), "--csv", str(tmp_path / "no"), "--fps", "5"]
        monkeypatch.setattr(sys, "argv", ["mediapipe", *arguments])
        main()
        said = capsys.readouterr().out
        assert "a face in 0 of 6 frames" in said
        assert "no statistics" in said
        with pytest.raises(GazeError, match="gaze_few_frames"):
            read_table(tmp_path / "no")
        text = track(pictures(GRID, 12), FPS)
        table = parse_table(text.encode())
        assert table.tracker == MEDIAPIPE
        assert table.fps == FPS
        assert table.success.all()
        assert np.isfinite(statistics(table)).all()
        assert len(statistics(table)) == len(GAZE_NAMES)
        assert (np.abs(table.pupil_x_55 - table.pupil_x_51) < 9).all()

    def test_pictures_without_the_face_fail_and_say_so(self) -> None:
        shown = pictures(GRID, 12)
        empty = np.zeros_like(shown[0])
        table = run_mediapipe([*shown[:5], empty, empty, *shown[5:]], FPS)
        assert table.success.tolist() == [True] * 5 + [False] * 2 + [True] * 7
        assert (table.confidence[5:7] == 0).all()
        height, width, _ = empty.shape
        with pytest.raises(GazeError, match="gaze_few_frames"):
            run_mediapipe(shown, FPS, lambda *_: (0.0, 0.0, width / 8, height / 8))

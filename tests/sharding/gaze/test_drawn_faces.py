"""The demo corpus' people are drawn, and MediaPipe's networks have learned from photographs: what they find of them.

README, or a page of docs/, states the figures; ``pytest --full`` measures them again, on a corpus of 34 videos.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sharding.demo.corpus import FPS, DemoSettings, make_demo
from sharding.gaze.mediapipe import run_mediapipe
from sharding.gaze.statistics import GazeTable, read_table
from sharding.media.reader import read_frames
from tests.sharding.gaze.drawn import looking
from tests.sharding.gaze.tracked import needs_networks

ROOT = Path(__file__).parents[3]
CORPUS = DemoSettings(speakers=24, videos_per_speaker=1, omg_train=5, omg_validation=5, lost_faces=0)

pytestmark = needs_networks


def angles(table: GazeTable) -> NDArray[np.float64]:
    """(rows, 2), degrees."""
    return np.degrees(np.stack([table.gaze_angle_x, table.gaze_angle_y], axis=1))


def about_median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values - np.median(values, axis=0))


def test_a_drawn_look_to_the_side_is_found_there() -> None:
    gaze = np.zeros((8, 2))
    gaze[:, 0] = 0.3 * np.sin(np.linspace(0, 2 * np.pi, 8))
    table = run_mediapipe(looking(gaze), FPS)
    assert table.success.all()
    assert np.corrcoef(table.gaze_angle_x, gaze[:, 0])[0, 1] > 0.9


def test_what_readme_says_of_drawn_faces_is_so(full: bool, tmp_path: Path) -> None:
    pages = " ".join(" ".join(page.read_text().split()) for page in (ROOT / "README.md", *ROOT.glob("docs/*.md")))
    said = re.search(
        r"MediaPipe finds their faces in (\d+) % of the frames\. Within a video the horizontal angle follows the "
        r"drawn one with r (0\.\d+), the vertical one with r (0\.\d+); of the frames with closed eyes (\d+) % are ",
        pages,
    )
    assert said is not None
    if not full:
        pytest.skip("draws and tracks 34 videos, for a minute: with --full")
    make_demo(tmp_path / "demo", CORPUS, workers=1)
    frames, faces, drawn, found, closed = 0, 0, [], [], []
    for told in sorted((tmp_path / "demo/openface").rglob("*.csv")):
        part, *name = told.relative_to(tmp_path / "demo/openface").with_suffix(".mp4").parts
        folder = tmp_path / "demo" / {"voxceleb": "voxceleb/dev/mp4", "omg": "omg/videos"}[part]
        table = run_mediapipe(read_frames(folder.joinpath(*name), fps=FPS), FPS)
        one, other = table.rows(table.success), read_table(told).rows(table.success)
        frames, faces = frames + table.frames, faces + int(table.success.sum())
        is_open = other.eyes_closed == 0
        found.append(about_median(angles(one)[is_open]))
        drawn.append(about_median(angles(other)[is_open]))
        closed.append(np.stack([one.eyes_closed, other.eyes_closed]) > 0)
    x, y = (np.corrcoef(np.concatenate(found)[:, a], np.concatenate(drawn)[:, a])[0, 1] for a in (0, 1))
    seen, shut = np.concatenate(closed, axis=1)
    measured = 100 * faces / frames, x, y, 100 * np.mean(seen[shut])
    for value, number, off in zip(measured, said.groups(), (1, 0.02, 0.02, 3), strict=True):
        assert value == pytest.approx(float(number), abs=off)

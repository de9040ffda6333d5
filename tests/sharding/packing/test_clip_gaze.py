"""OpenFace when it is run."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loaders.errors import InputError
from sharding.gaze import openface
from sharding.gaze.openface import require_openface, run_openface
from sharding.gaze.statistics import GazeError
from tests.processes import ended, started

ROOT = Path(__file__).parents[3]
FRAMES = np.zeros((10, 32, 32, 3), np.uint8)


def script(path: Path, body: str) -> str:
    path.write_text(f"#!{sys.executable}\nimport sys, time\nfrom pathlib import Path\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("body", "reason", "told"),
    [
        ("sys.exit(3)", "gaze_openface", "status 3, saying: nothing"),
        ("print('no model'); sys.exit(1)", "gaze_openface", "no model"),
        ("pass", "gaze_openface", "wrote no table"),
        ("time.sleep(60)", "gaze_openface", "did not end"),
        ("Path(sys.argv[4], 'crops.csv').write_text('frame, timestamp')", "gaze_unreadable", "gaze_angle_x"),
    ],
)
def test_a_program_that_fails_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, reason: str, told: str
) -> None:
    monkeypatch.setattr(openface, "_PATIENCE", 2.0)
    with pytest.raises(GazeError, match=told) as raised:
        run_openface(script(tmp_path / "FeatureExtraction", body), FRAMES, 25.0)
    assert raised.value.reason == reason


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--openface-bin"):
        require_openface(str(tmp_path / "FeatureExtraction"))
    with pytest.raises(GazeError, match="gaze_openface"):
        run_openface(str(tmp_path / "FeatureExtraction"), FRAMES, 25.0)
    require_openface(sys.executable)


WRAPPER = """
import os, subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
Path({told!r}).write_text(f"{{os.getpid()}} {{child.pid}}")
child.wait()
"""
ASKER = """
import sys
import numpy as np
from sharding.gaze.openface import run_openface
run_openface(sys.argv[1], np.zeros((2, 32, 32, 3), np.uint8), 25.0)
"""


def test_a_program_ends_with_whoever_asked_for_it_and_so_does_what_it_started(tmp_path: Path) -> None:
    """The asker is killed with -9 and can say nothing."""
    told = tmp_path / "pids"
    binary = script(tmp_path / "FeatureExtraction", WRAPPER.format(told=str(told)))
    asker = subprocess.Popen([sys.executable, "-c", ASKER, binary], cwd=ROOT)
    pids = started(told)
    asker.kill()
    asker.wait()
    ended(pids)


def test_a_program_that_takes_too_long_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openface, "_PATIENCE", 1.0)
    told = tmp_path / "pids"
    with pytest.raises(GazeError, match="did not end"):
        run_openface(script(tmp_path / "FeatureExtraction", WRAPPER.format(told=str(told))), FRAMES, 25.0)
    ended(started(told))

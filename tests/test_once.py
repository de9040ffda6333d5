"""What is to be said in one place is said in one place."""

import tokenize
from pathlib import Path

from loaders.dataset.manifest import GAZE_STATISTICS
from sharding.gaze.statistics import GAZE_NAMES

ROOT = Path(__file__).parents[1]
SOURCES = (
    *(path for name in ("loaders", "sharding", "models") for path in (ROOT / name).rglob("*.py")),
    ROOT / "train.py",
)


def test_the_number_of_gaze_statistics_is_typed_once() -> None:
    typed = []
    for path in SOURCES:
        with tokenize.open(path) as file:
            tokens = tokenize.generate_tokens(file.readline)
            typed += [path for token in tokens if (token.type, token.string) == (tokenize.NUMBER, str(GAZE_STATISTICS))]
    one_point_of_the_mesh = ROOT / "sharding/gaze/eye_geometry.py"  # which happens to have this number
    assert sorted(typed) == [ROOT / "loaders/dataset/manifest.py", one_point_of_the_mesh]
    assert len(GAZE_NAMES) == GAZE_STATISTICS

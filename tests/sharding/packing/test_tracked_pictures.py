"""What MediaPipe is shown of an utterance."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharding.crops.crop_plan import CropPlan
from sharding.gaze.statistics import GazeError, GazeTable
from sharding.media.reader import read_media
from sharding.packing.clip_gaze import UtteranceGaze
from sharding.settings import BuildSettings
from sharding.utterance import Utterance
from tests.films import write_changing_film


def test_mediapipe_is_shown_square_pixels_and_looks_in_their_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.full((48, 64, 3), 90, np.uint8)
    film = write_changing_film(tmp_path / "film.mkv", [picture] * 10, aspects=[Fraction(2)] * 10)
    shown = []

    def track(pictures: Iterable[Any], fps: float, within: Any) -> GazeTable:
        for number, one in enumerate(pictures):
            height, width, _ = one.shape
            shown.append((width, height, within(number, width, height)))
        raise GazeError("gaze_few_frames", "nobody is there")

    monkeypatch.setattr("sharding.packing.clip_gaze.run_mediapipe", track)
    settings = BuildSettings(size=16, gaze="mediapipe")
    media = read_media(film, fps=10, size=16)
    whose = Utterance(corpus="", split="", speaker="s", video="v", utterance="u", video_path=film)
    gaze = UtteranceGaze(whose, media, CropPlan(), settings)
    assert gaze.of(0, 1).problem == "gaze_few_frames"
    assert set(shown) == {(128, 48, (40, 0, 48, 48))}

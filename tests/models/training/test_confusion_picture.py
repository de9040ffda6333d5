"""Confusion matrices as a picture; without matplotlib there is none, and that is said."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.training import confusion_picture
from models.training.confusion_picture import draw_confusions
from models.training.evaluation import MODALITIES


def results(classes: int, **targets: int) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    names = [f"class ${number}" for number in range(classes)]
    of_modality = {"confusion": draw.integers(0, 9, (classes, classes)).tolist(), "uar": 0.5}
    scores = {"classes": names, **dict.fromkeys(MODALITIES, of_modality)}
    return {"targets": {**dict.fromkeys(targets, scores), "valence": {"mean": {}}}}


@pytest.mark.parametrize(("classes", "targets"), [(7, 1), (2, 2), (60, 1)])
def test_there_is_a_row_a_target(classes: int, targets: int, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")
    path = tmp_path / "confusion.png"
    assert draw_confusions(path, results(classes, **{f"target_{number}$^": 1 for number in range(targets)}))
    with Image.open(io.BytesIO(path.read_bytes())) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000
        assert picture.height == pytest.approx(440 * targets, abs=2)
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 10  # it is not empty
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_without_matplotlib_or_classes_nothing_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confusion_picture, "find_spec", lambda name: None)
    assert not draw_confusions(tmp_path / "confusion.png", results(3, emotion=1))
    assert draw_confusions(tmp_path / "confusion.png", results(3))  # there is nothing that would be missed
    assert draw_confusions(tmp_path / "confusion.png", {"pretraining": {}})
    assert list(tmp_path.iterdir()) == []

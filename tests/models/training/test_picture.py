"""Curves as pictures."""

import builtins
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from loaders.errors import InputError
from models import curves
from models.training import picture
from models.training.journal import METRICS


def lines_of(slope: float, steps: int = 50) -> list[dict[str, Any]]:
    return [
        {
            "step": step,
            "epoch": step // 20,
            "loss": 2 - slope * step / 100 if step != 20 else None,
            "parts": {"audio": slope * math.sin(step / 9), "$visual_": 1.0},
            "learning_rate": 1e-4,
            "clips_per_second": 800.0 + step,
            "data_wait_share": 0.01,
        }
        for step in range(2, 2 * steps, 2)
    ] + [{"step": 2 * steps, "validation": {"loss": 1.0, "emotion": {"audio": 0.4}}}]


def run_of(folder: Path, slope: float) -> Path:
    folder.mkdir(parents=True)
    (folder / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines_of(slope)))
    return folder


def test_each_number_of_the_lines_is_a_plot() -> None:
    series = picture.series(lines_of(1.0))
    assert list(series) == [
        "loss",
        "audio",
        "$visual_",
        "learning rate",
        "clips/s",
        "waiting for data, share of the time",
        "validation: loss",
        "validation: emotion: audio",
    ]
    steps, values = series["loss"]
    assert steps == list(range(2, 100, 2))
    assert [step for step, value in zip(steps, values, strict=True) if math.isnan(value)] == [20]
    assert series["validation: loss"] == ([100], [1.0])


def test_one_run_and_several_in_one_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")
    runs = [run_of(tmp_path / "runs" / name, slope) for name, slope in (("_a$b", 1.0), ("c/seed-1", 0.5))]
    curves.main([str(runs[0])])
    assert capsys.readouterr().out.strip() == str(runs[0] / "curves.png")
    curves.main([*map(str, runs), "--output", str(tmp_path / "both.png")])
    one, both = (
        np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB"), np.int16)
        for path in (runs[0] / "curves.png", tmp_path / "both.png")
    )
    orange = np.asarray((255, 127, 14), np.int16)  # the second line's

    def has_orange(image: np.ndarray[Any, Any]) -> bool:
        return bool((np.abs(image - orange).max(-1) < 30).sum() > 200)

    assert not has_orange(one)
    assert has_orange(both)
    assert one.shape[1] == both.shape[1] == 1200
    assert list(tmp_path.glob(".*")) == []


def test_what_cannot_be_drawn_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(tmp_path / "run", 1.0)
    with pytest.raises(InputError, match="named twice"):
        curves.draw(curves.Curves(runs=(run, run / ".." / run.name)))
    with pytest.raises(InputError, match="no run"):
        curves.draw(curves.Curves(runs=()))
    with pytest.raises(InputError, match=r"nowhere/curves\.png: No such file"):
        curves.draw(curves.Curves(runs=(run,), output=tmp_path / "nowhere" / "curves.png"))
    (run / METRICS).write_text("")
    with pytest.raises(InputError, match="run: no line of metrics yet"):
        curves.draw(curves.Curves(runs=(run,)))
    found = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return found(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install '\.\[plots\]'"):
        picture.draw_curves({"run": lines_of(1.0)}, run / "curves.png")

"""Training is measured both ways, and its operations counted; what needs a GPU is told in one line."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.report import page
from benchmarks.train import main
from tests import forked


def test_it_trains_with_the_loader_and_from_memory(dataset: Path, tmp_path: Path) -> None:
    written = tmp_path / "train.json"
    # A few steps, so that one that another process held up does not decide.
    steps = ("--rounds", "1", "--batch-size", "4", "--steps", "6")
    process = forked.script(("benchmarks/train.py", "--data", dataset, *steps, "--json", written))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    record = json.loads(written.read_text())
    assert set(record["rounds"]) == {"in memory", "with the loader", "front end alone", "network alone"}
    [figures] = record["rounds"]["with the loader"]
    assert figures["clips_a_second"] == pytest.approx(4 * figures["steps_a_second"])
    assert 0 <= figures["waited_percent"] <= 100
    assert "peak_percent" not in figures
    # Two parts make a step; that they are the right ones shows in that neither is nothing or all.
    for part in ("front end / step", "network / step"):
        assert 0.001 < record["ratios"][part] < 2
    seen = record["facts"]["kernels"]
    assert seen["ms a step by kind"]["convolutions backwards"] > 0
    assert seen["ms a step by kind"]["convolutions forwards"] > 0
    assert [k["ms"] for k in seen["longest, ms a step"]] == sorted([k["ms"] for k in seen["longest, ms a step"]])[::-1]
    # A weight takes part in a product and a sum at least, forwards alone.
    assert record["facts"]["operations_a_clip"] > 2 * record["facts"]["parameters"]
    text = page([written], tmp_path)
    assert "Time lost to data" in text
    assert "| convolutions backwards |" in text


def test_no_largest_batch_is_looked_for_on_a_cpu(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--data", str(dataset), "--batch-size", "0"])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert (ended.value.code, "--batch-size" in told, told.count("\n")) == (2, True, 1)

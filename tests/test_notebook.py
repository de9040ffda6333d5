"""The notebook docs/first-steps.ipynb: its cells are Python, its commands parse, and it runs."""

import ast
import json
import warnings
from pathlib import Path
from typing import Any

import pytest

import train
from filmstrip import COMMANDS
from models.prediction.results import VideoPrediction
from sharding import build
from tests.programs import ROOT

NOTEBOOK = json.loads((ROOT / "docs" / "first-steps.ipynb").read_text())
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
SOURCES = ["".join(cell["source"]) for cell in CELLS]


def test_it_is_a_notebook_without_outputs() -> None:
    """They would differ from machine to machine; who wants to see them runs it."""
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert {cell["cell_type"] for cell in NOTEBOOK["cells"]} == {"code", "markdown"}
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    for cell in CELLS:
        assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_every_cell_is_python_alone() -> None:
    """No line is for Jupyter only."""
    for source in SOURCES:
        ast.parse(source)


def commands() -> list[list[str]]:
    """The words of each call of `filmstrip` in the notebook."""
    known: dict[str, Any] = {"here": Path("work"), "omg": Path("work/corpus/omg")}
    calls = [node for source in SOURCES for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        [str(word) for argument in call.args for word in eval(f"[{ast.unparse(argument)}]", known)]
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "filmstrip"
    ]


def test_every_command_is_one() -> None:
    """Its options are those of the program that it calls."""
    parsers = {"build": build.parse, "train": train.parse, "info": lambda words: words}
    called = commands()
    assert [words[0] for words in called] == ["build", "build", "info", "train"]
    for name, *rest in called:
        assert name in COMMANDS
        parsers[name](rest)


def test_it_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From an empty folder to a prediction, cell after cell in one process, as a kernel runs them."""
    plots = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    plots.use("Agg")
    from matplotlib import pyplot

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)  # it is asked for anew
    kernel: dict[str, Any] = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")
        for number, source in enumerate(SOURCES):
            exec(compile(source, f"cell {number}", "exec"), kernel)
    assert len(pyplot.get_fignums()) == 3
    pyplot.close("all")
    assert kernel["batch"].match.sum() == 2
    assert [line["step"] for line in kernel["curve"]] == list(range(2, 21, 2))
    assert kernel["curve"][-1]["loss"] < kernel["curve"][0]["loss"]
    said: VideoPrediction = kernel["said"]
    for modality, answer in said.targets["emotion"].items():
        assert answer is not None, modality
        assert answer.probabilities is not None, modality
        assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert list(tmp_path.glob("first-steps-*")) == []

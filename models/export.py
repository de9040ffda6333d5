"""A fine-tuned run as files for others: ``python -m models.export RUN --output FOLDER``.

FOLDER gets model.onnx, front end included: uint8 frames, waveform and gaze statistics of a clip in, probabilities and
numbers out; model.safetensors with run.json, which `models.load` and ``python -m models.predict`` take as the run; and
README.md, the model's card. The graph is run beside torch before anything is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from loaders.arguments import cli
from loaders.errors import InputError, printable, reported
from loaders.storage.atomic import write_atomically
from models.exporting.card import card
from models.exporting.graph import CLOSE, Checked, check, example, onnx_of, output_names
from models.prediction.predictor import Predictor, load
from models.training import runs
from models.training.provenance import BUILDS, CONFIG, SETTINGS

ONNX, GRAPH, CARD = "model.onnx", "graph.json", "README.md"
#: Of run.json, what `load` and an evaluation need. Paths of the machine that trained it are not among it.
_KEPT = ("stage", "gaze", "sizes", "targets", SETTINGS, BUILDS)
_FILES = {
    ONNX: "an ONNX graph for one clip at a time, front end included",
    GRAPH: "what that takes and gives, by name: shapes, types, classes",
    runs.MODEL: "the weights, in safetensors",
    runs.RUN: "what the network is; with the weights this folder is a run for `models.load`",
    runs.RESULTS: "the scores",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Export a fine-tuned run."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run."""
    output: Path
    """A new folder."""
    like: str | None = None
    """A dataset whose clips are made as the run's are: for runs of older versions, which do not say how."""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m models.export") -> None:
    """The command line, of a program that is called so; ``arguments``: those of this process by default."""
    with reported():
        asked = cli(Export, args=arguments, prog=prog, description=__doc__)
        checked = export(asked)
        print(printable(f"{asked.output}: {', '.join(path.name for path in sorted(asked.output.iterdir()))}"))
        print(
            f"one clip on this CPU: {checked.graph_ms:.1f} ms by onnxruntime, {checked.torch_ms:.1f} ms by torch; "
            f"their answers differ by {checked.difference:.1e} at most"
        )


def export(asked: Export) -> Checked:
    """Write the folder; what was found of the graph.

    Raises:
        InputError: there is no such run, the folder cannot be written or holds something, a package is missing, or the
            graph does not answer what the network does.
    """
    if asked.output.exists() and not (asked.output.is_dir() and not any(asked.output.iterdir())):
        raise InputError(f"--output {asked.output}: holds something already: give a folder that is empty or not there")
    predictor = load(asked.run, like=asked.like)
    graph = onnx_of(predictor)
    checked = check(graph, predictor)
    if not checked.difference <= CLOSE:
        raise InputError(
            f"{asked.run}: the ONNX graph's answers differ from the network's by {checked.difference:.1e}: nothing is "
            "written; try another version of onnxruntime or torch"
        )
    run, results = runs.read_run(asked.run), runs.read_results(asked.run)
    contents: dict[str, bytes] = {
        ONNX: graph,
        GRAPH: _json(described(predictor)),
        runs.MODEL: (asked.run / runs.MODEL).read_bytes(),
        runs.RUN: _json(portable(run)),
    }
    if results:
        contents[runs.RESULTS] = _json(results)
    beside = {name: what for name, what in _FILES.items() if name in contents}
    text = card(asked.run.resolve().name, run, results, predictor.labels, predictor.making, beside)
    contents[CARD] = text.encode()
    try:
        asked.output.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomically(asked.output / name, content)
    except OSError as error:
        raise InputError(f"--output {asked.output}: {error.strerror}: give a folder that can be written") from error
    return checked


def described(predictor: Predictor) -> dict[str, Any]:
    """What the graph takes and gives, and how clips are made for it."""
    settings = predictor.making.settings
    classes = {label.name: label.classes for label in predictor.labels}
    return {
        "inputs": {
            name: {"shape": list(tensor.shape), "type": str(tensor.dtype).removeprefix("torch.")}
            for name, tensor in example(predictor).items()
        },
        "outputs": {name: {"classes": classes[name.rpartition(".")[0]]} for name in output_names(predictor.labels)},
        "clip": {
            "seconds": settings.clip_seconds,
            "fps": settings.fps,
            "size": settings.size,
            "crop": settings.crop,
            "sample_rate": settings.clip.sample_rate,
            "frames": predictor.making.chosen.tolist(),
        },
        "without": "A modality that is not there may be given zeros, and its answers and the joint ones left alone. "
        "Without gaze gaze_valid is false.",
    }


def portable(run: Mapping[str, Any]) -> dict[str, Any]:
    """run.json for another machine."""
    found = {name: run[name] for name in _KEPT if name in run}
    window = ((run.get(CONFIG) or {}).get("data") or {}).get("window")
    found[CONFIG] = {"data": {"window": window}}
    init = run.get("init")
    found["init"] = None if init is None else {name: init[name] for name in ("results", "model_sha256") if name in init}
    return found


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


if __name__ == "__main__":
    main()

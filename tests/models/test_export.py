"""A run as files for others: the graph answers what the network does, and the folder is a run itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loaders.errors import InputError
from models import load
from models.export import Export, export
from models.exporting.card import card
from models.exporting.graph import OneClip, example, output_names, session
from models.prediction.clips import VideoClips
from models.prediction.predictor import Predictor, utterance_of
from models.systems.presets import ModelConfig
from models.systems.registry import with_towers
from models.training.runs import save_results
from sharding.settings import BuildSettings
from tests.datasets import LABELS
from tests.films import write_film, write_table
from tests.made_run import SETTINGS, make_run
from tests.presets import SMALLEST

SCORES: Mapping[str, Any] = {
    "micro_f1": 0.625,
    "macro_f1": 0.5,
    "intervals": {"micro_f1": [0.5625, 0.6875]},
    "recall_by_class": {"happy": 0.75, "fear": 0.25, "sad": None},
    "calibration_error": 0.125,
}
RESULTS: Mapping[str, Any] = {
    "targets": {
        "emotion": {
            "split": "test",
            "utterances": 12,
            "speakers": 4,
            "classes": ["happy", "fear", "sad"],
            "majority": 0.25,
            **dict.fromkeys(("audio", "visual", "joint"), SCORES),
        }
    }
}


Run = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def answered(run: Run, predictor: Predictor, film: Path, gaze: Path | None) -> None:
    """``run`` says of a film's first clip what the predictor says of it."""
    utterance = utterance_of(film, gaze=gaze)
    clip = VideoClips(utterance, predictor.making, predictor.needs).at(0)
    assert clip.video is not None
    assert clip.audio is not None
    given: dict[str, Any] = {"video": clip.video[None], "audio": clip.audio[None]}
    if "gaze" in predictor.needs.streams:
        values = np.zeros(103, np.float32) if clip.gaze is None else clip.gaze
        given |= {"gaze": values[None], "gaze_valid": np.array([clip.gaze is not None])}
    for name in predictor.needs.members:
        given |= {name: np.asarray(clip.members[name])[None], f"{name}.mask": np.ones(1, np.bool_)}
    found = run(given)
    expected = predictor.predict_utterance(utterance)[0].windows[0].targets
    assert len(found) == 3 * len(LABELS)
    for label in LABELS:
        for modality, answer in expected[label.name].items():
            assert answer is not None
            values = answer.number if answer.probabilities is None else list(answer.probabilities.values())
            assert found[f"{label.name}.{modality}"][0] == pytest.approx(values, abs=1e-5)


def test_what_is_exported_answers_as_the_predictor_does(tmp_path: Path) -> None:
    """The module that a graph is made of, from tensors by name."""
    predictor = load(make_run(tmp_path / "run"))
    film, table = write_film(tmp_path / "film.mp4", 2.2), write_table(tmp_path / "film.csv", 55)

    def run(given: Mapping[str, Any]) -> Mapping[str, Any]:
        assert {name: value.shape for name, value in given.items()} == {
            name: tuple(tensor.shape) for name, tensor in example(predictor).items()
        }
        whole = OneClip(predictor.front_end, predictor.network, list(given)).eval()
        with torch.no_grad():
            answers = whole(*(torch.from_numpy(np.array(value)) for value in given.values()))
        return dict(zip(output_names(LABELS), answers, strict=True))

    for gaze in (table, None):
        answered(run, predictor, film, gaze)


def test_an_exported_run_answers_as_it_did(tmp_path: Path, full: bool) -> None:
    """By onnxruntime, and as a run."""
    if not full:
        pytest.skip("a graph takes seconds: --full")
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    run = make_run(tmp_path / "run")
    save_results(run, RESULTS)
    checked = export(Export(run=run, output=tmp_path / "out"))
    assert checked.difference < 1e-4
    film, table = write_film(tmp_path / "film.mp4", 2.2), write_table(tmp_path / "film.csv", 55)
    predictor = load(run)
    for gaze in (table, None):
        answered(session((tmp_path / "out" / "model.onnx").read_bytes()), predictor, film, gaze)
    again, before = load(tmp_path / "out").predict(film), predictor.predict(film)
    assert (again.targets, again.notes) == (before.targets, before.notes)
    for path in (tmp_path / "out").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path
    graph = json.loads((tmp_path / "out" / "graph.json").read_text())
    assert graph["inputs"]["video"] == {"shape": [1, 2, 32, 32, 3], "type": "uint8"}
    assert graph["outputs"]["arousal.joint"] == {"classes": None}
    with pytest.raises(InputError, match="holds something already"):
        export(Export(run=run, output=tmp_path / "out"))


@pytest.mark.parametrize("towers", [{"gaze": "gaze-transformer"}])
def test_a_network_over_members_is_exported(towers: dict[str, str], tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("a graph takes seconds: --full")
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    sizes: ModelConfig = with_towers(SMALLEST, towers)
    settings = BuildSettings(size=32, member=("gaze_frames",))
    run = make_run(tmp_path / "run", settings, sizes=sizes)
    export(Export(run=run, output=tmp_path / "out"))
    film, table = write_film(tmp_path / "film.mp4", 2.2), write_table(tmp_path / "film.csv", 55)
    answered(session((tmp_path / "out" / "model.onnx").read_bytes()), load(run), film, table)


def test_without_its_packages_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"onnx: pip install '\.\[export\]'"):
        export(Export(run=make_run(tmp_path / "run"), output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_card_says_what_the_run_s_files_say(tmp_path: Path) -> None:
    making = load(make_run(tmp_path / "run")).making
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    text = card("mine", described, RESULTS, LABELS, making, {"model.onnx": "a graph"})
    assert "| emotion | joint | micro-F1 | 0.625 | 0.562 … 0.688 |" in text
    assert "| emotion | audio | macro-F1 | 0.500 | – |" in text
    assert "own: 3 clips of 2 speakers" in text
    assert "of fear, from both modalities, 25% are recognised" in text
    assert "scored on 4 speakers, too few" in text
    assert "0.250" in text
    assert f"{SETTINGS.size}×{SETTINGS.size}" in text
    assert "It has not been scored." in card("mine", described, {}, LABELS, making, {})

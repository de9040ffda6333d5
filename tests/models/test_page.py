"""A run's page: what its folder says is on it, and nothing else; names are text."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loaders.dataset.dataset import Dataset
from loaders.dataset.labels import Label
from loaders.errors import InputError
from models.page import Page, write_page
from models.run_page.about import MOST_POINTS, about_run, curves, settings_that_differ
from models.run_page.extremes import extremes
from models.training.evaluation import MODALITIES, MatchPredictions, Predictions, TargetPredictions
from models.training.journal import Journal
from models.training.predictions import PAIRS, PREDICTIONS, read_pairs, read_predictions, write_pairs, write_predictions
from models.training.runs import save_results
from models.training.scores import first_of_utterances, score_pairs
from tests.made_run import make_run

HOSTILE = "</script><script>window.hacked = 1</script>"
CLASSES = ("calm", HOSTILE)


@pytest.fixture
def run(dataset: Path, tmp_path: Path) -> Path:
    """A run that has answered about the test split: one class of two, by chance."""
    folder = make_run(tmp_path / "run")
    catalog = Dataset.open(dataset).catalog("test")
    rows = first_of_utterances([catalog])
    draw = np.random.default_rng(0)
    share = draw.random((3, len(rows)))
    by = {name: np.stack([of, 1 - of], 1).astype(np.float32) for name, of in zip(MODALITIES, share, strict=True)}
    stated = draw.integers(0, 2, len(rows))
    said = Predictions(clip=rows, targets={"mood": TargetPredictions(stated=stated, by=by)})
    write_predictions(folder / PREDICTIONS, said, [Label(name="mood", classes=CLASSES)], [catalog])
    scores = {
        "micro_f1": 0.5,
        "macro_f1": 0.4,
        "uar": 0.45,
        "intervals": {"micro_f1": [0.4, 0.6], "macro_f1": [0.3, 0.5], "uar": [0.4, 0.5]},
        "f1_by_class": {"calm": 0.5, HOSTILE: 0.25},
        "recall_by_class": {"calm": 0.75, HOSTILE: None},
        "calibration_error": 0.1,
        "confusion": [[3, 1], [0, 0]],
    }
    of_target = {"split": "test", "utterances": 4, "speakers": 2, "classes": list(CLASSES), "majority": 1.0}
    save_results(folder, {"targets": {"mood": of_target | dict.fromkeys(MODALITIES, scores)}})
    with Journal(folder, -1) as journal:
        for step in (2, 4):
            rates = {"clips_per_second": 10.0 * step, "data_wait_share": 0.02}
            journal.write({"step": step, "epoch": 0, "loss": 1 / step, "parts": {}, "learning_rate": 0.1, **rates})
        journal.write({"step": 4, "validation": {"loss": 0.75}})
    return folder


def page_of(folder: Path) -> tuple[str, dict[str, Any]]:
    """The source of a page, and what it was given to show."""
    source = (folder / "index.html").read_text()
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', source, re.S)
    assert block is not None
    data: dict[str, Any] = json.loads(block[1])
    return source, data


def test_what_the_folder_says_is_on_the_page(run: Path) -> None:
    data = about_run(run)
    assert (data["stage"], data["finished"], data["scored"], data["steps"]) == ("finetune", True, True, 4)
    assert [(of["what"], of["value"], of["low"], of["beat"]) for of in data["scores"]][:3] == [
        ("micro-F1", 0.5, 0.4, 1.0),
        ("macro-F1", 0.4, 0.3, None),
        ("UAR", 0.45, 0.4, 1.0),
    ]
    assert [one["name"] for one in data["confusions"][0]["by"]] == list(MODALITIES)
    assert data["confusions"][0]["by"][0]["recalls"] == [0.75, None]
    assert data["waiting"] == {"clips_per_second": 40.0, "share": 0.02, "bound": "data"}
    loss = data["curves"][0]
    assert loss["title"] == "loss"
    assert [(line["name"], line["steps"], line["values"]) for line in loss["lines"]] == [
        ("training", [2, 4], [0.5, 0.25]),
        ("validation", [4], [0.75]),
    ]


def test_settings_that_differ_are_named_with_their_defaults() -> None:
    config = {"data": {"data": ["d"], "batch_size": 8, "seed": 0}, "schedule": {"epochs": 32, "schedule": "cosine"}}
    found = settings_that_differ({"stage": "pretrain", "config": config})
    assert found == [
        {"option": "--data", "value": ["d"], "default": None, "required": True},
        {"option": "--batch-size", "value": 8, "default": 32, "required": False},
        {"option": "--schedule", "value": "cosine", "default": "step", "required": False},
    ]


def test_worst_and_best_are_by_the_probability_of_what_is_stated(run: Path) -> None:
    answers = read_predictions(run / PREDICTIONS)["mood"]
    worst, best = extremes("mood", answers, 3)
    errors = sorted(
        1 - row["joint_probabilities"][CLASSES.index(row["stated_class"])]
        for row in pq.read_table(run / PREDICTIONS).to_pylist()
    )
    assert [one.error for one in best] == pytest.approx(errors[:3])
    assert [one.error for one in worst] == pytest.approx(errors[::-1][:3])
    every = extremes("mood", answers, 10**6)
    keys = [tuple(one.keys[0].items()) for side in every for one in side]
    assert len(set(keys)) == len(keys)


def test_the_page_plays_clips_of_the_dataset_and_names_are_text(run: Path, dataset: Path, tmp_path: Path) -> None:
    write_page(Page(run=run, data=(dataset,), output=tmp_path / "page", clips=2))
    source, data = page_of(tmp_path / "page")
    assert HOSTILE not in source
    assert source.count("<script") == 2
    assert CLASSES[1] in data["confusions"][0]["classes"]
    assert [group["title"] for group in data["extremes"]] == ["worst: mood", "best: mood"]
    shown = [answer for group in data["extremes"] for answer in group["answers"]]
    assert len(shown) == 4
    for answer in shown:
        [clip] = [data["clips"][number] for number in answer["clips"]]
        assert {name: clip[name] for name in ("split", "speaker", "video", "utterance")} == {
            name: value for name, value in answer["keys"][0].items() if name != "dataset"
        }
        assert all((tmp_path / "page" / clip[kind]).is_file() for kind in ("film", "audio", "spectrogram"))
    assert re.search(r'(src|href)="', source) is None
    # An older page is replaced; anything else is left alone.
    write_page(Page(run=run, output=tmp_path / "page"))
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["index.html"]
    (tmp_path / "page" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        write_page(Page(run=run, output=tmp_path / "page"))


def test_the_worst_pairs_have_the_face_of_one_and_the_voice_of_another(
    run: Path, dataset: Path, tmp_path: Path
) -> None:
    catalog = Dataset.open(dataset).catalog("test")
    count = len(catalog)
    pairs = MatchPredictions(
        match=(np.arange(count) + 1) % 2,
        probability=np.linspace(0, 1, count, dtype=np.float32),
        clip=np.arange(count),
        audio_clip=np.where(np.arange(count) % 2 == 0, np.arange(count), (np.arange(count) + 1) % count),
    )
    (run / PREDICTIONS).unlink()
    write_pairs(run / PAIRS, {"other_video": [pairs]}, [catalog])
    save_results(run, {"pretraining": {**score_pairs([pairs], [catalog]), "negatives": "other_video"}})
    worst, _ = extremes("other_video", read_pairs(run / PAIRS)["other_video"], 1)
    assert worst[0].error == pytest.approx(1.0)
    write_page(Page(run=run, data=(dataset,), output=tmp_path / "page", clips=2))
    _, data = page_of(tmp_path / "page")
    assert [one["name"] for one in data["confusions"][0]["by"]] == ["pairs"]
    for group in data["extremes"]:
        for answer in group["answers"]:
            assert [data["clips"][number]["key"] for number in answer["clips"]] == [
                key["clip"] for key in answer["keys"]
            ]


def test_a_run_without_answers_says_so(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    write_page(Page(run=tmp_path / "run"))
    _, data = page_of(tmp_path / "run-page")
    assert "neither predictions.parquet nor pairs.parquet" in data["missing"]
    assert not data["scored"]
    (tmp_path / "run" / "model.safetensors").unlink()
    write_page(Page(run=tmp_path / "run"))
    assert "not finished" in page_of(tmp_path / "run-page")[1]["missing"]


def test_what_is_no_run_or_another_dataset_is_refused_and_leaves_nothing(
    run: Path, namesakes: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no run there"):
        write_page(Page(run=tmp_path, output=tmp_path / "page"))
    table = pq.read_table(run / PREDICTIONS)
    elsewhere = pa.array(["elsewhere"] * len(table)).dictionary_encode()
    pq.write_table(table.set_column(0, "dataset", elsewhere), run / PREDICTIONS)
    with pytest.raises(InputError, match="none of the clips that the run answered about"):
        write_page(Page(run=run, data=(namesakes,), output=tmp_path / "page"))
    assert not (tmp_path / "page").exists()


def test_long_curves_are_thinned_and_keep_their_end() -> None:
    lines = [{"step": step, "loss": float(step)} for step in range(1, 5002)]
    [plot] = curves(lines)
    [line] = plot["lines"]
    assert len(line["steps"]) <= MOST_POINTS + 1
    assert line["steps"][-1] == 5001


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_shows_all_of_it(run: Path, dataset: Path, tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("a browser takes seconds to start: --full")
    index = write_page(Page(run=run, data=(dataset,), output=tmp_path / "page", clips=2))
    flags = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=2000",
        f"--user-data-dir={tmp_path}/p",
    )
    command = ["chromium", *flags, "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom", index.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert shown.count('class="score"') == 3 * len(MODALITIES)
    assert shown.count('class="matrix"') == len(MODALITIES)
    assert shown.count('class="card"') == 4
    assert shown.count("<script") == 2  # no name has become one
    assert f">{html.escape(HOSTILE, quote=False)}<" in shown
    assert "50.0 %" in shown

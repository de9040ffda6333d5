"""Ranks are those of known data; runs of every kind are looked into, fresh towers beside them."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from accelerate import Accelerator

from benchmarks import representation
from benchmarks.representation import Embedded, Settings, effective_rank
from loaders import ClipLoader
from models.frontend.front_end import FrontEnd
from models.systems.presets import correspondence_net, target_net
from models.systems.registry import sizes_of_system, system_of
from models.towers.vgg_face import VggFaceConfig
from models.training.labels import to_json
from models.training.runs import describe_run, save_model
from tests.datasets import CONTENTS, LABELS
from tests.members import FUNCTIONALS, GAZE, functionals, gaze
from tests.presets import SMALLEST
from tests.rebuilt import with_arrays

DRAW = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These products are tiny, and pytest-xdist fills the cores with processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_of_k_directions_that_spread_alike_the_rank_is_k(k: int) -> None:
    # Orthonormal columns that sum to nought, turned into sixteen dimensions, moved, and of any size.
    columns, _ = np.linalg.qr(np.hstack([np.ones((50, 1)), DRAW.normal(size=(50, k))]))
    turned, _ = np.linalg.qr(DRAW.normal(size=(16, 16)))
    assert effective_rank(1e-4 * columns[:, 1:] @ turned[:k] + 7) == pytest.approx(k)


def test_directions_that_hardly_vary_hardly_count_and_of_one_point_there_is_no_rank() -> None:
    columns, _ = np.linalg.qr(np.hstack([np.ones((50, 1)), DRAW.normal(size=(50, 2))]))
    share = np.array([0.9, 0.1])
    expected = np.exp(-(share * np.log(share)).sum())
    assert effective_rank(columns[:, 1:] * [9.0, 1.0]) == pytest.approx(expected)
    assert effective_rank(np.full((9, 4), 0.1)) == 0
    assert effective_rank(np.zeros((9, 4))) == 0


def test_an_utterance_is_the_mean_of_its_clips_and_counts_once_where_it_is_labelled() -> None:
    clips = np.arange(10.0).reshape(5, 2)
    utterance = np.array([7, 3, 7, 5, 3])
    found = Embedded(
        {"trained": {"video": clips}}, utterance, np.zeros(5, np.int64), {"emotion": np.array([1, -1, 1, 0, -1])}
    )
    first = found.labelled(LABELS[0])
    assert utterance[first].tolist() == [5, 7]
    assert found.of_utterances("trained", "video", first).tolist() == [[6, 7], [2, 3]]


def test_fewer_labels_are_among_more() -> None:
    nothing: dict[str, dict[str, Any]] = {"trained": {}}
    stated = {"emotion": np.repeat([0, 1, -1], 10)}
    found = Embedded(nothing, np.arange(30), np.zeros(30, np.int64), stated)
    settings = Settings(runs=(), data=(), labels=(5, 12))
    (_, few), (_, more) = representation._to_fit(settings, found, LABELS[:1])
    assert len(few) == len(set(few)) == 5
    assert len(more) == len(set(more)) == 12
    assert set(few) < set(more) < set(range(20))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of every kind, as if they had been trained."""
    made: dict[str, Path] = {}
    front_end = FrontEnd(SMALLEST.front_end)
    described: dict[str, Any] = {"sizes": asdict(SMALLEST), "gaze": True, "seed": 0}
    networks = {
        "l3": (
            described | {"stage": "pretrain", "model": "l3", "gaze": False},
            lambda: correspondence_net(SMALLEST, "l3", gaze=False),
        ),
        "ave": (described | {"stage": "pretrain", "model": "ave"}, lambda: correspondence_net(SMALLEST, "ave")),
        "emotion": (
            described | {"stage": "finetune", "init": None, "targets": to_json(LABELS)},
            lambda: target_net(SMALLEST, LABELS),
        ),
    }
    for name, (run, make) in networks.items():
        made[name] = tmp_path_factory.mktemp("runs") / name
        made[name].mkdir()
        torch.manual_seed(0)
        describe_run(made[name], run, Accelerator())
        save_model(made[name], front_end, make())
    return made


@pytest.mark.parametrize("name", ["l3", "ave", "emotion"])
def test_a_run_has_its_ranks_and_probes(
    name: str,
    full: bool,
    dataset: Path,
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if name != "ave" and not full:
        pytest.skip("--full looks into runs of every kind")
    folder, written = folders[name], tmp_path / "record.json"
    more = ("--fresh", "--targets", "emotion", "valence", "--labels", "8", "--json", str(written))
    monkeypatch.setattr(sys, "argv", ["representation.py", str(folder), "--data", str(dataset), *more])
    monkeypatch.setattr(representation.console, "width", 80)
    monkeypatch.setattr("benchmarks.probe.STRENGTHS", (1.0, 0.1))
    monkeypatch.setattr("benchmarks.probe.FOLDS", 2)
    representation.main()
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines() if line[:1] in "┏┃┡│├└") <= 80
    found = json.loads(written.read_text(), parse_constant=pytest.fail)["facts"]["runs"]
    towers = {"l3": ["video", "audio"], "emotion": ["video", "audio", "gaze"]}
    towers["ave"] = [*towers["emotion"], "video projected", "audio projected"]
    columns = ["speaker", "video", "utterance", "emotion"]
    rows = {
        tuple(row.values()) for row in pq.read_table(dataset / "test" / "clips.parquet", columns=columns).to_pylist()
    }
    of_run = found[str(folder)]
    assert list(of_run["dimensions"]) == towers[name]
    assert of_run["evaluated_on"]["speakers"] == CONTENTS.speakers["test"]
    assert [(probe["target"], probe["utterances"]) for probe in of_run["probes"]] == [
        ("emotion", 8),
        ("valence", 8),
    ]
    for tower, dimensions in of_run["dimensions"].items():
        assert 1 <= of_run["rank"]["trained"][tower] <= dimensions
        # The same weights, for the seed is the same, but for batch norms, which have seen clips.
        assert of_run["rank"]["trained"][tower] != of_run["rank"]["fresh"][tower]
        for probe in of_run["probes"]:
            for side in ("trained", "fresh"):
                assert -1 <= probe[side][tower]["low"] <= probe[side][tower]["high"] <= 1
    assert of_run["probes"][0]["scored"] == len([row for row in rows if row[3] is not None])
    assert "majority" in of_run["probes"][0]


def test_towers_of_members_are_embedded(dataset: Path, tmp_path: Path) -> None:
    data = with_arrays(dataset, tmp_path / "data", {FUNCTIONALS: functionals, GAZE: gaze})
    towers = {"gaze": "gaze-transformer"}
    sizes = sizes_of_system(SMALLEST, system_of("abdou-model-level"), towers)
    sizes = replace(sizes, video=VggFaceConfig(width=1, features=8, embedding=4))
    network = correspondence_net(sizes, "l3").eval()
    needs = network.needs
    with ClipLoader(data, "test", batch_size=8, negatives=None, training=False, members=needs.members) as loader:
        batch = next(iter(loader))
    found = representation.embeddings_of(FrontEnd(sizes.front_end).eval(), network, batch)
    assert {tower: of.shape for tower, of in found.items()} == {"video": (8, 4), "audio": (8, 128), "gaze": (8, 128)}
    # What they take is what they are given: of other functionals there is another embedding.
    batch.members["egemaps"].neg_()
    other = representation.embeddings_of(FrontEnd(sizes.front_end).eval(), network, batch)
    assert not torch.equal(found["audio"], other["audio"])
    assert torch.equal(found["gaze"], other["gaze"])


def test_what_cannot_be_probed_is_refused(
    dataset: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, what in (
        (("--labels", "1000"), "--labels 1000: of emotion the split 'train' has "),
        (("--labels", "1"), "--labels is 1: use 2 or more"),
        (("--evaluation-split", "train"), "probes are fitted to it"),
        (("--targets", "mood"), "mood"),
    ):
        arguments = ["representation.py", str(folders["l3"]), "--data", str(dataset), *options]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as ended:
            representation.main()
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert (ended.value.code, len(said)) == (2, 1)
        assert what in said[0]

"""The thesis' tables are made of real runs, and their figures are those of plain counting."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState

import train
from benchmarks import thesis_tables
from benchmarks.record import console
from benchmarks.report import page
from benchmarks.thesis import running, systems
from benchmarks.thesis.grid import NETWORKS, Grid, Work
from benchmarks.thesis.pages import systems_markdown, systems_of_record, systems_terminal
from benchmarks.thesis.published import EMOTION, PAIRS, PRIOR
from benchmarks.thesis.recipes import DEMO, RECIPES, ROOT, Recipe
from benchmarks.thesis.running import is_done, time_left
from benchmarks.thesis.systems import systems_of
from loaders.errors import InputError
from models.systems.registry import systems as models_systems
from models.training import stages
from models.training.evaluation import MODALITIES
from models.training.retrieval import WAYS
from tests.members import FUNCTIONALS, GAZE, functionals, gaze
from tests.rebuilt import with_arrays

SMALL = "--width 4 --frame-size 16"
BRIEF = "--batch-size 8 --max-steps 2 --checkpoint-every 1 --no-picture --tracker"
OPTIONS = (
    *("--recipe", "demo", "--seeds", "2"),
    f"--pretrain-options={SMALL} --window 4 --evaluation-rounds 2 --warmup-steps 0 {BRIEF}",
    f"--finetune-options={BRIEF}",
    f"--scratch-options={SMALL}",
)
Tables = Callable[..., str]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """train.py runs in this process, on one thread: what it was called with, its output's name each."""
    calls: list[str] = []
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")

    def start(command: Sequence[str], log: Path) -> None:
        calls.append(log.stem)
        AcceleratorState._reset_state(True)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        place = command.index(str(ROOT / "train.py"))
        with monkeypatch.context() as patched:
            patched.setattr(stages, "draw_confusions", lambda *_: True)  # which takes longer than all else
            patched.setattr(sys, "argv", list(command[place:]))
            try:
                train.main()
            finally:
                torch.set_num_threads(threads)
                AcceleratorState._reset_state(True)

    monkeypatch.setattr(running, "start", start)
    return calls


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tables:
    def call(*arguments: object, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["thesis_tables.py", *map(str, arguments)])
        if status:
            with pytest.raises(SystemExit) as ended:
                thesis_tables.main()
            assert ended.value.code == status
            return capsys.readouterr().err
        thesis_tables.main()
        return capsys.readouterr().out

    return call


def grid_of(folder: Path, data: Path, recipe: Recipe = DEMO, pretrain_options: tuple[str, ...] = ()) -> Grid:
    return Grid(
        folder=folder, voxceleb=str(data), omg=str(data), recipe=recipe, seeds=1, pretrain_options=pretrain_options
    )


def shares_right(path: Path) -> dict[str, float]:
    """Percent of the utterances that each modality is right about, by counting rows."""
    rows = [row for row in pq.read_table(path).to_pylist() if row["stated_class"] is not None]
    return {m: 100 * sum(row[f"{m}_class"] == row["stated_class"] for row in rows) / len(rows) for m in MODALITIES}


def pairs_right(path: Path) -> float:
    """Percent of the matches and of the others that are right, the mean of both, by counting rows."""
    rows = pq.read_table(path).to_pylist()
    right = [[(row["probability"] > 0.5) == of for row in rows if bool(row["match"]) == of] for of in (True, False)]
    return 100 * sum(sum(of) / len(of) for of in right) / 2


def test_tables_are_those_of_the_runs_and_nothing_is_trained_twice(
    dataset: Path, tmp_path: Path, tables: Tables, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tables"
    command = ("--voxceleb", dataset, "--omg", dataset, "--output", folder, *OPTIONS)
    out = tables(*command)
    assert len(started) == 12  # of each seed 2 pre-trainings, 2 fine-tunings, 1 from scratch; 2 scorings of the second
    assert re.search(r"\[12/12\].*min left", out)
    assert max(map(len, out[out.index("pre-trained") :].splitlines())) <= 80 or "tables.md" in out
    record = json.loads((folder / "tables.json").read_text())
    facts = record["facts"]
    assert len(facts["seconds"]) == 12
    scratch = [shares_right(folder / f"from-scratch-{seed}" / "predictions.parquet") for seed in range(2)]
    text = (folder / "tables.md").read_text()
    for network in NETWORKS:
        answered = [
            folder / f"{network}-pre-trained-0" / "pairs.parquet",
            folder / f"{network}-pre-trained-1-pairs.parquet",
        ]
        accuracy = np.mean([pairs_right(path) for path in answered])
        assert facts["pairs"]["of"][network]["value"] == pytest.approx(accuracy)
        # Of the second seed the same pairs were scored as of the first.
        keys = [pq.read_table(path).select(["video_clip", "audio_clip", "match"]).to_pylist() for path in answered]
        assert keys[0] == keys[1]
        tuned = [shares_right(folder / f"{network}-fine-tuned-{seed}" / "predictions.parquet") for seed in range(2)]
        for modality in MODALITIES:
            ours, fresh = (np.mean([run[modality] for run in of]) for of in (tuned, scratch))
            assert facts["emotion"]["pretrained"][network][modality]["value"] == pytest.approx(ours)
            assert facts["emotion"]["scratch"][modality]["value"] == pytest.approx(fresh)
            apart = facts["emotion"]["apart"][network][modality]
            assert apart["value"] == pytest.approx(ours - fresh, abs=1e-9)
            assert -100 <= apart["low"] <= apart["value"] <= apart["high"] <= 100
            assert f"{ours - fresh:+.1f} ({apart['low']:+.1f} … {apart['high']:+.1f})" in text
    answers = pq.read_table(folder / "from-scratch-0" / "predictions.parquet").to_pylist()
    stated = [row["stated_class"] for row in answers]
    counts = np.unique([name for name in stated if name is not None], return_counts=True)[1]
    assert facts["emotion"]["majority"] == pytest.approx(100 * counts.max() / counts.sum())
    for published in ("84.62", "57.82", "EmoBed"):
        assert published in text
    assert (folder / "tables.png").stat().st_size > 5000
    assert "# Pre-trained or from scratch" in page([folder / "tables.json"], folder)
    assert "how these were chosen is not known" in text  # the options are not the recipe

    # Again: nothing is trained, and a run that lacks its end is gone on with.
    started.clear()
    for name in ("results.json", "model.safetensors"):
        (folder / "from-scratch-1" / name).unlink()
    (folder / "ave-pre-trained-1-pairs.parquet").unlink()
    before = text
    tables(*command)
    assert started == ["ave-pre-trained-1-pairs", "from-scratch-1"]
    assert (folder / "tables.md").read_text() == before

    # Further systems follow on the same clips; of the grid's runs none is trained again.
    started.clear()
    keys_of_rows = ("l3", "gaze-l3", "infonce", "gaze-transformer")
    rows = [row for row in systems_of(grid_of(folder, dataset)) if row.key in keys_of_rows]
    monkeypatch.setattr(systems, "systems_of", lambda _: rows)
    out = tables(*command, "--systems")
    assert started == [
        *("l3-pre-trained-0", "l3-fine-tuned-0", "l3-from-scratch-0"),
        *("infonce-pre-trained-0", "infonce-fine-tuned-0"),
    ]
    assert "gaze-transformer: not trained, the datasets have no gaze_frames" in out
    again = (folder / "tables.md").read_text()
    assert again.startswith(before)
    assert "was not trained: the datasets have no gaze_frames. Build them with --member gaze_frames." in again
    facts = json.loads((folder / "tables.json").read_text())["facts"]
    found = {of["key"]: of for of in facts["systems"]}
    for key, fresh in (("l3", folder / "systems" / "l3-from-scratch-0"), ("infonce", folder / "from-scratch-0")):
        tuned = shares_right(folder / "systems" / f"{key}-fine-tuned-0" / "predictions.parquet")
        of_fresh = shares_right(fresh / "predictions.parquet")
        for modality in MODALITIES:
            assert found[key]["pretrained"][modality]["value"] == pytest.approx(tuned[modality])
            assert found[key]["scratch"][modality]["value"] == pytest.approx(of_fresh[modality])
            apart = tuned[modality] - of_fresh[modality]
            assert found[key]["apart"][modality]["value"] == pytest.approx(apart, abs=1e-9)
    for key, run in (("l3", folder / "systems" / "l3-pre-trained-0"), ("gaze-l3", folder / "l3-pre-trained-0")):
        assert found[key]["pairs"]["value"] == pytest.approx(pairs_right(run / "pairs.parquet"))
    assert found["infonce"]["pairs"] is None
    results = json.loads((folder / "systems" / "infonce-pre-trained-0" / "results.json").read_text())["retrieval"]
    assert found["infonce"]["recall"] == {way: pytest.approx(100 * results[way]["recall_at_10"]) for way in WAYS}
    shown = systems_terminal(systems_of_record(facts["systems"]), facts["emotion"]["majority"])
    with console.capture() as captured:
        console.print(shown, width=80)
    assert "… │" not in captured.get()  # nothing is cut off
    assert max(map(len, captured.get().splitlines())) <= 80
    assert "OMG, published" in captured.get()
    # From the record the table is that of the page.
    assert "\n".join(systems_markdown(systems_of_record(facts["systems"]), 1, facts["emotion"]["majority"])) in again
    started.clear()
    (folder / "systems" / "infonce-fine-tuned-0" / "results.json").unlink()
    tables(*command, "--systems")
    assert started == ["infonce-fine-tuned-0"]
    assert (folder / "tables.md").read_text() == again
    started.clear()

    # With other settings, or from other weights, what is there is refused.
    other = [option.replace("--max-steps 2", "--max-steps 3") for option in OPTIONS]
    err = tables("--voxceleb", dataset, "--omg", dataset, "--output", folder, *other, status=2)
    assert "max_steps was 2 and is 3" in err
    shutil.copy(folder / "l3-pre-trained-1" / "model.safetensors", folder / "l3-pre-trained-0" / "model.safetensors")
    assert "started from other weights" in tables(*command, status=2)
    assert started == []


def test_every_system_is_trained_both_ways_and_told(
    dataset: Path, tmp_path: Path, tables: Tables, started: list[str], full: bool
) -> None:
    if not full:
        pytest.skip("--full trains all systems")
    data = with_arrays(dataset, tmp_path / "data", {FUNCTIONALS: functionals, GAZE: gaze})
    folder = tmp_path / "tables"
    options = [option for option in OPTIONS if option not in ("--seeds", "2")]
    command = ("--voxceleb", data, "--omg", data, "--output", folder, *options, "--seeds", "1", "--systems")
    out = tables(*command)
    assert len(started) == len(set(started)) + 2  # names of two networks' runs are those of the grid's, in a folder
    facts = json.loads((folder / "tables.json").read_text())["facts"]
    found = {of["key"]: of for of in facts["systems"]}
    assert {row.system for row in systems_of(grid_of(folder, data))} == set(models_systems())
    assert not any(of["lacking"] for of in found.values())
    for key, of in found.items():
        assert of["recall"].keys() == set(WAYS), key
        assert (of["pairs"] is None) == (key == "infonce")
        for modality in MODALITIES:
            apart = of["pretrained"][modality]["value"] - of["scratch"][modality]["value"]
            assert of["apart"][modality]["value"] == pytest.approx(apart, abs=1e-9)
    assert [key for key, of in found.items() if of["random_faces"]] == [
        "vgg-face-gru",
        "abdou-model-level",
        "abdou-early",
        "emobed",
    ]
    text = (folder / "tables.md").read_text()
    assert "VGG-Face are random" in text
    for published in ("42.6", "45.0", "33.0", "37.0"):
        assert published in text[text.index("## All systems") :]
    assert "abdou-early" in out


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_systems_are_trained_by_recipes_that_train_py_takes(name: str) -> None:
    """Also those that look at no gaze, or whose objective is given no pairs; the grid's runs are taken from there."""
    grid = grid_of(Path("f"), Path("v"), RECIPES[name], ("--evaluation-rounds", "2", "--negatives", "other_speaker"))
    runs = systems.Systems(
        grid=grid, voxceleb="v", omg="o", seeds=1, members=frozenset({"egemaps", "gaze_frames"}), vgg_face=Path("w.t7")
    )
    works = list(runs.works())
    outputs = {work.output for work in (*grid.works(), *works)}
    assert len(outputs) == len(list(grid.works())) + len(works)
    for work in works:
        config = train.parse(work.arguments)[0]
        assert (config.network.vgg_face is not None) == ("--vgg-face" in work.arguments)
    for row in runs.rows:
        assert {runs.run(arm, row, 0) for arm in systems.ARMS} <= outputs
        # Both arms have the same towers, and so a fair comparison.
        scratch = next((work for work in works if work.output == runs.run("scratch", row, 0)), None)
        if scratch is not None and row.key != "ave":
            assert set(row.options()) <= set(scratch.arguments)
    assert [row.key for row in runs.rows if not row.tells_pairs] == ["infonce"]
    bare = systems.Systems(grid=grid, voxceleb="v", omg="o", seeds=1, members=frozenset())
    lacking = {row.key: bare.lacking(row) for row in bare.rows if bare.lacking(row)}
    assert lacking == {
        "gaze-transformer": ("gaze_frames",),
        **dict.fromkeys(("egemaps", "abdou-model-level", "abdou-early", "emobed"), ("egemaps",)),
    }


def test_datasets_of_other_clips_are_told(dataset: Path, namesakes: Path, tmp_path: Path) -> None:
    same = with_arrays(dataset, tmp_path / "data", {GAZE: gaze})
    thesis_tables.require_same_clips(dataset, same)
    with pytest.raises(InputError, match="has other clips"):
        thesis_tables.require_same_clips(dataset, namesakes)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--voxceleb", "a", "--demo"], "no effect with --demo"),
        (["--voxceleb", "a"], "give --voxceleb and --omg"),
        (["--voxceleb", "a", "--omg", "b", "--demo-seed", "1"], "no effect without --demo"),
        (["--demo", "--seeds", "0"], "use 1 or more"),
        (["--demo", "--system-seeds", "2"], "no effect without --systems"),
        (["--demo", "--systems", "--system-seeds", "4"], "use 1 to 3"),
        (["--demo", "--systems", "--vgg-face", "w.t7"], "are smaller"),
        (["--voxceleb", "a", "--omg", "b"], "holds other files"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments: list[str], says: str, tmp_path: Path, tables: Tables) -> None:
    (tmp_path / "somebody's").write_text("")
    err = tables(*arguments, "--output", tmp_path, status=2)
    assert says in err
    assert len(err.splitlines()) == 1


def test_options_that_are_none_are_refused_before_anything_is_trained(
    dataset: Path, tmp_path: Path, tables: Tables, started: list[str]
) -> None:
    command = ("--voxceleb", dataset, "--omg", dataset, "--output", tmp_path / "new")
    tables(*command, "--finetune-options=--max-stepz 3", status=2)
    tables(*command, "--finetune-options=--model ave", status=2)
    assert started == []


def test_killed_and_given_again_it_ends_with_the_same_weights(dataset: Path, tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("real processes: --full")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}

    def begin(folder: Path) -> "subprocess.Popen[str]":
        options = [option.replace("--max-steps 2", "--max-steps 6") for option in OPTIONS]
        options[options.index("2")] = "1"
        data = ("--voxceleb", dataset, "--omg", dataset, "--output", folder, "--launch", sys.executable)
        command = [sys.executable, "benchmarks/thesis_tables.py", *map(str, data), *options]
        return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, start_new_session=True)

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for run in ("l3-pre-trained-0", "l3-fine-tuned-0"):
        process = begin(killed)
        limit = time.monotonic() + 120
        while not list(killed.glob(f"{run}/checkpoints/0*")):
            assert process.poll() is None, (killed / f"{run}.log").read_text()
            assert time.monotonic() < limit
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    for folder in (killed, whole):
        assert begin(folder).wait(300) == 0
    models = sorted(path.relative_to(whole) for path in whole.glob("*/model.safetensors"))
    assert len(models) == 5
    for path in models:
        assert (killed / path).read_bytes() == (whole / path).read_bytes()
    # But for how long it took.
    assert (killed / "tables.md").read_text() == (whole / "tables.md").read_text()


def test_the_makefile_builds_the_same_corpora_and_takes_the_same_recipe() -> None:
    said = subprocess.run(
        ["make", "-n", "demo", "DEMO=there"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.replace("\\\n", " ")
    lines = [shlex.split(line) for line in said.splitlines() if line.strip()]
    builds = [line[2:] for line in lines if line[1:2] == ["sharding/build.py"]]
    builds[0] = builds[0][: builds[0].index("--omg-validation")]  # fewer test utterances, for the sake of minutes
    assert builds == [arguments for _, arguments in thesis_tables.demo_commands(Path("there"), 0).values()]
    trainings = [line[line.index("--config") + 1] for line in lines if "--config" in line]
    assert {str(DEMO.file(arm).relative_to(ROOT)) for arm in ("pretrain", "finetune", "scratch")} == set(trainings)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_both_arms_are_trained_alike(name: str) -> None:
    recipe = RECIPES[name]
    grid = Grid(folder=Path("f"), voxceleb="v", omg="o", recipe=recipe, seeds=1)
    for work in grid.works():
        train.parse(work.arguments)
    tuned, scratch = (yaml.safe_load(recipe.file(arm).read_text()) for arm in ("finetune", "scratch"))
    # Length, batches and loss are the same; a rate may be each arm's own.
    for option in (
        "max_steps",
        "epochs",
        "batch_size",
        "schedule",
        "alpha",
        "margin",
        "triplet_reduction",
        "normalise",
    ):
        assert tuned.get(option) == scratch.get(option), option


def test_what_is_left_is_told_by_works_of_the_same_kind() -> None:
    works = [
        Work(name=f"{kind} {n}", kind=kind, output=Path(f"{kind}{n}"), arguments=(), trains=True)
        for n in range(2)
        for kind in ("long", "short")
    ]
    assert time_left(works, 0, {}) is None
    assert time_left(works, 1, {"long 0": 50}) == 50 * 3
    assert time_left(works, 2, {"long 0": 50, "short 0": 10}) == 60
    assert time_left(works, 3, {"long 0": 50, "short 0": 10, "long 1": 70}) == 10
    assert not is_done(works[0])


def test_published_figures_are_those_of_the_thesis() -> None:
    path = ROOT.parent / "shared" / "reference" / "thesis.txt"
    if not path.is_file():
        pytest.skip("no ../shared here")
    text = path.read_text()
    lines = {tuple(line.split("\t")) for line in text.splitlines()}
    for network, says in (("l3", "L3-Net"), ("ave", "AVE-Net")):
        assert (says, f"{PAIRS[network]:.2f}") in lines
    for network, says in (("l3", "Gaze-enhanced L3-Net"), ("ave", "gaze-enhanced AVE-Net")):
        pretrained, scratch = EMOTION[network]["pre-trained"], EMOTION[network]["from scratch"]
        assert (f"pre-trained {says}", f"{pretrained['audio']:.2f}", f"{pretrained['visual']:.2f}") in lines
        assert (says, f"{scratch['audio']:.2f}", f"{scratch['visual']:.2f}") in lines
        # In two columns' cells, joined.
        joint = [line for line in lines if line[0] == f"pre-trained {says}" and line[2:3] and line[2].startswith(".")]
        assert joint == [(f"pre-trained {says}", *joint[0][1:])]
        assert float("".join(joint[0][1:]).replace("..", ".")) == pretrained["joint"]
    assert len(PRIOR) == 4
    for audio, visual in PRIOR.values():
        assert any(line[1:] == (f"{audio:.1f}", f"{visual:.1f}") for line in lines)

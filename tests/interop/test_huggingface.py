"""transformers' Trainer with the program of docs/trainers.md: every clip once an epoch, resumed, and on two ranks."""

import json
import runpy
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

from loaders import ClipLoader, InputError
from tests import forked
from tests.interop.conftest import CLIPS, PATIENCE, environment
from tests.programs import as_module

# Not imported here, where every process of the tests would wait for it.
if find_spec("transformers") is None:
    pytest.skip("the extra interop is not installed", allow_module_level=True)

EVERY = {name: list(range(count)) for name, count in CLIPS.items()}
STEPS = 6


@pytest.fixture(scope="module")
def program(programs: Path) -> Iterator[ModuleType]:
    """The program; what accelerate keeps for the life of a process is forgotten afterwards."""
    yield as_module(programs / "with_transformers.py")
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@dataclass
class Seen:
    """The clips of the batches that a model was given, and how many clips the loader gave for training."""

    training: list[list[int]] = field(default_factory=list)
    evaluation: list[list[int]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    taken: int = 0


def train(
    program: ModuleType,
    data: Path,
    output: Path,
    resume: Path | None = None,
    loader: dict[str, Any] | None = None,
    **settings: Any,
) -> Seen:
    """Train as the program does, and look at what comes by."""
    seen = Seen()

    class Watched(program.Match):  # type: ignore[name-defined,misc]
        def forward(self, **fields: torch.Tensor) -> Any:
            (seen.training if self.training else seen.evaluation).append(fields["clip"].tolist())
            return super().forward(**fields)

    arguments = program.arguments(
        str(output), **{"num_train_epochs": 2, "use_cpu": True, "disable_tqdm": True} | settings
    )
    with (
        ClipLoader(data, "train", **{"batch_size": 4} | (loader or {})) as training,
        ClipLoader(data, "test", batch_size=4) as test,
    ):
        trainer = program.ClipTrainer(Watched(), arguments, train_dataset=training, eval_dataset=test)
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        seen.taken = training.stats().clips
    seen.scores = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    return seen


def flat(batches: list[list[int]]) -> list[int]:
    return sorted(clip for batch in batches for clip in batch)


@pytest.fixture(scope="module", params=[1, 4], ids=["every batch", "four batches a step"])
def run(
    program: ModuleType, clips: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Path, int, Seen]:
    """Two epochs with a checkpoint every three steps, the batches a step, and what the model saw.

    An epoch's six batches are six steps, or two of four and two batches.
    """
    output = tmp_path_factory.mktemp("transformers")
    return output, request.param, train(program, clips, output, gradient_accumulation_steps=request.param)


def test_every_clip_is_trained_on_once_an_epoch(run: tuple[Path, int, Seen]) -> None:
    training = run[2].training
    assert flat(training[:STEPS]) == flat(training[STEPS:]) == EVERY["train"]
    assert training[:STEPS] != training[STEPS:]
    assert run[2].taken == 2 * CLIPS["train"]


def test_every_evaluation_is_of_all_clips(run: tuple[Path, int, Seen]) -> None:
    first, second = run[2].evaluation[:3], run[2].evaluation[3:]
    assert flat(first) == flat(second) == EVERY["test"]
    assert len(run[2].scores) == 2


def test_a_checkpoint_is_resumed_with_the_very_next_batch(
    program: ModuleType, clips: Path, tmp_path: Path, run: tuple[Path, int, Seen]
) -> None:
    """Within the first epoch, at its end, within the second; what was trained on is not asked for again."""
    output, accumulated, whole = run
    for step, done in ((3, 3), (6, 6), (9, 9)) if accumulated == 1 else ((3, 10),):
        arguments = {"gradient_accumulation_steps": accumulated}
        resumed = train(program, clips, tmp_path, output / f"checkpoint-{step}", **arguments)
        assert resumed.training == whole.training[done:]
        assert resumed.taken == 4 * len(resumed.training)
        assert resumed.scores[-1] == pytest.approx(whole.scores[-1], rel=1e-6)


def test_a_checkpoint_says_where_the_loader_stood(run: tuple[Path, int, Seen]) -> None:
    """As JSON, and not counted back from the steps alone."""
    state = json.loads((run[0] / "checkpoint-3" / "trainer_state.json").read_text())
    saved = state["stateful_callbacks"]["LoaderState"]["attributes"]["saved"]
    assert (saved["epoch"], saved["step"]) == ((0, 3) if run[1] == 1 else (1, 4))


@pytest.mark.parametrize("change", [{"seed": 7}, {"negatives": None}])
def test_a_checkpoint_of_other_settings_is_refused(
    program: ModuleType, clips: Path, tmp_path: Path, run: tuple[Path, int, Seen], change: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=f"{next(iter(change))} was .* resume with the settings"):
        train(program, clips, tmp_path, run[0] / "checkpoint-3", change, gradient_accumulation_steps=run[1])


def test_a_checkpoint_that_says_nothing_of_a_loader_is_refused(
    program: ModuleType, clips: Path, tmp_path: Path, run: tuple[Path, int, Seen]
) -> None:
    checkpoint = tmp_path / "checkpoint-3"
    shutil.copytree(run[0] / "checkpoint-3", checkpoint)
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    del state["stateful_callbacks"]["LoaderState"]
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match="no state of a ClipLoader"):
        train(program, clips, tmp_path, checkpoint, gradient_accumulation_steps=run[1])


@pytest.mark.parametrize(
    ("settings", "loader", "message"),
    [
        ({}, {"batch_size": 2}, "batches of 4 by per_device_train_batch_size, and of 2 by the ClipLoader"),
        ({"dataloader_num_workers": 2}, {}, "dataloader_num_workers is 2"),
        ({"dataloader_drop_last": True}, {}, "dataloader_drop_last is True"),
    ],
)
def test_arguments_that_contradict_the_loader_are_refused(
    program: ModuleType, clips: Path, tmp_path: Path, settings: dict[str, Any], loader: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(program, clips, tmp_path, loader=loader, **settings)


def test_what_is_no_loader_is_refused(program: ModuleType, tmp_path: Path) -> None:
    arguments = program.arguments(str(tmp_path), use_cpu=True)
    with pytest.raises(InputError, match="train_dataset is a list: give a ClipLoader"):
        program.ClipTrainer(program.Match(), arguments, train_dataset=[1, 2], eval_dataset=[3])


def test_the_program_runs_as_the_page_says(
    program: ModuleType, programs: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, output = str(programs / "with_transformers.py"), tmp_path / "output"
    monkeypatch.setattr(sys, "argv", [file, str(clips), str(output)])
    runpy.run_path(file, run_name="__main__")
    shutil.rmtree(output / "checkpoint-12")
    monkeypatch.setattr(sys, "argv", [file, str(clips), str(output), "--resume"])
    runpy.run_path(file, run_name="__main__")
    assert (output / "checkpoint-12" / "trainer_state.json").exists()


RANK = """
import json, sys
import with_transformers as program
from loaders import InputError

class Watched(program.Match):
    def __init__(self):
        super().__init__()
        self.seen = {"training": [], "evaluation": []}
    def forward(self, **fields):
        self.seen["training" if self.training else "evaluation"] += fields["clip"].tolist()
        return super().forward(**fields)

data, output = sys.argv[1:]
arguments = program.arguments(output, num_train_epochs=1, use_cpu=True, ddp_backend="gloo", disable_tqdm=True)
model = Watched()
with (
    program.ClipLoader(data, "train", batch_size=4) as train,
    program.ClipLoader(data, "train", batch_size=4, training=False) as even,
    program.ClipLoader(data, "test", batch_size=4) as odd,
):
    try:
        program.ClipTrainer(model, arguments, train_dataset=train, eval_dataset={"even": even, "odd": odd})
        raise AssertionError("an uneven evaluation was not refused")
    except InputError as error:
        refused = str(error)
    program.ClipTrainer(model, arguments, train_dataset=train, eval_dataset={"even": even}).train()
with open(f"{output}/{arguments.process_index}.json", "w") as file:
    json.dump([refused, model.seen], file)
"""


def test_two_ranks_share_every_clip(programs: Path, clips: Path, tmp_path: Path) -> None:
    """And a split that does not divide among them is refused before anything is trained."""
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    pair = forked.torchrun((script, clips, tmp_path), environment(programs))
    printed = pair.communicate(timeout=PATIENCE)
    assert pair.returncode == 0, printed
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for part in ("training", "evaluation"):
        shares = [seen[part] for _, seen in ranks]
        assert sorted(shares[0] + shares[1]) == EVERY["train"], part
        assert len(shares[0]) == len(shares[1])
    assert all("9 clips do not divide among 2" in refused for refused, _ in ranks)


def test_the_datasets_labels_are_trained_on_and_scored(program: ModuleType, clips: Path, tmp_path: Path) -> None:
    """They come as a dictionary, which the Trainer moves, keeps and gathers as it does a tensor."""
    seen: list[dict[str, torch.Tensor]] = []

    class Felt(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.score = torch.nn.Linear(1, 7)

        def forward(self, audio: torch.Tensor, targets: dict[str, torch.Tensor], **others: Any) -> dict[str, Any]:
            seen.append(targets)
            scores = self.score(audio.square().mean(1, keepdim=True))
            loss = torch.nn.functional.cross_entropy(scores, targets["emotion"], ignore_index=-1, reduction="sum")
            return {"loss": loss, "logits": scores}

    arguments = program.arguments(str(tmp_path), num_train_epochs=1, use_cpu=True, disable_tqdm=True)
    arguments.label_names = ["targets"]
    wanted: dict[str, Any] = {"batch_size": 4, "video": False, "negatives": None, "targets": ["emotion", "arousal"]}
    with ClipLoader(clips, "train", **wanted) as training, ClipLoader(clips, "test", **wanted) as test:
        trainer = program.ClipTrainer(Felt(), arguments, train_dataset=training, eval_dataset=test)
        trainer.train()
        scored = trainer.predict(test)
        stated = test.catalogs[0].targets["emotion"]
    assert {name for targets in seen for name in targets} == {"emotion", "arousal"}
    assert scored.predictions.shape == (CLIPS["test"], 7)
    assert scored.label_ids["emotion"].tolist() == stated.tolist()

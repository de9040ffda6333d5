"""Lightning with the program of docs/trainers.md: every clip once an epoch, validated, resumed and on two ranks."""

import json
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from loaders import InputError
from tests import forked
from tests.interop.conftest import CLIPS, PATIENCE, environment
from tests.programs import as_module

# Not imported here, where every process of the tests would wait for it.
if find_spec("pytorch_lightning") is None:
    pytest.skip("the extra interop is not installed", allow_module_level=True)

EVERY = {name: list(range(count)) for name, count in CLIPS.items()}
STEPS = 6


@pytest.fixture(scope="module")
def program(programs: Path) -> ModuleType:
    return as_module(programs / "with_lightning.py")


class Seen:
    """The clips of the batches that a model was given: in training, and in each validation."""

    def __init__(self) -> None:
        self.training: list[list[int]] = []
        self.validations: list[list[int]] = []


def fit(
    program: ModuleType, data: Path, output: Path, resume: Path | None = None, batch_size: int = 4, **settings: Any
) -> Seen:
    """Train as the program does, and look at what comes by."""
    seen = Seen()

    class Watched(program.Match):  # type: ignore[name-defined,misc]
        def training_step(self, batch: Any, index: int) -> Any:
            seen.training.append(batch.clip.tolist())
            return super().training_step(batch, index)

        def on_validation_epoch_start(self) -> None:
            seen.validations.append([])

        def validation_step(self, batch: Any, index: int) -> None:
            seen.validations[-1] += batch.clip.tolist()
            super().validation_step(batch, index)

    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    trainer = program.trainer(str(output), max_epochs=2, **quiet, **settings)
    datamodule = program.Clips(str(data), batch_size)
    trainer.fit(Watched(), datamodule=datamodule, ckpt_path=None if resume is None else str(resume))
    assert datamodule.loaders == []  # all of them closed
    return seen


def flat(batches: list[list[int]]) -> list[int]:
    return sorted(clip for batch in batches for clip in batch)


@pytest.fixture(scope="module")
def run(program: ModuleType, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seen]:
    """Two epochs, with a checkpoint every three steps, and what they saw."""
    output = tmp_path_factory.mktemp("lightning")
    return output, fit(program, clips, output)


def test_every_clip_is_trained_on_once_an_epoch(run: tuple[Path, Seen]) -> None:
    first, second = run[1].training[:STEPS], run[1].training[STEPS:]
    assert flat(first) == flat(second) == EVERY["train"]
    assert first != second


def test_validations_are_whole_after_a_sanity_check(run: tuple[Path, Seen]) -> None:
    """Which has looked at two batches of three."""
    assert run[1].validations == [list(range(8)), EVERY["test"], EVERY["test"]]


@pytest.mark.parametrize("step", [3, 6, 9])
def test_a_checkpoint_is_resumed_with_the_very_next_batch(
    program: ModuleType, clips: Path, tmp_path: Path, run: tuple[Path, Seen], step: int
) -> None:
    """Within the first epoch, at its end, and within the second, which is the last."""
    output, whole = run
    resumed = fit(program, clips, tmp_path, output / f"step={step}.ckpt")
    assert resumed.training == whole.training[step:]
    assert resumed.validations[-1] == EVERY["test"]


def test_a_checkpoint_of_other_settings_is_refused(
    program: ModuleType, clips: Path, tmp_path: Path, run: tuple[Path, Seen]
) -> None:
    with pytest.raises(InputError, match="global_batch was 4 and is 8: resume with the settings"):
        fit(program, clips, tmp_path, run[0] / "step=3.ckpt", batch_size=8)


def test_the_program_runs_as_the_page_says(programs: Path, clips: Path, tmp_path: Path) -> None:
    program, output = str(programs / "with_lightning.py"), str(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [program, str(clips), output])
        runpy.run_path(program, run_name="__main__")
        patch.setattr(sys, "argv", [program, str(clips), output, "--resume", f"{output}/step=9.ckpt"])
        runpy.run_path(program, run_name="__main__")
    assert sorted(path.name for path in tmp_path.glob("*12*.ckpt")) == ["step=12-v1.ckpt", "step=12.ckpt"]


RANK = """
import json, sys
import with_lightning as program

class Watched(program.Match):
    def __init__(self):
        super().__init__()
        self.seen = {"training": [], "sanity": [], "validation": []}
    def training_step(self, batch, index):
        self.seen["training"] += batch.clip.tolist()
        return super().training_step(batch, index)
    def validation_step(self, batch, index):
        self.seen["sanity" if self.trainer.sanity_checking else "validation"] += batch.clip.tolist()
        super().validation_step(batch, index)

data, output = sys.argv[1:]
trainer = program.trainer(
    output, max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", enable_progress_bar=False
)
model = Watched()
trainer.fit(model, datamodule=program.Clips(data, 4))
with open(f"{output}/{trainer.global_rank}.json", "w") as file:
    json.dump([trainer.strategy.process_group_backend, model.seen], file)
"""


def test_two_ranks_share_every_clip(programs: Path, clips: Path, tmp_path: Path) -> None:
    """Lightning starts the second one itself. Of the last global batch of the validation one of them has nothing."""
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    first = forked.script((script, clips, tmp_path), environment(programs), session=True)
    printed = first.communicate(timeout=PATIENCE)
    assert first.returncode == 0, printed
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [backend for backend, _ in ranks] == ["gloo", "gloo"]
    for part, split in (("training", "train"), ("sanity", "test"), ("validation", "test")):
        shares = [seen[part] for _, seen in ranks]
        assert sorted(shares[0] + shares[1]) == EVERY[split], part
    assert [len(seen["validation"]) for _, seen in ranks] == [4, 5]

"""Trackers by name; and a disk without room, which theirs and the run's files share."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from loaders.errors import InputError
from models.training.trackers import TrackerName, require_trackers
from tests import forked
from tests.forked import ENVIRONMENT

ROOT = Path(__file__).parents[3]
SMALL = ("--preset", "tiny", "--width", "4", "--frame-size", "16", "--batch-size", "8", "--no-picture")

#: What accelerate calls of wandb, into a file instead of into the network.
WANDB = """
import json, os
from pathlib import Path
class _Run:
    def __init__(self):
        self.config = self
    def update(self, values, **_): note("config", values)
    def log(self, values, step=None, **_): note("log", [step, values])
    def finish(self): note("finish", None)
def note(what, value):
    with Path(os.environ["TOLD"]).open("a") as file:
        file.write(json.dumps([what, value]) + "\\n")
run = config = None
def init(**settings):
    global run, config
    note("init", settings)
    run = config = _Run()
    return run
"""


@pytest.fixture
def wandb(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that has a package of that name."""
    packages = tmp_path / "packages"
    (packages / "wandb").mkdir(parents=True)
    (packages / "wandb" / "__init__.py").write_text(WANDB)
    (packages / "wandb-0.1.dist-info").mkdir()
    (packages / "wandb-0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: wandb\nVersion: 0.1\n")
    path = os.pathsep.join([str(packages), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**ENVIRONMENT, "PYTHONPATH": path, "TOLD": str(tmp_path / "told")}


def test_trackers_are_told_the_curves_and_the_settings(dataset: Path, wandb: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "l3"
    command = ["--stage", "pretrain", "--data", str(dataset), "--output", str(folder), *SMALL, "--max-steps", "4"]
    command += ["--log-every", "2"]
    process = forked.train((*command, "--tracker", "wandb", "tensorboard"), wandb)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    told = [json.loads(line) for line in Path(wandb["TOLD"]).read_text().splitlines()]
    assert [what for what, _ in told] == ["init", "config", "log", "log", "finish"]
    assert told[0][1] == {"project": "filmstrip", "name": "l3", "dir": str(folder)}
    assert told[1][1]["learning_rate"] == 1e-4
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [step for step, _ in (value for what, value in told if what == "log")] == [2, 4]
    for (_, values), line in zip((value for what, value in told if what == "log"), metrics, strict=True):
        assert values["train/loss"] == line["loss"]
        assert values["train/learning_rate"] == line["learning_rate"]
    curves = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [line.value for line in curves.Scalars("train/loss")] == pytest.approx([line["loss"] for line in metrics])


def test_what_is_not_there_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    require_trackers(())
    require_trackers(("tensorboard",))
    monkeypatch.setattr("accelerate.utils.is_comet_ml_available", lambda: False)
    with pytest.raises(InputError, match="--tracker comet_ml: its package is not installed: pip install comet-ml,"):
        require_trackers(("tensorboard", "comet_ml"))
    with pytest.raises(InputError, match="names tensorboard twice"):
        require_trackers(("tensorboard", "tensorboard"))


def test_every_name_is_one_of_accelerates() -> None:
    from accelerate.utils import LoggerType

    assert set(TrackerName.__args__) <= {kind.value for kind in LoggerType}  # type: ignore[attr-defined]


def test_a_full_disk_is_one_line(dataset: Path, tmp_path: Path) -> None:
    """A real one, with room for some lines of curves. TensorBoard writes in a thread of its own."""
    mount = tmp_path / "disk"
    mount.mkdir()
    if (
        shutil.which("unshare") is None
        or subprocess.run(
            ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(mount)], capture_output=True
        ).returncode
    ):
        pytest.skip("file systems cannot be mounted here")
    command = ["--stage", "pretrain", "--data", str(dataset), "--output", str(mount / "run"), *SMALL]
    command += ["--log-every", "1", "--epochs", "100", "--checkpoint-every", "100000"]
    shell = f'mount -t tmpfs -o size=24k tmpfs "{mount}" && exec "$0" train.py "$@"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", shell, sys.executable, *command],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {mount / 'run'}")
    assert "No space left on device: make room or give another --output, then --resume the run" in line

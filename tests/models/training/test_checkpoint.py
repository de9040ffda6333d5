"""A checkpoint brings everything back to the bit, says when it is not whole, and runs no code."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xxhash
from accelerate import Accelerator
from torch import Tensor, nn

from loaders.errors import InputError
from models.frontend.front_end import FrontEnd, FrontEndConfig
from models.training import wholefile
from models.training.checkpoint import (
    MANIFEST,
    BrokenCheckpointError,
    checkpoints,
    newest_checkpoint,
    not_finite,
    read_checkpoint,
    restore,
    sealed,
    write_checkpoint,
)
from models.training.execution import adam
from tests import forked

LOADER = {"epoch": 1, "step": 5, "fingerprint": {"seed": 0}, "decoder": None}
FILES = {MANIFEST, "model.safetensors", "optimizer.safetensors", "rank-00000.json", "rank-00000.safetensors"}


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


class Trainee:
    """A network of every kind of layer that keeps state, with its optimiser."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.network = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5), nn.LazyLinear(2)
        )
        self.network(torch.zeros(2, 3, 8, 8))
        self.optimizer: Any = adam(self.network, learning_rate=1e-2, weight_decay=0.1)

    def step(self) -> float:
        self.optimizer.zero_grad()
        loss = self.network(torch.randn(4, 3, 8, 8)).square().mean()  # its numbers, and the dropout's
        torch.autograd.backward(loss)
        self.optimizer.step()
        return float(loss.detach())


def save(folder: Path, accelerator: Accelerator, trainee: Trainee, step: int) -> Path:
    folder.mkdir(exist_ok=True)
    write_checkpoint(folder, step, accelerator, trainee.network, trainee.optimizer, LOADER)
    return folder / f"{step:08d}"


@pytest.fixture
def saved(accelerator: Accelerator, tmp_path: Path) -> Path:
    """The newer of two checkpoints."""
    trainee = Trainee()
    for step in (3, 6):
        trainee.step()
        path = save(tmp_path / "checkpoints", accelerator, trainee, step)
    return path


def test_the_best_weights_and_what_found_them_come_back(accelerator: Accelerator, tmp_path: Path) -> None:
    trainee = Trainee()
    (tmp_path / "c").mkdir()
    standing = {"best_step": 2, "best_score": 0.1 + 0.2, "without_gain": 1}
    best = {name: tensor.clone() for name, tensor in trainee.network.state_dict().items()}
    trainee.step()
    write_checkpoint(
        tmp_path / "c", 3, accelerator, trainee.network, trainee.optimizer, LOADER, validation=standing, best=best
    )
    checkpoint = read_checkpoint(tmp_path / "c" / "00000003", rank=0)
    assert checkpoint.state["validation"] == standing
    assert all(checkpoint.best[name].equal(tensor) for name, tensor in best.items())
    (tmp_path / "c" / "00000003" / "best.safetensors").write_bytes(b"")
    with pytest.raises(BrokenCheckpointError, match=r"best\.safetensors is not as it was written"):
        read_checkpoint(tmp_path / "c" / "00000003", rank=0)


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def test_what_goes_on_from_a_checkpoint_is_what_would_have_been(accelerator: Accelerator, tmp_path: Path) -> None:
    one, other = Trainee(), Trainee(seed=1)
    for _ in range(3):
        one.step()
    path = save(tmp_path / "a", accelerator, one, 3)
    expected = [one.step() for _ in range(3)], draws()
    other.step()
    draws()
    checkpoint = read_checkpoint(path, rank=0)
    restore(checkpoint, accelerator, other.network, other.optimizer)
    assert ([other.step() for _ in range(3)], draws()) == expected
    assert (checkpoint.step, checkpoint.state["loader"], checkpoint.same_rank) == (3, LOADER, True)
    left, right = one.network.state_dict(), other.network.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert {file.name for file in path.iterdir()} == FILES


def test_a_change_of_the_optimisers_settings_is_not_undone(accelerator: Accelerator, saved: Path) -> None:
    trainee = Trainee()
    trainee.optimizer.param_groups[0]["weight_decay"] = 0.7
    restore(read_checkpoint(saved, 0), accelerator, trainee.network, trainee.optimizer)
    assert trainee.optimizer.param_groups[0]["weight_decay"] == 0.7


def test_a_rank_that_there_was_not_takes_the_first_ones_place(accelerator: Accelerator, saved: Path) -> None:
    checkpoint = read_checkpoint(saved, rank=1)
    assert (checkpoint.same_rank, checkpoint.state["loader"]) == (False, LOADER)
    trainee = Trainee()
    before = torch.get_rng_state()
    restore(checkpoint, accelerator, trainee.network, trainee.optimizer)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_last_two_are_kept(accelerator: Accelerator, tmp_path: Path) -> None:
    trainee = Trainee()
    trainee.step()
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "00000004.partial").mkdir()  # as a killed process leaves it
    (folder / "00000004.partial" / "rest").touch()
    for step in (1, 2, 3):
        save(folder, accelerator, trainee, step)
    assert [path.name for path in checkpoints(folder)] == ["00000002", "00000003"]
    save(folder, accelerator, trainee, 4)
    assert sorted(path.name for path in folder.iterdir()) == ["00000003", "00000004"]
    assert {file.name for file in (folder / "00000004").iterdir()} == FILES
    assert checkpoints(tmp_path / "nothing") == []


def test_what_killed_processes_left_is_cleared_away_whatever_step_it_is_of(
    accelerator: Accelerator, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"
    for name in ("00000007.partial", "00000900.partial", "mine.partial", "00000005.broken"):
        (folder / name).mkdir(parents=True)
        (folder / name / "rest").touch()
    save(folder, accelerator, Trainee(), 8)
    assert sorted(path.name for path in folder.iterdir()) == ["00000005.broken", "00000008", "mine.partial"]


# -- what is not whole


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut": lambda file: os.truncate(file, file.stat().st_size // 2),
    "empty": lambda file: os.truncate(file, 0),
    "gone": lambda file: file.unlink(),
    "flipped": flip,
    "another": lambda file: file.write_text("[]"),
}


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_one_is_named_and_the_one_before_is_taken(
    damage: str, name: str, accelerator: Accelerator, saved: Path
) -> None:
    DAMAGES[damage](saved / name)
    with pytest.raises(BrokenCheckpointError, match=name.partition(".")[0]):
        read_checkpoint(saved, 0)
    said: list[str] = []
    checkpoint = newest_checkpoint(saved.parent, accelerator, said.append)
    assert checkpoint is not None
    assert checkpoint.step == 3
    [line] = said
    assert str(saved) in line
    assert name in line
    # What is written next must not push out the whole one before the broken.
    assert sorted(path.name for path in saved.parent.iterdir()) == ["00000003", "00000006.broken"]


def test_no_whole_checkpoint_is_an_error_and_none_at_all_is_not(accelerator: Accelerator, saved: Path) -> None:
    for path in checkpoints(saved.parent):
        (path / MANIFEST).unlink()
    said: list[str] = []
    with pytest.raises(InputError, match=r"no checkpoint is whole \(00000006: .*00000003"):
        newest_checkpoint(saved.parent, accelerator, said.append)
    assert ["00000006" in line for line in said] == [True]  # before the other there is none to go back to
    assert len(checkpoints(saved.parent)) == 2
    assert newest_checkpoint(saved.parent / "nothing", accelerator, lambda _: None) is None


def test_a_checkpoint_of_another_network_is_refused(accelerator: Accelerator, saved: Path) -> None:
    trainee = Trainee()
    trainee.network[0] = nn.Conv2d(3, 5, 3)
    with pytest.raises(InputError, match="does not fit this run"):
        restore(read_checkpoint(saved, 0), accelerator, trainee.network, trainee.optimizer)


@pytest.mark.parametrize("place", [-1, 625, 10**9, "1"])
def test_a_random_state_out_of_its_range_is_refused(place: Any, accelerator: Accelerator, saved: Path) -> None:
    """numpy would read beyond its memory."""
    checkpoint = read_checkpoint(saved, 0)
    checkpoint.state["random"]["numpy"]["place"] = place
    trainee = Trainee()
    with pytest.raises(InputError, match="does not fit"):
        restore(checkpoint, accelerator, trainee.network, trainee.optimizer)


# -- what is not ours


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


OF_ACCELERATE = {"custom_checkpoint_0.pkl", "optimizer.bin", "random_states_0.pkl", "scheduler.bin", "scaler.pt"}


@pytest.mark.parametrize("name", sorted(FILES | OF_ACCELERATE))
def test_no_file_of_a_checkpoint_runs_code(name: str, accelerator: Accelerator, saved: Path, tmp_path: Path) -> None:
    """Neither one that is replaced, with a manifest that agrees, nor one that stands beside them."""
    mark = tmp_path / "ran"
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists()  # the attack works
    mark.unlink()
    for path in checkpoints(saved.parent):
        (path / name).write_bytes(pickle.dumps(Evil(mark), protocol=2))
        if name != MANIFEST:
            manifest = json.loads((path / MANIFEST).read_text())
            data = (path / name).read_bytes()
            manifest["files"][name] = {"bytes": len(data), "xxh3_128": xxhash.xxh3_128_hexdigest(data)}
            del manifest["digest"]
            (path / MANIFEST).write_bytes(sealed(manifest))
    trainee = Trainee()
    if name in FILES:
        with pytest.raises(InputError, match="no checkpoint is whole"):
            newest_checkpoint(saved.parent, accelerator, lambda _: None)
    else:
        checkpoint = newest_checkpoint(saved.parent, accelerator, lambda _: None)
        assert checkpoint is not None
        restore(checkpoint, accelerator, trainee.network, trainee.optimizer)
    assert not mark.exists()


# -- what must not be kept


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_found_in_weights_statistics_and_the_optimiser(value: float) -> None:
    def spoilt(tensor_of: Callable[[Trainee], Tensor]) -> list[str]:
        trainee = Trainee()
        trainee.step()
        assert not_finite(trainee.network, trainee.optimizer) == []
        with torch.no_grad():
            tensor_of(trainee).view(-1)[-1] = value
        return not_finite(trainee.network, trainee.optimizer)

    def moment(trainee: Trainee) -> Tensor:
        found: Tensor = trainee.optimizer.state[trainee.network[0].weight]["exp_avg_sq"]
        return found

    assert spoilt(lambda trainee: trainee.network[0].weight) == ["0.weight"]
    assert spoilt(lambda trainee: trainee.network[1].running_var) == ["1.running_var"]
    assert spoilt(moment) == ["0.weight:exp_avg_sq"]
    trainee, front_end = Trainee(), FrontEnd(FrontEndConfig(frame_size=16))
    assert not_finite(trainee.network, trainee.optimizer, front_end) == []
    front_end.gaze_std[5] = value
    assert not_finite(trainee.network, trainee.optimizer, front_end) == ["FrontEnd.gaze_std"]


@pytest.mark.parametrize(("scale", "found"), [(65536.0, 0), (0.0, 1), (float("inf"), 1)])
def test_a_float16_scale_that_lets_no_step_be_taken_is_found(scale: float, found: int) -> None:
    trainee, scaler = Trainee(), torch.amp.GradScaler("cpu", init_scale=scale)
    trainee.step()
    assert len(not_finite(trainee.network, trainee.optimizer, scaler=scaler)) == found


def test_a_full_disk_is_a_line_and_leaves_nothing_half_written(
    accelerator: Accelerator, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(wholefile.os, "fsync", no_room)
    with pytest.raises(InputError, match="No space left on device: make room"):
        save(saved.parent, accelerator, Trainee(), 9)
    assert [path.name for path in saved.parent.iterdir() if not path.name.isdecimal()] == []
    assert [path.name for path in checkpoints(saved.parent)] == ["00000003", "00000006"]


TWO_RANKS = """
import sys
from pathlib import Path
import torch
from accelerate import Accelerator
from loaders.errors import InputError
from models.training import checkpoint
from tests.models.training.test_checkpoint import Trainee, save
accelerator = Accelerator(cpu=True)
folder, rank = Path(sys.argv[1]), accelerator.process_index
trainee = Trainee()
torch.manual_seed(rank)
trainee.step()
save(folder, accelerator, trainee, 1)
expected = float(torch.rand(()))
found = checkpoint.newest_checkpoint(folder, accelerator, print)
checkpoint.restore(found, accelerator, trainee.network, trainee.optimizer)
assert float(torch.rand(())) == expected
if rank == 1:  # it alone cannot write
    def no_room(*_): raise OSError(28, "No space left on device")
    checkpoint.write_atomically = no_room
try:
    save(folder, accelerator, trainee, 2)
except InputError as error:
    print(f"{rank}: {error}", flush=True)
accelerator.wait_for_everyone()
accelerator.end_training()
"""


def test_of_two_processes_each_has_its_random_states_and_none_waits_for_one_that_failed(tmp_path: Path) -> None:
    ranks = [forked.execute(TWO_RANKS, tmp_path / "checkpoints", environment=of) for of in forked.rank_environments(2)]
    said = [each.communicate(timeout=120) for each in ranks]
    assert [each.returncode for each in ranks] == [0, 0], said
    (first, _), (second, _) = said
    assert "another process of this training stopped" in first
    assert "No space left on device" in second
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["00000001"]

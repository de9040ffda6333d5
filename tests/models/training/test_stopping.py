"""Runs that are told to stop: real processes, real signals."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

import train
from models.training import stopping
from models.training.checkpoint import checkpoints
from tests import forked
from tests.forked import ENVIRONMENT, Forked
from tests.s3_adversary import s3_adversary

SMALL = ("--preset", "tiny", "--width", "4", "--frame-size", "16", "--batch-size", "8", "--log-every", "2")
RUN = ("--stage", "pretrain", *SMALL, "--tracker", "--no-picture", "--learning-rate", "1e-3")
PATIENCE = 120


def start(*arguments: object, **environment: str) -> Forked:
    return forked.train((*RUN, *arguments), {**ENVIRONMENT, **environment})


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """The same in this process, without the seconds in which another gets ready."""
    AcceleratorState._reset_state(True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(sys, "argv", ["train.py", *RUN, *map(str, arguments)])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train.main()
    finally:
        torch.set_num_threads(threads)
        AcceleratorState._reset_state(True)


def until(process: Forked, there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def trained(process: Forked, folder: Path) -> None:
    """Wait until there is a line of its curves."""
    metrics = folder / "metrics.jsonl"
    until(process, lambda: metrics.exists() and metrics.stat().st_size > 0)


def lines(folder: Path) -> list[dict[str, object]]:
    """What is the same of every run with these settings: not how fast it was."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in ("step", "epoch", "loss", "parts", "learning_rate")} for line in found]


def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights bit by bit, and the same lines, also where it is killed later, and resumed with other places to save."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    steps = ("--data", dataset, "--max-steps", "60")
    process = start(*steps, "--output", stopped)
    trained(process, stopped)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143, err
    [saved] = checkpoints(stopped / "checkpoints")
    assert f"stopped by SIGTERM after step {int(saved.name)}: --resume goes on from {saved}" in err
    assert "Traceback" not in err
    assert 2 <= int(saved.name) < 60
    # Killed: what it wrote after its last checkpoint is written again, half a line too.
    process = start(*steps, "--output", stopped, "--resume", "--checkpoint-every", "7")
    later = (int(saved.name) // 7 + 1) * 7
    until(process, lambda: any(int(path.name) >= later for path in checkpoints(stopped / "checkpoints")))
    process.kill()
    process.communicate()
    with (stopped / "metrics.jsonl").open("a") as file:
        file.write('{"step": 58, "lo')
    for output, resume in ((stopped, ("--resume",)), (whole, ())):
        call(monkeypatch, *steps, "--output", output, *resume)
    a, b = (load_file(folder / "model.safetensors") for folder in (whole, stopped))
    assert all(a[name].equal(b[name]) for name in a)
    assert [line["step"] for line in lines(whole)] == list(range(2, 61, 2))
    assert lines(stopped) == lines(whole)


def test_a_wait_for_data_is_no_hindrance(dataset: Path, tmp_path: Path) -> None:
    """The store answers for the description and not for the shards, and is waited for."""
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    store = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with s3_adversary(dataset.parent, every=1, stall_seconds=PATIENCE, suffix=".tar", misdeeds=("stall",)) as server:
        process = start(
            *("--data", f"s3://{dataset.name}", "--output", tmp_path / "run", "--cache", tmp_path / "cache"),
            AWS_ENDPOINT_URL=server.url,
            **store,
        )
        until(process, lambda: server.done["stall"] > 0 and (tmp_path / "run" / "metrics.jsonl").exists())
        time.sleep(0.3)
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143, err
    assert time.monotonic() - asked < PATIENCE / 4
    assert "stopped by SIGTERM after step 0: --resume begins anew: there is no checkpoint yet" in err
    assert "Traceback" not in err


def test_ranks_stop_at_one_step_although_one_alone_was_told(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    steps = (*RUN, "--data", dataset, "--output", folder, "--batch-size", "4", "--max-steps", "100000")
    ranks = [forked.train(steps, rank) for rank in forked.rank_environments(2)]
    trained(ranks[0], folder)
    ranks[1].send_signal(signal.SIGTERM)
    said = [rank.communicate(timeout=PATIENCE) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [143, 143], said
    [saved] = checkpoints(folder / "checkpoints")
    assert f"stopped by SIGTERM after step {int(saved.name)}" in said[0][1]
    states = [json.loads((saved / f"rank-0000{rank}.json").read_text())["loader"] for rank in (0, 1)]
    assert states[0] == states[1]


def test_a_second_signal_ends_at_once() -> None:
    """Not one of the same moment: launchers pass on what a scheduler has told everybody."""
    child = os.fork()
    if child == 0:  # in the middle of a step that does not end
        try:
            with stopping.Stopping(Mock(num_processes=1)):
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(60)
        finally:
            os._exit(1)
    time.sleep(stopping._SAME / 2)
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    time.sleep(stopping._SAME / 2 + 0.3)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143


def test_signals_are_heeded_within_alone_and_not_where_they_are_ignored() -> None:
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with stopping.Stopping(Mock(num_processes=1)) as stops:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert not stops.agree()
            signal.raise_signal(signal.SIGTERM)
            assert stops.agree()
        assert signal.getsignal(signal.SIGTERM) == before[signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Counting:
    """A loader that counts a batch before it hands it out, and is interrupted in between."""

    epoch, step = 0, 3
    interrupted: str

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "step": self.step, "of": 9}

    def __iter__(self) -> Iterator[str]:
        epoch = self.epoch
        while self.epoch == epoch:
            self.step += 1
            name = f"{self.epoch}.{self.step}"
            if name == self.interrupted:
                signal.raise_signal(signal.SIGTERM)
            if self.step == 6:
                self.epoch, self.step = self.epoch + 1, 0
            yield name


@pytest.mark.parametrize(
    ("interrupted", "a_step", "taken", "epoch", "step"),
    [
        ("0.5", 1, ["0.4"], 0, 4),
        ("0.6", 1, ["0.4", "0.5"], 0, 5),
        ("1.2", 1, ["0.4", "0.5", "0.6", "1.1"], 1, 1),
        ("1.3", 2, ["0.4", "0.5", "0.6", "1.1"], 1, 1),
        ("1.1", 2, ["0.4", "0.5"], 0, 5),
    ],
)
def test_a_batch_that_came_when_it_was_too_late_is_not_counted(
    interrupted: str, a_step: int, taken: list[str], epoch: int, step: int
) -> None:
    """Nor those before it that a step of several batches had to have, also from the epoch before."""
    loader: Any = Counting()
    loader.interrupted = interrupted
    with stopping.Stopping(Mock(num_processes=1)) as stops:
        assert list(stops.batches(loader, a_step)) == taken
        assert stops.agreed
        assert stops.state_of(loader) == {"epoch": epoch, "step": step, "of": 9}

"""benchmarks/gpu.sh: every command in it is one that its program takes, and nothing stops the rest."""

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tyro

import train
from benchmarks import loaders as loaders_benchmark
from benchmarks import train as train_benchmark
from benchmarks import windows
from benchmarks.peers import prepare
from benchmarks.peers.registry import PEERS, peers_on

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"
SETTINGS: dict[str, Callable[..., Any]] = {
    "benchmarks/loaders.py": loaders_benchmark.Settings,
    "benchmarks/train.py": train_benchmark.Settings,
    "benchmarks/windows.py": windows.Settings,
    "benchmarks.peers.prepare": prepare.Settings,
    "train.py": train.parse,
}


def script(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def listed(*options: str) -> dict[str, tuple[int, list[str]]]:
    done = script("--list", *options, "DATA", "OUT")
    assert done.returncode == 0, done.stderr
    stages = {}
    for line in done.stdout.split("\n"):
        if line.count("\t") == 2:
            name, limit, command = line.split("\t")
            stages[name] = int(limit), shlex.split(command)
    return stages


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[str], str]:
    """A program to be run in place of Python."""

    def write(body: str) -> str:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    return write


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset.json").touch()
    return tmp_path / "data"


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_every_program_takes_its_arguments(options: tuple[str, ...]) -> None:
    seen = set()
    for name, (limit, command) in listed(*options).items():
        assert 0 < limit < 540, name
        program = next((word for word in command if word in SETTINGS), None)
        if program is None:
            assert name in ("machine", "tests-kernels", "tests", "tests-alone", "compiled-test")
            continue
        seen.add(program)
        arguments = command[command.index(program) + 1 :]
        if program == "train.py":
            train.parse(arguments)
            continue
        settings = tyro.cli(SETTINGS[program], args=arguments)
        if isinstance(settings, loaders_benchmark.Settings):
            assert set(settings.peers) <= {"none", *peers_on(settings.device)}
            assert set(settings.peers) <= {"none", *PEERS} or settings.device == "cuda"
    assert seen == set(SETTINGS)


def test_the_one_test_that_compiles_is_a_stage_of_its_own() -> None:
    stages = listed()
    assert stages["tests"][1][-2:] == ["-k", "not compiled"]
    assert stages["compiled-test"][1][-2:] == ["-k", "compiled"]
    named = [line for path in (ROOT / "tests" / "gpu").glob("*.py") for line in path.read_text().splitlines()]
    assert len([line for line in named if line.startswith("def test_") and "compiled" in line]) == 1


def test_a_stage_that_fails_is_named_with_its_last_words_and_the_next_one_runs(
    data: Path, tmp_path: Path, fake: Callable[[str], str]
) -> None:
    python = fake('echo "[WARNING] threads"; echo "last words"; case "$*" in *peers.prepare*) exit 3;; esac')
    done = script("--dry-run", "--only", "machine,prepare,train", data, tmp_path / "out", PYTHON=python)
    assert done.returncode == 1
    summary = (tmp_path / "out" / "summary.txt").read_text().splitlines()
    assert [(line.split()[0], line.split("status ")[1].strip()) for line in summary] == [
        ("machine", "0"),
        ("prepare", "3"),
        ("train", "0"),
    ]
    assert done.stdout.count("last words") == 1
    log = (tmp_path / "out" / "prepare.log").read_text().splitlines()
    assert log[1:] == ["last words", "1 lines with WARNING were left out"]


def test_nothing_goes_on_beyond_the_budget(data: Path, tmp_path: Path, fake: Callable[[str], str]) -> None:
    python = fake("exec sleep 30")
    done = script("--only", "machine,prepare", "--budget", 2, data, tmp_path / "out", PYTHON=python)
    assert done.returncode == 1
    first, second = (tmp_path / "out" / "summary.txt").read_text().splitlines()
    assert "status 124  stopped at its limit of" in first
    assert "status skipped  no time left" in second


def test_wrong_usage_is_told_in_a_line(data: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (("--dry",), "--dry"),
        ((data,), "DATA and OUT"),
        (("--only", "training", data, tmp_path), "--only training"),
        (("--budget", "long", data, tmp_path), "--budget is long"),
        ((tmp_path / "nothing", tmp_path), "no dataset there"),
    ):
        done = script(*arguments, OUT="")
        assert done.returncode == 2
        assert said in done.stderr
        assert done.stderr.count("\n") == 1

"""The ways of three people, from what they have to a result: each script runs with ``--full``, within five minutes.

In the usual run, every command of them is one that the programs take.
"""

import os
import re
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tyro

import filmstrip

JOURNEYS = Path(__file__).parent
ROOT = JOURNEYS.parents[1]
LIMIT = 300.0  # seconds of two cores
EXTRAS = {
    "student": ("matplotlib", "onnx", "onnxscript", "onnxruntime"),
    "engineer": ("pytorch_lightning",),
    "data_engineer": ("ray", "s3fs", "moto"),
}
# pip's own for an entry point.
SCRIPT = "#!{}\nimport sys\nfrom filmstrip import main\nif __name__ == '__main__':\n    sys.exit(main())\n"


def test_there_is_a_script_for_everybody() -> None:
    assert {path.stem for path in JOURNEYS.glob("*.sh")} == EXTRAS.keys()


def commands(journey: str) -> list[list[str]]:
    """What a script calls ``filmstrip`` with; arrays of options that it keeps are written out."""
    text = (JOURNEYS / f"{journey}.sh").read_text().replace("\\\n", " ")
    for name, options in re.findall(r"^(\w+)=\((.*)\)$", text, re.MULTILINE):
        text = text.replace(f'"${{{name}[@]}}"', options)
    return [shlex.split(line.partition(" && ")[0]) for line in re.findall(r"^run filmstrip (.*)$", text, re.MULTILINE)]


class ParsedError(BaseException):
    """A command line is one: nothing else is wanted of it."""


@pytest.mark.parametrize("journey", EXTRAS)
def test_every_command_is_one_that_the_programs_take(journey: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parse = tyro.cli

    def parse_alone(*given: Any, **named: Any) -> None:
        parse(*given, **named)
        raise ParsedError

    monkeypatch.setattr(tyro, "cli", parse_alone)
    monkeypatch.setattr(sys, "argv", sys.argv)  # put back afterwards
    called = commands(journey)
    assert len(called) > 2
    for command in called:
        with pytest.raises(ParsedError):
            filmstrip.main(command)


def test_a_command_with_an_option_that_there_is_not_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)  # put back afterwards
    with pytest.raises(SystemExit):
        filmstrip.main(["verify", "data/vox", "--decoed"])
    assert "--decoed" in capsys.readouterr().err


@pytest.mark.parametrize("journey", EXTRAS)
def test_the_way_ends_in_a_result_within_five_minutes(journey: str, full: bool, tmp_path: Path) -> None:
    subprocess.run(["bash", "-n", JOURNEYS / f"{journey}.sh"], check=True)
    if not full:
        pytest.skip("minutes of both cores: with --full")
    for package in EXTRAS[journey]:
        pytest.importorskip(package, reason=f"{package} is not installed")
    # As an installation has it: the command, and the packages that it finds wherever it is called.
    command = tmp_path / "bin/filmstrip"
    command.parent.mkdir()
    command.write_text(SCRIPT.format(sys.executable))
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {
        "PATH": os.pathsep.join([str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": python_path,
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    began = time.monotonic()
    done = subprocess.run(
        ["bash", JOURNEYS / f"{journey}.sh", tmp_path / "way"], env=environment, text=True, timeout=LIMIT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    assert done.stdout.splitlines()[-1].startswith("result: "), done.stdout[-6000:]
    print(f"{journey}: {time.monotonic() - began:.0f} s, {done.stdout.splitlines()[-1]}")

"""The command ``filmstrip``: it calls the programs, and those alone."""

import ast
import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from filmstrip import COMMANDS, main

ROOT = Path(__file__).parents[1]
# What pip writes for an entry point.
SCRIPT = "import sys\nfrom filmstrip import main\nif __name__ == '__main__':\n    sys.exit(main())\n"


@pytest.fixture
def called(tmp_path: Path) -> list[str]:
    """The command line of the installed command, of a project that has packages of our names."""
    project, environment = tmp_path / "project", tmp_path / "environment"
    for name in ("models", "sharding", "loaders"):
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text("raise AssertionError('the project\\'s own')\n")
    environment.mkdir()
    (environment / "filmstrip").write_text(SCRIPT)
    return [sys.executable, str(environment / "filmstrip")]


def test_the_entry_point_is_the_command() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert EntryPoint("filmstrip", project["project"]["scripts"]["filmstrip"], "console_scripts").load() is main
    assert "filmstrip" in project["tool"]["setuptools"]["py-modules"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_program_that_can_be_called(name: str) -> None:
    """By its text: to import them all takes seconds."""
    command = COMMANDS[name]
    path = ROOT / f"{command.module.replace('.', '/')}.py"
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    (called,) = [node.args for node in functions if node.name == "main"]
    assert ("prog" in [argument.arg for argument in called.args]) == command.takes_name
    assert len(called.defaults) == len(called.args)


def test_installed_it_works_in_a_folder_of_any_project(dataset: Path, called: list[str], tmp_path: Path) -> None:
    """Also where the project has packages of our names: the folder that it is called in is not looked into."""
    line = [*called, "info", str(dataset), "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "PYTHONPATH": str(ROOT)
    }
    done = subprocess.run(
        line, cwd=tmp_path / "project", env=environment, text=True, capture_output=True, timeout=60, check=True
    )
    assert json.loads(done.stdout)["splits"].keys() == {"train", "test"}


@pytest.mark.parametrize("asked", [[], ["--help"]])
def test_without_a_command_it_lists_them(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(asked)
    said = capsys.readouterr().out
    assert [name for name in COMMANDS if f"\n  {name} " not in said] == []


def test_an_unknown_command_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bild", "voxceleb"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: filmstrip bild: there is no such command: use one of build, verify, info, gallery, train, predict, "
        "compare, page, curves, export, networks, summary\n"
    )


def test_a_program_names_itself_and_ends_as_it_does_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)  # put back afterwards
    with pytest.raises(SystemExit) as ended:
        main(["build", "voxceleb", "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: filmstrip build voxceleb ")
    with pytest.raises(SystemExit) as ended:
        main(["info", str(tmp_path / "nowhere")])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'nowhere'}")

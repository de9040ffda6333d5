"""What SECURITY.md says is so, as far as text can be held against code; the tests that it names do the rest."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INSTALLED = [*(path for name in ("loaders", "sharding", "models") for path in sorted((ROOT / name).rglob("*.py")))]
INSTALLED += [ROOT / "train.py", ROOT / "filmstrip.py"]
#: Calls that run what they are given, or may; with the keyword that makes one harmless, by its value.
DANGEROUS: dict[str, tuple[str, object] | None] = {
    **dict.fromkeys(("eval", "exec", "compile", "os.system", "os.popen", "runpy.run_path")),
    **dict.fromkeys(("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "shelve.open", "joblib.load")),
    **dict.fromkeys(
        ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.hub.load", "numpy.lib.format.read_array")
    ),
    "torch.load": ("weights_only", True),
}
#: Keywords that let what is read run.
LETS = {("allow_pickle", True), ("shell", True), ("weights_only", False), ("trust_remote_code", True)}


def dotted(node: ast.expr) -> str:
    """What is called, as ``torch.load``; of what is no plain name, the end."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append(node.id if isinstance(node, ast.Name) else "")
    return ".".join(reversed(parts))


def found(text: str) -> Iterator[str]:
    """What of a module's text runs, or may run, what is read."""
    nodes = list(ast.walk(ast.parse(text)))
    names: dict[str, str] = {}  # here, and where it comes from
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        head, _, rest = dotted(node.func).partition(".")
        called = ".".join(filter(None, (names.get(head, head), rest)))
        given = {(word.arg, word.value.value) for word in node.keywords if isinstance(word.value, ast.Constant)}
        if (called in DANGEROUS and DANGEROUS[called] not in given) or given & LETS:
            yield f"line {node.lineno}: {ast.unparse(node)}"


def test_nothing_that_is_read_can_run_code() -> None:
    assert len(INSTALLED) > 100
    lines = [f"{path.relative_to(ROOT)}: {line}" for path in INSTALLED for line in found(path.read_text())]
    assert lines == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle\npickle.load(file)",
        "from pickle import loads as read\nread(data)",
        "import torch\ntorch.load(file)",
        "import torch\ntorch.load(file, weights_only=False)",
        "import numpy as np\nnp.load(file, allow_pickle=True)",
        "import yaml as y\ny.load(text, y.Loader)",
        "import subprocess\nsubprocess.run(line, shell=True)",
        "eval(text)",
    ],
)
def test_what_would_is_seen(code: str) -> None:
    assert len(list(found(code))) == 1


def test_every_test_that_is_named_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 10
    missing = [f"{path}::{name}" for path, name in named if f"def {name}(" not in (ROOT / path).read_text()]
    assert missing == []

"""The site of docs/: it is built strictly, every link between its pages leads somewhere, what it claims is there."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
needs_mkdocs = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings")),
    reason="needs the extra docs: pip install -c constraints.txt '.[docs]'",
)


class Links(HTMLParser):
    """Where a page leads to, and what can be led to on it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.leads: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := found.get(name))}
        if link := found.get("href" if tag in ("a", "link") else "src"):
            self.leads.add(link)


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", config, "--site-dir", site]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Links]:
    site = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", site)
    assert done.returncode == 0, done.stderr
    return {path: Links(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}


@needs_mkdocs
def test_it_is_built_strictly_and_every_link_leads_somewhere(pages: dict[Path, Links]) -> None:
    assert len(pages) > 15
    broken = []
    for page, links in pages.items():
        for link in sorted(links.leads):
            if re.match(r"\w+:", link):
                continue
            path, _, anchor = unquote(link).partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in pages[target].anchors):
                broken.append(f"{page.name}: {link}")
    assert broken == []


@needs_mkdocs
def test_nothing_is_fetched_from_elsewhere(pages: dict[Path, Links]) -> None:
    for page in pages:
        fetched = re.findall(
            r"<(?:script|img|link rel=\"stylesheet\")[^>]* (?:src|href)=\"(\w+:[^\"]*)", page.read_text()
        )
        assert [link for link in fetched if not link.startswith("data:")] == [], page.name


@needs_mkdocs
def test_a_link_to_nothing_and_an_anchor_that_is_not_there_are_refused(tmp_path: Path) -> None:
    """By the settings and the hook of the real site, over pages that are broken."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(
        "# Page\n\n[no file](../loaders/nothing.py) and [no anchor](#nowhere)\n"
    )
    text = (ROOT / "mkdocs.yml").read_text()
    text = re.sub(r"^nav:\n(?: .*\n)*", "", text, flags=re.MULTILINE)
    text = text.replace("- docs/mkdocs_hooks.py", f"- {tmp_path / 'hook.py'}")
    (tmp_path / "mkdocs.yml").write_text(text)
    hook = (DOCS / "mkdocs_hooks.py").read_text()
    (tmp_path / "hook.py").write_text(re.sub(r"^OUTSIDE = .*$", "OUTSIDE = ()", hook, flags=re.MULTILINE))
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0
    assert "nothing.py" in done.stderr
    assert "#nowhere" in done.stderr


def texts() -> Iterator[str]:
    """Every text in the code that is installed; what is filled in is …"""
    modules = [*(path for name in ("loaders", "sharding", "models") for path in (ROOT / name).rglob("*.py"))]
    for path in [*modules, ROOT / "train.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_every_message_that_is_quoted_is_one_of_the_code() -> None:
    quoted = re.findall(r"^\| `([^`]+)` \|", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(quoted) > 30
    said = "\n".join(text.replace("\n", " ") for text in texts())
    missing = []
    for message in quoted:
        parts = re.compile(".*".join(map(re.escape, re.split(r"\s*…\s*", message))))
        if max(map(len, message.split("…"))) < 10 or not parts.search(said):
            missing.append(message)
    assert missing == []


def test_every_guarantee_names_a_test_that_is_there() -> None:
    rows = re.findall(
        r"^\| (.+) \| `(tests/[\w/]+\.py)::(\w+)` \|$", (DOCS / "guarantees.md").read_text(), re.MULTILINE
    )
    lines = [line for line in (DOCS / "guarantees.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) > 20
    assert len(rows) == sum("shown by" not in line for line in lines)
    missing = [f"{path}::{name}" for _, path, name in rows if f"def {name}(" not in (ROOT / path).read_text()]
    assert missing == []


def test_every_record_that_a_page_names_is_there() -> None:
    records = {path.stem for path in (ROOT / "benchmarks" / "results").glob("*.json")}
    for name in ("settings.md", "limits.md"):
        named = re.findall(r"\(?record `(\w+)`", (DOCS / name).read_text())
        assert named
        assert set(named) <= records

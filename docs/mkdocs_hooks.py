"""What the site needs beside mkdocs.yml: pages that stand outside docs/, and links as the repository has them.

In the repository a link leads from file to file, README.md at the top and the rest in docs/. The site has docs/ at its
top. So a link's target is looked up in the repository, and becomes the place that this file has on the site. A file
of the repository that is on no page, such as a module, keeps its name there and loses its link; what is not in the
repository stays as it is, for mkdocs to refuse.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
#: Files outside docs/ that are on the site, where they are in the repository.
OUTSIDE = ("*.md", "benchmarks/*.md", "benchmarks/results/*.png")
#: A fenced block or code within a line, which stay; a link or a picture; a picture as HTML.
_PARTS = re.compile(
    r"(?P<code>^(?P<fence>```+).*?^(?P=fence)$|`[^`\n]+`)"
    r"|(?P<open>!?\[(?P<text>[^\[\]]*)\]\()(?P<link>[^()\s]+)\)"
    r"|(?P<tag><img src=\")(?P<source>[^\"]+)",
    re.MULTILINE | re.DOTALL,
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/."""
    for path in sorted(path for pattern in OUTSIDE for path in ROOT.glob(pattern)):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the site needs them."""
    return _PARTS.sub(lambda part: _on_site(part, page.file.src_uri, files), markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Intervals in one piece: 74.9 (72.7 … 77.2)."""
    return re.sub(r"(?<=[\d–]) … (?=[-+\d–])", "\N{NO-BREAK SPACE}…\N{NO-BREAK SPACE}", html)


def _on_site(part: re.Match[str], here: str, files: Files) -> str:
    """A part of a page's text, with the place on the site of what it links to."""
    link = part["link"] or part["source"]
    if link is None or re.match(r"#|\w+:", link):
        return part[0]
    inside = files.get_file_from_path(here)
    in_docs = inside is None or inside.generated_by is None
    path, sharp, anchor = link.partition("#")
    target = posixpath.normpath(posixpath.join("docs" if in_docs else "", posixpath.dirname(here), path))
    uri = target.removeprefix("docs/")
    if files.get_file_from_path(uri) is not None:
        there = posixpath.relpath(uri, posixpath.dirname(here) or ".") + sharp + anchor
        return f"{part['open']}{there})" if part["link"] else f"{part['tag']}{there}"
    return part["text"] if part["text"] and (ROOT / target).exists() else part[0]

"""A page that needs no server and no network: its frame, its folder, and how what it shows gets there.

DIR/
    index.html              the page, with everything but the media
    media/                  pictures and sounds, where there are some

Names come from files and may hold anything. They reach the page as one block of JSON in which every ``<`` is escaped,
and the page shows them as text only; its security policy allows no script but its own. ``film.js`` and ``page.css`` are
what pages have in common: moving pictures with sound, and the look.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from loaders.errors import InputError

INDEX = "index.html"
MEDIA = "media"

_COMMON = Path(__file__).parent
_HEAD = 1000  # bytes in which a page says what made it


def generator(what: str) -> str:
    """By which a page of ours is known: of a gallery, or a run."""
    return f'<meta name="generator" content="filmstrip {what}">'


def render(template: Path, what: str, title: str, page: Mapping[str, Any]) -> bytes:
    """index.html with the page's data in it.

    Args:
        template: an .html with ``{{places}}``, and beside it its own .css and .js.
        what: makes it, see `generator`.
        title: for ``{{title}}``.
        page: what the script finds as its data: ``format`` and ``labels`` of the clips, if there are any, and more.
    """
    style, script = (
        (_COMMON / common).read_text(encoding="utf-8") + template.with_suffix(suffix).read_text(encoding="utf-8")
        for common, suffix in (("page.css", ".css"), ("film.js", ".js"))
    )
    parts = {
        "generator": generator(what),
        "policy": f"default-src 'none'; img-src 'self' file:; media-src 'self' file:; base-uri 'none'; "
        f"form-action 'none'; style-src {_hash(style)}; script-src {_hash(script)}",
        "title": html.escape(title),
        "style": style,
        "data": json.dumps(page, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        "script": script,
    }
    # In one pass: what is filled in is never itself looked through for places to fill.
    text = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template.read_text(encoding="utf-8"))
    return text.encode("utf-8", "xmlcharrefreplace")  # half a surrogate pair can stand in JSON, not in UTF-8


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@contextmanager
def whole_folder(output: Path, what: str, is_media: Callable[[str], object]) -> Iterator[Path]:
    """A folder to fill that takes its name, and the place of an older page of its kind, when all is in it.

    Args:
        output: a folder that is not there, is empty, or holds such a page.
        what: makes it, see `generator`.
        is_media: whether a name in its folder of media is one that we write.

    Raises:
        InputError: anything else is there, or it cannot be written.
    """
    output = output.resolve()
    if output.exists():
        _holds_page(output, what, is_media)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        # A folder of a name that nobody else has: what is removed in the end is this page's alone.
        with TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as beside:
            unfinished, replaced = Path(beside, "unfinished"), Path(beside, "replaced")
            unfinished.mkdir()
            yield unfinished
            # Looked at again: making the new one took a while.
            if output.exists() and _holds_page(output, what, is_media):
                output.replace(replaced)
            try:
                unfinished.replace(output)
            except OSError:
                if replaced.exists():
                    replaced.replace(output)
                raise
    except OSError as error:
        raise InputError(
            f"{error.filename or output}: {error.strerror}: mend that, or give another --output"
        ) from error


def _holds_page(output: Path, what: str, is_media: Callable[[str], object]) -> bool:
    """Whether a page is there; False for an empty folder.

    Raises:
        InputError: anything else is there, a page with other files too.
    """
    foreign = InputError(f"{output}: holds other files: give an --output that is empty, a {what}'s, or not there")
    if not output.is_dir():
        raise InputError(f"{output}: not a folder: give another --output")
    names = {path.name for path in output.iterdir()}
    if not names:
        return False
    index, media = output / INDEX, output / MEDIA
    if not {INDEX} <= names <= {INDEX, MEDIA} or not index.is_file():
        raise foreign
    with index.open("rb") as file:
        ours = generator(what).encode() in file.read(_HEAD)
    if not ours:
        raise foreign
    if MEDIA not in names:
        return True
    if media.is_symlink() or not media.is_dir() or not all(is_media(path.name) for path in media.iterdir()):
        raise foreign
    return True

"""Texts of others in Markdown: names appear as they are, whatever is in them.

What CommonMark and GitHub's tables, strikethrough, links and formulas would take for markup is escaped where it could
be markup, and nothing else: most names stay as they are.
https://spec.commonmark.org/0.31.2/#backslash-escapes, https://github.github.com/gfm/
"""

import re

_ALWAYS = r"[\\`*\[\]~$]"
_AT_EDGES = r"(?<![^\W_])_|_(?![^\W_])"  # within a word an underscore is one
_ENTITIES = {"<": "&lt;", ">": "&gt;"}
_REFERENCE = r"&(?=#?\w+;)"
_ADDRESS = r"(?<=:)/(?=/)|(?<=\bwww)\.|@"  # where a viewer would make a link of what stands there
_BLOCK = r"^(?:[#+-]|\d+(?=[.)]))|#+$"  # a heading, a list; and what a heading's end would lose


def inline(text: object) -> str:
    """A text as a part of a line: of a paragraph, of a table's cell (where `|` is the table's to escape)."""
    line = re.sub(r"\s+", " ", str(text)).strip()
    line = re.sub(_REFERENCE, "&amp;", line)
    line = re.sub(rf"{_ALWAYS}|{_AT_EDGES}", lambda match: f"\\{match[0]}", line)
    line = re.sub(_ADDRESS, lambda match: f"&#{ord(match[0])};", line)
    return re.sub(r"[<>]", lambda match: _ENTITIES[match[0]], line)


def block(text: object) -> str:
    """A text as a line of its own, after a heading's `#` or as a paragraph."""

    def escaped(match: "re.Match[str]") -> str:
        return f"{match[0]}\\" if match[0].isdecimal() else f"\\{match[0]}"

    return re.sub(_BLOCK, escaped, inline(text))

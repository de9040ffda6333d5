"""What only its owner can say of a dataset, whoever built it: under which licence it is, and how it is cited."""

import re
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """For README.md and croissant.json of the dataset. What is not given is not claimed there."""

    title: str | None = None
    """What people call the dataset."""
    description: str | None = None
    """What it is, in a sentence or more; its README.md may have it as Markdown."""
    license: str | None = None
    """Its licence: an SPDX identifier such as CC-BY-4.0, or the URL of its text."""
    citation: str | None = None
    """How it is cited, a text or a BibTeX entry."""
    url: str | None = None
    """Where it, or what it was built from, is described: an http or https address."""

    def problem(self) -> str | None:
        """What is no statement of its kind, as an option and why; None where all is well."""
        for field in fields(self):
            text = getattr(self, field.name)
            if text is not None and not text.strip():
                return f"--{field.name} is empty"
            if text is not None and not _is_unicode(text):
                return f"--{field.name} is {text!r}, which is no UTF-8"
        if self.title is not None and len(self.title.splitlines()) > 1:
            return f"--title is {self.title!r}, of more than one line"
        if self.url is not None and not is_url(self.url):
            return f"--url is {self.url!r}, which is no http or https address"
        if self.license is not None and not is_url(self.license) and re.search(r"\s", self.license):
            return f"--license is {self.license!r}, which is neither an identifier nor an address"
        return None

    def replaced_by(self, other: "About") -> "About":
        """This, with what the other states in its place."""
        return About(**{f.name: getattr(other, f.name) or getattr(self, f.name) for f in fields(self)})


def _is_unicode(text: str) -> bool:
    """Whether a text can be written: what a command line holds beside UTF-8, Python tells in lone surrogates."""
    return re.search("[\ud800-\udfff]", text) is None


def is_url(text: str) -> bool:
    """Whether a text is an http or https address."""
    return re.fullmatch(r"https?://[^\s/]\S*", text) is not None

"""What describes a dataset that may be faulty: one that is verified, extended, or whose build goes on.

Of one in a store dataset.json and the tables are copied as they are, damaged ones too; whoever only uses a dataset
opens it (`loaders.dataset.dataset`), which refuses what is not whole.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from loaders.dataset.manifest import MANIFEST, Manifest, read_manifest, staged
from loaders.errors import InputError
from loaders.storage.atomic import sha256_of
from sharding.sources.store import Store

_EXCHANGES = 8  # of dataset.json while it is copied: one that changes more often is not extended but unstable


@dataclass(frozen=True, slots=True)
class Description:
    """What a dataset says of itself, parsed once."""

    folder: Path  #: with dataset.json, the tables and the documents
    said: Manifest | InputError  #: what is wrong with dataset.json, where that cannot be read
    staged: frozenset[str] = frozenset()  #: what of these a store has under its `manifest.staged` name alone

    @property
    def manifest(self) -> Manifest:
        """What dataset.json says. Raises InputError where it cannot be read."""
        if isinstance(self.said, InputError):
            raise self.said
        return self.said


def read_description(folder: Path) -> Description:
    """What the dataset in a folder says of itself, if it can be read."""
    try:
        return Description(folder, read_manifest(folder))
    except InputError as error:
        return Description(folder, error)


@contextmanager
def copied_description(store: Store) -> Iterator[Description]:
    """The description as the store has it, whole or not, in a temporary folder that goes again.

    Within the block an InputError that names a file of the folder names it as the store's.

    Raises:
        InputError: no dataset is there, or the store fails.
    """
    with tempfile.TemporaryDirectory(prefix="filmstrip-") as name:
        folder = Path(name)
        description = copy_description(store, folder)
        with named_as(store.url, folder):
            yield description


@contextmanager
def named_as(url: str, folder: Path) -> Iterator[None]:
    """Have an InputError that names a file of the folder, which is the copy of a store's, name that."""
    try:
        yield
    except InputError as error:
        raise error.renamed(str(folder), url) from error


def copy_description(store: Store, folder: Path) -> Description:
    """Copy a description as the store has it, whole or not.

    Tables and documents are there where dataset.json can be read and the store has them; they are those that
    dataset.json declares, also in the middle of an extension, wherever the store has these.

    Where any are staged, an extension was broken off, or is at its end.

    Raises:
        InputError: no dataset is there, it is exchanged for another time and again, or the store fails.
    """
    for _ in range(_EXCHANGES):
        text = store.get(MANIFEST)
        if text is None:
            raise InputError(
                f"{store.url}: no dataset there ({MANIFEST} is missing): build it, or let its build finish"
            )
        (folder / MANIFEST).write_bytes(text)
        description = read_description(folder)
        if isinstance(description.said, InputError):
            return description
        files = description.said.beside
        places = {name: _copy_file(store, folder, name, sha256) for name, sha256 in files.items()}
        if None not in places.values() or store.get(MANIFEST) == text:
            aside = frozenset(name for name, place in places.items() if place not in (None, name))
            return replace(description, staged=aside)
    problem = f"changed {_EXCHANGES} times while it was read"
    raise InputError(f"{store.url}/{MANIFEST}", problem, "see who writes there", try_again=True)


def _copy_file(store: Store, folder: Path, name: str, sha256: str) -> str | None:
    """Copy a table or document; the name under which the store has it as it should be, None where it has not."""
    for place in (name, staged(sha256)):
        copy = folder / name if place == name else folder / f"{name}.staged"
        if store.fetch(place, copy) and sha256_of(copy) == sha256:
            copy.replace(folder / name)
            return place
        if place != name:
            copy.unlink(missing_ok=True)
    return None

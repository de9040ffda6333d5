"""What describes a remote dataset, copied to this machine: dataset.json and the tables, no shards."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loaders.dataset.manifest import MANIFEST, read_manifest, staged
from loaders.errors import InputError
from loaders.storage.atomic import sha256_of
from sharding.sources.store import Store

_EXCHANGES = 8  # of dataset.json while it is copied: one that changes more often is not extended but unstable


@contextmanager
def copied_description(store: Store) -> Iterator[Path]:
    """A temporary folder with the description as the store has it, whole or not; it goes again.

    Within the block an InputError that names a file of the folder names it as the store's.

    Raises:
        InputError: no dataset is there, or the store fails.
    """
    with tempfile.TemporaryDirectory(prefix="filmstrip-") as name:
        folder = Path(name)
        copy_description(store, folder)
        with named_as(store, folder):
            yield folder


@contextmanager
def named_as(store: Store, folder: Path) -> Iterator[None]:
    """Have an InputError that names a file of the folder, which is the copy of a store's, name that."""
    try:
        yield
    except InputError as error:
        raise error.renamed(str(folder), store.url) from error


def copy_description(store: Store, folder: Path) -> frozenset[str]:
    """Copy a description as the store has it, whole or not.

    Tables are there where dataset.json can be read and the store has them; they are those that dataset.json declares,
    also in the middle of an extension, wherever the store has these.

    Returns:
        The tables that the store has under their `staged` name alone: an extension was broken off, or is at its end.

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
        try:
            tables = read_manifest(folder).tables
        except InputError:
            return frozenset()  # whoever uses the folder reads it too, and says so
        places = {table: _copy_table(store, folder, table, sha256) for table, sha256 in tables.items()}
        if None not in places.values() or store.get(MANIFEST) == text:
            return frozenset(table for table, place in places.items() if place not in (None, table))
    raise InputError(
        f"{store.url}/{MANIFEST}: changed {_EXCHANGES} times while it was read: see who writes there", try_again=True
    )


def _copy_table(store: Store, folder: Path, table: str, sha256: str) -> str | None:
    """Copy a table; the name under which the store has it as it should be, None where it has not."""
    for place in (table, staged(sha256)):
        copy = folder / table if place == table else folder / f"{table}.staged"
        if store.fetch(place, copy) and sha256_of(copy) == sha256:
            copy.replace(folder / table)
            return place
        if place != table:
            copy.unlink(missing_ok=True)
    return None

"""What describes a remote dataset, copied to this machine: dataset.json and the tables, no shards."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loaders.dataset import CATALOG, MANIFEST, REJECTED, read_manifest
from loaders.errors import InputError
from sharding.store import Store


@contextmanager
def copied_description(store: Store) -> Iterator[Path]:
    """A temporary folder with the description as the store has it, whole or not; it goes again.

    Tables are there where dataset.json can be read and the store has them.

    Raises:
        InputError: no dataset is there, or the store fails.
    """
    text = store.get(MANIFEST)
    if text is None:
        raise InputError(f"{store.url}: no dataset there ({MANIFEST} is missing): build it, or let its build finish")
    with tempfile.TemporaryDirectory(prefix="filmstrip-") as name:
        folder = Path(name)
        (folder / MANIFEST).write_bytes(text)
        try:
            splits = list(read_manifest(folder).splits)
        except InputError:
            splits = []  # whoever uses the folder reads it too, and says so
        for split in splits:
            (folder / split).mkdir()
        for table in (*(f"{split}/{CATALOG}" for split in splits), *([REJECTED] if splits else [])):
            store.fetch(table, folder / table)
        yield folder

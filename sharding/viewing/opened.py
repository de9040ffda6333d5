"""A dataset, opened to be looked at: of one in a store the description is copied, and goes again."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loaders.dataset.dataset import Dataset
from loaders.storage.urls import url_of
from sharding.packing.description import named_as

_ATTEMPTS = 4  # of a request: a wrong address should not take a minute to be told


@contextmanager
def opened(place: Path) -> Iterator[Dataset]:
    """A dataset with its catalogs.

    Within the block an InputError that names a file of the copy names it as the store's.

    Args:
        place: its folder, or its URL as a path.

    Raises:
        InputError: no dataset is there, or the store fails.
    """
    if url_of(place) is None:
        yield Dataset.open(place)
        return
    with tempfile.TemporaryDirectory(prefix="filmstrip-") as name:
        dataset = Dataset.open(place, cache=name, splits=None, attempts=_ATTEMPTS)
        with named_as(dataset.name, dataset.folder):
            yield dataset

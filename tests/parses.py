"""How often dataset.json is parsed and checked, which takes seconds where it names many shards."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from loaders.dataset import manifest


@contextmanager
def counted_parses() -> Iterator[list[Any]]:
    """Within it the list gets an entry for each dataset.json that is parsed in this process."""
    parses: list[Any] = []
    parse = manifest._parse

    def counting(kind: Any, value: Any, where: str) -> Any:
        if kind is manifest.Manifest:
            parses.append(value)
        return parse(kind, value, where)

    with mock.patch.object(manifest, "_parse", counting):
        yield parses

"""The splits of a dataset: whether its folder can have them beside its files."""

import unicodedata
from collections.abc import Iterable

from loaders.dataset.manifest import MANIFEST, REJECTED
from loaders.errors import InputError
from sharding.cards.card import CARD
from sharding.cards.croissant import CROISSANT

_FILES = frozenset(name.casefold() for name in (MANIFEST, REJECTED, CARD, CROISSANT))
_LONGEST = 200  # bytes: a file's name has 255 at most, and temporary ones are longer than what they become


def require_possible_splits(splits: Iterable[str], corpus: str) -> None:
    """Raise InputError where no dataset can have splits of these names, of a corpus of that name."""
    folders: dict[str, str] = {}
    for split in sorted(set(splits)):
        # Some file systems do not tell capitals from small letters, or é in one code point from é in two.
        other = folders.setdefault(unicodedata.normalize("NFC", split.casefold()), split)
        if other != split:
            look_alike = unicodedata.normalize("NFC", other) == unicodedata.normalize("NFC", split)
            both = " and ".join(map(ascii if look_alike else repr, (other, split)))
            raise InputError(f"{corpus}: splits are called {both}, which may be one folder: call them otherwise")
        if split.casefold() in _FILES:
            raise InputError(f"{corpus}: a split is called {split!r}, as a file of the dataset is: call it otherwise")
        if len(split.encode()) > _LONGEST:
            raise InputError(f"{corpus}: a split is called {split[:20]}…, in more than {_LONGEST} bytes: shorten it")

"""The documents of a dataset: files in its folder that follow from its dataset.json, and are declared there."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from loaders.dataset.manifest import Manifest
from loaders.errors import InputError
from loaders.storage.atomic import sha256_of, write_atomically
from sharding.cards.card import CARD, card
from sharding.cards.croissant import CROISSANT, croissant
from sharding.cards.told import MADE_BY

DOCUMENTS: Mapping[str, Callable[[Manifest], str]] = {CARD: card, CROISSANT: croissant}
"""By name: a document's text, of everything in dataset.json but ``documents``."""

_OURS = {CARD: f"---\n# made by {MADE_BY}\n", CROISSANT: f'"{MADE_BY}"'}  #: what is in them whoever built them


def write_documents(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Write a dataset's documents, each whole or not at all.

    Args:
        folder: the dataset's.
        manifest: what is told.

    Returns:
        `Manifest.documents`.

    Raises:
        InputError: a file of such a name is there that no build has made, or that was changed since.
    """
    texts = {name: text(manifest).encode() for name, text in DOCUMENTS.items()}
    for name, text in texts.items():
        path = folder / name
        declared = manifest.documents.get(name)
        if declared is None and path.exists() and not is_ours(path):
            raise InputError(f"{path}: no build has made it, and the dataset's own would replace it: move it elsewhere")
        known = (declared, hashlib.sha256(text).hexdigest())  # the latter is there where this was killed before
        if declared is not None and path.exists() and sha256_of(path) not in known:
            what = "was changed since it was written, and would be written again"
            raise InputError(path, what, "move it elsewhere, or let sharding/verify.py --repair do so")
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}


def is_ours(path: Path) -> bool:
    """Whether a file is a document that a build has made."""
    try:
        return path.name in _OURS and path.is_file() and _OURS[path.name] in path.read_text()
    except (OSError, UnicodeDecodeError):
        return False

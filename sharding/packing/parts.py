"""Which parts of films a corpus says that its utterances are.

A table's row may get another start or end, and keep its names and labels. Whoever builds again is told so by a digest
of all parts, without that a film is opened.
"""

import hashlib
import json

from sharding.utterance import Corpus


def parts_sha256(corpus: Corpus) -> str | None:
    """SHA-256 of all utterances that are parts of films, in whatever order; None where all are whole.

    Where the files lie does not count, and the dataset is the same wherever they are read from.
    """
    parts = sorted(
        (utterance.split, *utterance.name, repr(utterance.start), repr(utterance.end))
        for utterance in corpus.utterances
        if not utterance.is_whole
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest() if parts else None

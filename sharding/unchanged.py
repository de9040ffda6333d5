"""A source must be, while it is read, what it was when the build was planned."""

from sharding.corpora.fingerprint import fingerprint
from sharding.corpora.utterance import Utterance, readable
from sharding.read_errors import SourceError
from sharding.sources import files_of, is_gone

_AGAIN = "and run the build again, it goes on from here"


def require_unchanged(utterance: Utterance) -> None:
    """Raise SourceError where an utterance's files are not those whose fingerprint it holds; the message names one."""
    if utterance.source_xxh3 != fingerprint(utterance):
        raise change_of(utterance)


def change_of(utterance: Utterance) -> SourceError:
    """What to raise where an utterance's files have become others, or none."""
    for path in files_of(utterance):
        if is_gone(path):
            return SourceError(f"{readable(path)}: is gone since the build began: put it back, or go without, {_AGAIN}")
    path = utterance.video_path
    return SourceError(
        f"{readable(path)}: it, its sound, gaze or boxes changed while the dataset was built, or may not be read any "
        f"more: see to it {_AGAIN}"
    )

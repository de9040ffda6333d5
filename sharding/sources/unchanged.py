"""A source must be, while it is read, what it was when the build was planned."""

from sharding.sources.copies import files_of, is_gone
from sharding.sources.fingerprint import fingerprint
from sharding.sources.read_errors import SourceError
from sharding.utterance import Utterance, readable

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
        f"{readable(path)}: it, its sound, gaze, boxes or arrays changed while the dataset was built, or may not be "
        f"read any more: see to it {_AGAIN}",
        try_again=True,
    )

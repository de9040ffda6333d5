"""Whether a folder of OpenFace's tables is that of a corpus."""

from collections.abc import Sequence
from pathlib import Path

from loaders.errors import InputError
from sharding.utterance import Utterance, readable


def count_tables(
    utterances: Sequence[Utterance], openface: Path, looked_for: Sequence[str], left_out: Sequence[str] = ()
) -> str:
    """How many utterances have a table, in a line for a person.

    Args:
        utterances: of the corpus, ``gaze_path`` set where there is a table.
        openface: the folder of the tables.
        looked_for: how the tables of an utterance may be named, below the folder.
        left_out: what is there and is not used, a line each.

    Raises:
        InputError: none has one: the folder is another corpus', or its files are named in another way.
    """
    tables = sum(utterance.gaze_path is not None for utterance in utterances)
    if utterances and not tables:
        raise InputError(
            f"--openface {readable(openface)}: none of {len(utterances)} utterances has a table there: looked for "
            f"{' or '.join(looked_for)}; {''.join(f'{line}; ' for line in left_out)}give the folder that holds them, "
            "or build without --openface"
        )
    return f"{tables} of {len(utterances)} utterances have an OpenFace table"

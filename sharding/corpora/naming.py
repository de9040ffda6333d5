"""Are two speakers' videos of one name one video, as of a YouTube id, or two, as of ``actor_1/interview``?"""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from sharding.utterance import Apart, Utterance, VideoNames

Naming = Literal["auto", "corpus", "speaker"]

_YOUTUBE = re.compile(r"[A-Za-z0-9_-]{11}")


def settle_names(
    utterances: Sequence[Utterance], naming: Naming, split_by: Apart = "speaker"
) -> tuple[VideoNames, list[str]]:
    """Within what the names of these videos are unique.

    Args:
        utterances: of a tree of <speaker>/<video>/<utterance>.
        naming: "auto" goes by the names: where all of them might be YouTube ids, or a file holds utterances of two
            speakers, a name is one video in the whole corpus; otherwise each speaker has videos of their own.
        split_by: whose id's hash decides on the split. By "video" it is the name's, whoever speaks: so it stays where
            it is when another speaker comes to have a video of that name.

    Returns:
        What holds, and what a person should know: a line where it makes a difference.
    """
    speakers: dict[str, set[str]] = defaultdict(set)
    for utterance in utterances:
        speakers[utterance.video].add(utterance.speaker)
    shared = sorted(name for name, of in speakers.items() if len(of) > 1)
    if naming == "auto":
        one = all(map(_YOUTUBE.fullmatch, speakers)) or _share_files(utterances)
        settled: VideoNames = "corpus" if one else "speaker"
    else:
        settled = naming
    if not shared:
        return settled, []
    several = "name of videos is" if len(shared) == 1 else "names of videos are"
    taken = {
        "corpus": "each is taken for one video (--video-names speaker: for one of each speaker)",
        "speaker": "each is taken for one of each speaker (--video-names corpus: for one video)",
    }
    note = f"{len(shared)} {several} in use by several speakers, the first {shared[0]}: {taken[settled]}"
    if (settled, split_by) == ("speaker", "video"):
        note += "; all of a name are on one side of the split, by its hash"
    return settled, [note]


def _share_files(utterances: Sequence[Utterance]) -> bool:
    of: dict[str, str] = {}
    return any(of.setdefault(str(u.video_path), u.speaker) != u.speaker for u in utterances)

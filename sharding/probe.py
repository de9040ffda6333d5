"""How long an utterance is, as its file says: enough to plan by, from the header alone where that is plausible."""

from pathlib import Path
from typing import BinaryIO

import av

from loaders.filesystem import url_of
from sharding.corpora.boxes import BoxesError, read_boxes
from sharding.corpora.utterance import Utterance
from sharding.media import lasting_seconds
from sharding.sources import looked_into

_PLAUSIBLE = 600.0  # seconds: what states more is looked at, because clocks jump, or do not start at 0


def probe_seconds(utterance: Utterance) -> float:
    """Seconds that its boxes or its container state; 0 where they state none, which the build will report.

    A container that states more than ten minutes is read, up to there at most; see `lasting_seconds`.
    """
    if utterance.boxes is not None:
        try:
            boxes = read_boxes(utterance.boxes.path)
        except BoxesError:
            return 0.0
        return boxes.stop - boxes.start
    if url_of(utterance.video_path) is not None:
        return looked_into(utterance.video_path, _stated) or 0.0
    try:
        return _stated(utterance.video_path)
    except OSError:
        return 0.0


def _stated(film: Path | BinaryIO) -> float:
    try:
        with av.open(film, "r") as container:
            return lasting_seconds(container, _PLAUSIBLE)
    except av.FFmpegError:
        return 0.0

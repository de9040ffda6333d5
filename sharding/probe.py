"""How long an utterance is, as its file says: enough to plan by, from the header alone."""

from pathlib import Path
from typing import BinaryIO

import av

from loaders.filesystem import url_of
from sharding.corpora.boxes import BoxesError, read_boxes
from sharding.corpora.utterance import Utterance
from sharding.regular import require_regular
from sharding.sources import looked_into


def probe_seconds(utterance: Utterance) -> float:
    """Seconds that its boxes or its container state; 0 where they state none, which the build will report."""
    if utterance.boxes is not None:
        try:
            boxes = read_boxes(utterance.boxes.path)
        except BoxesError:
            return 0.0
        return boxes.stop - boxes.start
    if url_of(utterance.video_path) is not None:
        return looked_into(utterance.video_path, _stated) or 0.0
    try:
        require_regular(utterance.video_path)
        return _stated(utterance.video_path)
    except OSError:
        return 0.0


def _stated(film: Path | BinaryIO) -> float:
    try:
        with av.open(film, "r") as container:
            return container.duration / av.time_base if container.duration else 0.0
    except av.FFmpegError:
        return 0.0

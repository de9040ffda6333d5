"""How long an utterance is, as its file says: enough to plan by, from the header alone."""

from typing import BinaryIO

import av

from loaders.filesystem import url_of
from sharding.corpora.boxes import BoxesError, read_boxes
from sharding.corpora.utterance import Utterance
from sharding.read_errors import failures_named
from sharding.regular import require_regular
from sharding.sources import looked_into
from sharding.watched_file import WatchedFile


def probe_seconds(utterance: Utterance) -> float:
    """Seconds that its boxes or its container state; 0 where they state none, which the build will report.

    Raises:
        SourceError: a file system fails.
        InputError: a store does.
    """
    if utterance.boxes is not None:
        try:
            boxes = read_boxes(utterance.boxes.path)
        except BoxesError:
            return 0.0
        return boxes.stop - boxes.start
    if url_of(utterance.video_path) is not None:
        return looked_into(utterance.video_path, _stated) or 0.0
    path = utterance.video_path
    try:
        with failures_named(path):
            require_regular(path)
            with WatchedFile(path) as film:
                return _stated(film)
    except OSError:
        return 0.0


def _stated(film: WatchedFile | BinaryIO) -> float:
    try:
        with av.open(film, "r") as container:
            return container.duration / av.time_base if container.duration else 0.0
    except av.FFmpegError:
        return 0.0

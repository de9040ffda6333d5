"""How long an utterance is, as its file says: enough to plan by, from the header alone where that is plausible."""

from typing import BinaryIO

import av

from loaders.storage.urls import url_of
from sharding.corpora.boxes import BoxesError, read_boxes
from sharding.media.reader import ANY_TITLES, lasting_seconds
from sharding.sources.copies import looked_into
from sharding.sources.read_errors import failures_named
from sharding.sources.regular import require_regular
from sharding.sources.watched_file import WatchedFile
from sharding.utterance import Utterance

_PLAUSIBLE = 600.0  # seconds: what states more is looked at, because clocks jump, or do not start at 0


def probe_seconds(utterance: Utterance) -> float:
    """Seconds that its boxes, its corpus or its container state; 0 where they state none, which the build will report.

    A container that states more than ten minutes is read, up to there at most; see `lasting_seconds`.

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
    if utterance.end is not None:
        return utterance.end - (utterance.start or 0.0)
    return max(0.0, _whole_seconds(utterance) - (utterance.start or 0.0))


def _whole_seconds(utterance: Utterance) -> float:
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
        with av.open(film, "r", **ANY_TITLES) as container:
            return lasting_seconds(container, _PLAUSIBLE)
    except av.FFmpegError:
        return 0.0

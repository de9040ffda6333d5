"""How long an utterance is, as its file says: enough to plan by, from the header alone."""

import av

from sharding.corpora.boxes import BoxesError, read_boxes
from sharding.corpora.utterance import Utterance


def probe_seconds(utterance: Utterance) -> float:
    """Seconds that its boxes or its container state; 0 where they state none, which the build will report."""
    if utterance.boxes is not None:
        try:
            boxes = read_boxes(utterance.boxes.path)
        except BoxesError:
            return 0.0
        return boxes.stop - boxes.start
    try:
        with av.open(utterance.video_path) as container:
            return container.duration / av.time_base if container.duration else 0.0
    except (OSError, av.FFmpegError):
        return 0.0

"""How long a file says that it lasts: enough to plan by, from its header alone."""

from pathlib import Path

import av


def probe_seconds(path: Path) -> float:
    """Seconds that the container states; 0 where it states none or cannot be opened, which the build will report."""
    try:
        with av.open(path) as container:
            return container.duration / av.time_base if container.duration else 0.0
    except (OSError, av.FFmpegError):
        return 0.0

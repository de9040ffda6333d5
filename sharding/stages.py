"""Where a build's time goes: seconds by stage, summed over its shards."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

Stage = Literal["fetch", "decode", "detect", "gaze", "members", "encode", "write", "upload"]
STAGES: tuple[Stage, ...] = get_args(Stage)


class Stopwatch:
    """Adds up how long each stage takes, by the wall's clock; a process works at one stage at a time."""

    def __init__(self) -> None:
        self.seconds: defaultdict[Stage, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Count the time within as that stage's, also where it ends in an exception."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - began

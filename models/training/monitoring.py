"""Figures of a training, or of an evaluation, for who watches it from elsewhere: ``--metrics FILE``.

Of several processes each has a file of its own, and its rank as a label. What the device computes is taken from the
lines of the curves, so that nobody waits for it on account of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator

from loaders import ClipLoader
from loaders.exposition import PREFIX, Kind, Metric, loader_metrics
from loaders.metrics_file import MetricsFile, of_rank, require_metrics_file
from loaders.stats import LoaderStats
from models.training.checkpoint import together

_TRAINING = f"{PREFIX}training_"


class Monitor:
    """What there is to tell of a process; one thread moves it, another may read it."""

    def __init__(self, stage: str, rank: int = 0) -> None:
        self._labels = {"stage": stage, "rank": str(rank)}
        self._loaders: dict[str, ClipLoader] = {}
        self._ended: dict[str, tuple[Mapping[str, str], LoaderStats]] = {}
        self._step, self._steps, self._epoch = 0, 0, 0
        self._line: Mapping[str, float] = {}  # of the curves, the last one
        self._rate = 0.0
        self._scores: Mapping[str, float] = {}  # of the last validation

    @contextmanager
    def watching(self, what: str, loader: ClipLoader | None) -> Iterator[None]:
        """Within it, the loader's figures are told under that name; afterwards, those that it ended with."""
        if loader is None:
            yield
            return
        self._loaders[what] = loader
        try:
            yield
        finally:
            self._ended[what] = self._of(what, loader), loader.stats()
            del self._loaders[what]

    def begin(self, step: int) -> None:
        """So many steps are behind the run."""
        self._step = step

    def step(self, step: int, epoch: int) -> None:
        """A step more is made."""
        self._step, self._epoch = step, epoch
        self._steps += 1

    def line(self, line: Mapping[str, float], rate: float) -> None:
        """A line of the curves, over all ranks, and the learning rate."""
        self._line, self._rate = dict(line), rate

    def validated(self, scores: Mapping[str, float]) -> None:
        """What a validation scored, by the names of its line."""
        self._scores = {name.removeprefix("validation "): score for name, score in scores.items()}

    def metrics(self) -> list[Metric]:
        """As they stand now."""
        found: list[Metric] = []

        def add(name: str, kind: Kind, says: str, value: float, **more: str) -> None:
            labels = {**self._labels, **more}
            found.append(Metric(name=f"{_TRAINING}{name}", kind=kind, says=says, value=value, labels=labels))

        if self._labels["stage"] != "evaluate":
            add("step", "gauge", "Steps behind the run, those of before it was resumed too.", self._step)
            add("steps_total", "counter", "Steps that this process has made.", self._steps)
            add("epoch", "gauge", "Epoch of the last step, from 0.", self._epoch)
        if self._line:
            add("learning_rate", "gauge", "Adam's, at the last line of the curves.", self._rate)
        for name, value in self._line.items():
            if name == "loss":
                add("loss", "gauge", "Mean over the steps of the last line of the curves, and all ranks.", value)
            else:
                add("part", "gauge", "A part of the loss, or what is counted beside it, likewise.", value, part=name)
        for name, value in self._scores.items():
            add("validation_score", "gauge", "Of the last validation.", value, score=name)
        watched = {what: (self._of(what, loader), loader.stats()) for what, loader in list(self._loaders.items())}
        for labels, stats in {**self._ended, **watched}.values():
            found += loader_metrics(stats, labels)
        return found

    def _of(self, what: str, loader: ClipLoader) -> Mapping[str, str]:
        return {**self._labels, "loader": what, "split": loader.catalogs[0].split}


@contextmanager
def monitored(path: Path | None, stage: str, accelerator: Accelerator) -> Iterator[Monitor]:
    """A monitor whose figures a file has, within it; None: no file.

    Raises:
        InputError: there can be no such file.
    """
    monitor = Monitor(stage, accelerator.process_index)
    if path is None:
        yield monitor
        return
    own = of_rank(path, accelerator.process_index, accelerator.num_processes)
    together(accelerator, path.parent, lambda: require_metrics_file(own))
    with MetricsFile(own, monitor.metrics):
        yield monitor

"""What a build counts while it is at work, for `loaders.exposition`."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from loaders.exposition import PREFIX, Kind, Metric
from sharding.packing.plan import ShardJob
from sharding.packing.shard import ShardResult
from sharding.stages import Stage
from sharding.utterance import Rejection

_BUILD = f"{PREFIX}build_"


@dataclass(slots=True)
class BuildFigures:
    """Of one build, by this process; one thread counts, another may read. What was built before counts as planned."""

    planned_utterances: int = 0
    planned_shards: int = 0
    utterances: Counter[str] = field(default_factory=Counter)  #: taken up, by split
    shards: Counter[str] = field(default_factory=Counter)
    clips: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)  #: of shards
    rejected: Counter[str] = field(default_factory=Counter)  #: utterances, by reason
    left_out: Counter[str] = field(default_factory=Counter)  #: clips, by reason
    seconds: Counter[Stage] = field(default_factory=Counter)  #: of all processes, by stage
    _began: float | None = None  # when shards began to be built
    _took: float = 0.0  # from then to the last shard

    def plan(self, jobs: Sequence[ShardJob], rejected: Iterable[Rejection]) -> None:
        """The shards are known, and what the corpus itself rejects."""
        self.planned_shards = len(jobs)
        self.planned_utterances = sum(len(job.utterances) for job in jobs)
        self.rejected.update(rejection.reason for rejection in rejected)

    def begin(self) -> None:
        """Shards begin to be built."""
        self._began = time.perf_counter()

    def add(self, result: ShardResult) -> None:
        """A shard is there."""
        self.utterances[result.split] += result.utterances
        self.shards[result.split] += 1
        self.clips[result.split] += result.clips
        self.bytes[result.split] += result.bytes
        self.rejected.update(result.reasons)
        self.left_out.update(result.left_out)
        self.seconds.update(result.seconds)
        if self._began is not None:
            self._took = time.perf_counter() - self._began

    @property
    def clips_per_second(self) -> float:
        """Of all processes together, up to the last shard."""
        return sum(self.clips.values()) / self._took if self._took else 0.0

    def metrics(self, labels: Mapping[str, str]) -> list[Metric]:
        """As they stand now; ``labels`` are those of the whole build."""

        def metric(name: str, kind: Kind, says: str, value: float, **more: str) -> Metric:
            return Metric(name=f"{_BUILD}{name}", kind=kind, says=says, value=value, labels={**labels, **more})

        planned = "that this build is to make, those that were there already too."
        found = [
            metric("planned_utterances", "gauge", f"Utterances of the shards {planned}", self.planned_utterances),
            metric("planned_shards", "gauge", f"Shards {planned}", self.planned_shards),
            metric("clips_per_second", "gauge", "Clips built a second by all processes.", self.clips_per_second),
        ]
        for name, says, by, counts in (
            ("utterances_total", "Utterances taken up, kept or rejected.", "split", self.utterances),
            ("shards_total", "Shards built.", "split", self.shards),
            ("clips_total", "Clips built.", "split", self.clips),
            ("bytes_total", "Bytes of shards built.", "split", self.bytes),
            ("rejected_utterances_total", "Utterances rejected.", "reason", self.rejected),
            ("left_out_clips_total", "Clips left out of utterances that are kept.", "reason", self.left_out),
            ("stage_seconds_total", "All processes' time by what it went into.", "stage", self.seconds),
        ):
            found += [metric(name, "counter", says, value, **{by: str(key)}) for key, value in sorted(counts.items())]
        return found

"""What a verification found, and what a repair goes by."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loaders.dataset.manifest import GAZE_STATISTICS, Manifest
from sharding.checks.examine import ShardReport
from sharding.checks.faults import Fault
from sharding.packing.writer import Moments


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a verification found."""

    dataset: Path
    manifest: Manifest | None  #: None where dataset.json itself is faulty
    faults: tuple[Fault, ...]
    more: int  #: faults that are not listed: a file's list ends after the first few
    clips: int
    decoded: int  #: clips of which every member was decoded
    bytes: int  #: of the shards, read
    seconds: float
    catalogs: frozenset[str]  #: splits whose catalog has its SHA-256
    shards: tuple[ShardReport, ...]  #: by split and number
    beside: Mapping[str, tuple[str, ...]]  #: files and folders of other tools that lie there, by tool, see `sidecars`

    @property
    def is_whole(self) -> bool:
        """Nothing was found."""
        return not self.faults


def member_moments(manifest: Manifest, shards: Sequence[ShardReport]) -> dict[str, Moments]:
    """Of all clips of these shards, of the members whose moments dataset.json states, by name."""
    found = {m.name: Moments(math.prod(m.shape)) for m in manifest.members if m.name in manifest.moments}
    for report in shards:
        for name, moments in found.items():
            moments.add_data(report.moments[name])
    return found


def gaze_moments(shards: Sequence[ShardReport]) -> Moments:
    """Of all clips of these shards that have gaze."""
    moments = Moments(GAZE_STATISTICS)
    for report in shards:
        moments.add(report.gaze_count, np.array(report.gaze_mean), np.array(report.gaze_squares))
    return moments

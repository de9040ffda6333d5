"""Which tracker made the gaze that a run looks at. Trackers' numbers are not each other's: a network that has learned
from one knows nothing of another's.

dataset.json says it of a dataset, run.json of a run, as ``gaze_tracker``; runs of before there was a choice had
OpenFace's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loaders.dataset.catalog import Catalog
from loaders.errors import InputError
from models.systems.streams import Needs

GAZE_TRACKER = "gaze_tracker"  #: of run.json; not there where a run has seen no gaze
_BEFORE = "openface"


def tracker_of(catalogs: Sequence[Catalog], needs: Needs, names: str) -> str | None:
    """What made the gaze of these clips; None where the network looks at none, or no clip has any.

    Args:
        catalogs: of a split of each dataset, opened with what the network looks at.
        needs: of the network.
        names: of the datasets.

    Raises:
        InputError: two of the datasets have gaze by different trackers.
    """
    found: dict[str, None] = {}
    for catalog in catalogs:
        streams = [catalog.members[name] for name in needs.of_gaze if name in catalog.members]
        if any((member.size > 0).any() for member in streams):
            found[catalog.manifest.gaze_tracker] = None
    if len(found) > 1:
        raise InputError(
            f"{names}: their gaze is by different trackers, {' and '.join(found)}: build all with the same --gaze, or "
            "train with --no-gaze"
        )
    return next(iter(found), None)


def require_tracker(run: Mapping[str, Any], tracker: str | None, folder: object, names: str) -> None:
    """Raise InputError where a run has learned from another tracker's gaze than that of these datasets.

    Args:
        run: run.json.
        tracker: of the datasets, see `tracker_of`.
        folder: of the run.
        names: of the datasets.
    """
    learned = learned_tracker(run)
    if None not in (learned, tracker) and learned != tracker:
        raise InputError(
            f"{names}: the gaze is by {tracker}, and {folder} was trained with that of {learned}: build the dataset "
            f"with --gaze {learned}, or take a run that was trained with --gaze {tracker}"
        )


def learned_tracker(run: Mapping[str, Any]) -> str | None:
    """What made the gaze that a run has learned from, by its run.json; None: it has seen none."""
    stated = run.get(GAZE_TRACKER)
    if stated is not None:
        return str(stated)
    # A run of this version that says nothing has seen no gaze; one of an older version has no such choice in it.
    return None if GAZE_TRACKER in run or not run.get("gaze") else _BEFORE

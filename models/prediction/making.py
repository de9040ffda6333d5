"""How the clips were made that a run was trained on: clips of other videos are made so, too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from loaders.dataset.dataset import Dataset
from loaders.errors import InputError
from loaders.sampling.frames import evenly_spaced
from models.systems.streams import Needs
from models.training.gaze_tracker import learned_tracker
from models.training.provenance import BUILDS, CONFIG
from sharding.members.declared import members_of
from sharding.settings import BuildSettings, Crop, Tracker

#: auto: MediaPipe's where the run has learned from it; OpenFace's comes in tables, which are to be given.
GazeSource = Literal["auto", "none", "openface", "mediapipe"]

#: What of a build's settings a clip's content depends on.
_OF_CONTENT = (
    *("clip_seconds", "fps", "size", "crop", "quality", "subsampling", "restart_markers", "audio_format"),
    *("min_loudness", "gaze_window", "gaze_fps", "member"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How clips are made for a network."""

    settings: BuildSettings  #: whose clips are as long as what the network was given at a time
    chosen: NDArray[np.int16]  #: which of a clip's frames are decoded
    notes: tuple[str, ...] = ()  #: what a person should know
    gaze_learned: bool = True  #: whether clips that the run was trained on had gaze
    gaze_mend: str = ""  #: how a video of which there is no gaze gets some; empty where nothing brings it


def making_of(
    folder: Path,
    run: Mapping[str, Any],
    needs: Needs,
    frames: int,
    *,
    like: str | None = None,
    crop: Crop | None = None,
    gaze: GazeSource = "auto",
) -> Making:
    """How the clips of a run were made.

    Args:
        folder: of the run, for messages.
        run: its run.json.
        needs: what its network looks at: other arrays are not made.
        frames: that its front end takes.
        like: a dataset whose settings to take instead of those of the run's.
        crop: what to crop instead of what they crop.
        gaze: what tracks it.

    Raises:
        InputError: nothing says it; or clips that are made so are not what the network takes.
    """
    notes: tuple[str, ...] = ()
    if like is not None:
        where, stated = like, Dataset.open(like).manifest.settings
    else:
        where, stated, notes = _of_run(folder, run)
    settings = BuildSettings.stated(stated, where)
    if crop is not None and crop != settings.crop:
        notes = (*notes, f"crop is {crop}, and was {settings.crop} in training")
    window = _window(run)
    if window is not None and window > settings.clip.frames:
        mend = "give --like a dataset of clips with as many"
        raise InputError(
            f"{folder}: trained on windows of {window} frames, and clips have {settings.clip.frames}: {mend}"
        )
    settings = replace(
        settings,
        clip_seconds=settings.clip_seconds if window is None else window / settings.fps,
        crop=crop or settings.crop,
        member=_members(settings, needs, where),
        # What can be had is answered; what is not there is said.
        allow_missing=("audio", "video"),
        pad_short=True,
        require_gaze=False,
        openface_bin=None,
        gaze=_tracker(folder, run, needs, gaze),
    )
    given = settings.clip.frames
    if frames > given:
        mend = "give --like a dataset of clips with as many"
        raise InputError(f"the network takes {frames} frames, and clips have {given}: {mend}")
    # As `models.training.data` has them decoded: all of a window, of which the front end takes some.
    chosen = range(given) if window is not None else evenly_spaced(given, frames)
    learned = learned_tracker(run)
    return Making(
        settings=settings,
        chosen=np.array(chosen, np.int16),
        notes=notes,
        gaze_learned=learned is not None,
        gaze_mend=_gaze_mend(learned, gaze),
    )


def _gaze_mend(learned: str | None, asked: GazeSource) -> str:
    """How gaze is brought of the kind that the run has learned from, beyond what is asked for already."""
    if learned == "mediapipe":
        return "--gaze mediapipe tracks it" if asked == "none" else ""
    if learned is None:
        return ""
    table = "OpenFace's table beside the video, clip.csv of clip.mp4"
    return f"give {table}" if asked == "openface" else f"--gaze openface takes {table}"


def _tracker(folder: Path, run: Mapping[str, Any], needs: Needs, asked: GazeSource) -> Tracker:
    """What tracks gaze: MediaPipe's networks, which the build runs; or OpenFace, whose table may not be there."""
    if not needs.of_gaze:
        if asked != "auto":
            raise InputError(f"--gaze {asked}: the network of {folder} does not look at gaze: leave it away")
        return "openface"  # which without a table costs nothing
    learned = learned_tracker(run)
    if asked in ("openface", "mediapipe") and learned not in (None, asked):
        raise InputError(f"--gaze {asked}: {folder} was trained with the gaze of {learned}: use --gaze {learned}")
    if asked == "mediapipe" or (asked == "auto" and learned == "mediapipe"):
        return "mediapipe"
    return "openface"


def _of_run(folder: Path, run: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], tuple[str, ...]]:
    stated = run.get(BUILDS)
    builds: list[Any] = [build.get("settings") if isinstance(build, dict) else None for build in stated or ()]
    if not builds or not all(isinstance(build, dict) for build in builds):
        raise InputError(
            folder,
            "its run.json does not say how the clips were made that it was trained on, as it is of an older version",
            "--like DATASET names a dataset that it was trained on",
        )
    notes = []
    for name in _OF_CONTENT:
        found = list(dict.fromkeys(json.dumps(build.get(name)) for build in builds))
        if len(found) > 1:
            notes.append(
                f"trained on clips of {name} {' and '.join(found)}: here it is {found[0]}; --like DATASET names another"
            )
    return str(folder), builds[0], tuple(notes)


def _window(run: Mapping[str, Any]) -> int | None:
    """Consecutive frames that the run was given of a clip; None: evenly spaced ones of the whole clip."""
    data = (run.get(CONFIG) or {}).get("data") or {}
    window = data.get("window")
    return window if isinstance(window, int) else None


def _members(settings: BuildSettings, needs: Needs, where: str) -> tuple[str, ...]:
    """Of ``--member``, what the network takes."""
    asked = {text.partition("=")[0]: text for text in settings.member}
    for name in needs.members:
        if name not in asked:
            raise InputError(
                f"{where}: its clips have no {name}, which a tower takes: give --like a dataset that has it"
            )
    found = tuple(asked[name] for name in needs.members)
    members_of(replace(settings, member=found))  # a package that makes one may not be installed
    return found

"""eGeMAPS (Eyben et al., 2016): 88 functionals of a clip's sound, as openSMILE computes them (set eGeMAPSv02)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.errors import InputError
from sharding.media.waveform import loudness
from sharding.members.registry import ArrayType, NoArrayError, OfClip, Source, member
from sharding.settings import SAMPLE_RATE, BuildSettings

FUNCTIONALS = 88


def _type(settings: BuildSettings) -> ArrayType:
    if find_spec("opensmile") is None:
        raise InputError("--member egemaps: opensmile is not installed: pip install '.[egemaps]'")
    return ArrayType(dtype="float32", shape=(FUNCTIONALS,), moments=True)


@member("egemaps", array=_type, or_files=True)
def egemaps(source: Source) -> OfClip:
    """See `functionals`; of what there is of a clip's sound, without what a short one is padded with.

    A clip without sound, whose sound is silence (``--min-loudness``), or is shorter than openSMILE takes, has none.
    """
    audio, clip, least = source.media.audio, source.settings.clip, source.settings.min_loudness
    if not len(audio):
        raise NoArrayError("egemaps_no_audio", "it has no sound")

    def of_clip(start: float, end: float) -> NDArray[np.float32]:
        number = math.floor(start / clip.seconds + 1e-9)  # the very samples that the clip's sound has
        first = number * clip.samples + round((start - number * clip.seconds) * SAMPLE_RATE)
        heard = audio[first : first + clip.samples]
        if loudness(heard, SAMPLE_RATE) < least:
            raise NoArrayError("egemaps_silent", f"from {start:g} s on it is silent")
        values = functionals(heard)
        if not np.isfinite(values).all():
            what = f"{len(heard)} samples from {start:g} s on, too few for openSMILE"
            raise NoArrayError("egemaps_too_short", what)
        return values

    return of_clip


def functionals(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """openSMILE's functionals of a sound, in the order of its ``feature_names``.

    Args:
        samples: (n,) at `SAMPLE_RATE`.

    Returns:
        (88,), each in the unit that openSMILE gives it; NaN where the sound is shorter than its longest frame, 60 ms.
    """
    # It takes samples as shares of full scale, and makes of them the same integers again.
    waveform = samples.astype(np.float32) / np.float32(32768)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Segment too short")  # the caller counts them
        values: NDArray[np.float32] = _opensmile()(waveform, SAMPLE_RATE)
    return values.reshape(FUNCTIONALS)


@cache
def _opensmile() -> Callable[[NDArray[np.float32], int], Any]:
    """The extractor, once a process: to import and configure it takes seconds."""
    import opensmile

    smile: Callable[[NDArray[np.float32], int], Any] = opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=opensmile.FeatureLevel.Functionals
    )
    return smile

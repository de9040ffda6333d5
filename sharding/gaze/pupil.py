"""How wide a pupil is, as a share of its iris.

Of circles about the iris' centre, the pupil's edge is where the brightness along the circle grows most from one to the
next: Daugman's integro-differential operator ("High confidence visual recognition of persons by a test of statistical
independence", 1993). The arcs above and below, which lids cover, are left out, and of the others the median is taken,
which the reflection of a lamp does not move. A pupil takes a quarter of a second to begin to move, and longer to get
anywhere: what single pictures give is smoothed over 0.4 s (`steadied`), a median and then a mean. Where an iris is as
dark as its pupil, or a few pixels wide, what is found is chance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LEAST, _MOST = 0.2, 0.75  # of the iris: pupils are 2 to 8 mm wide, irises 11.7 mm
_STEP = 0.025
_ARC = np.radians(45)  # to both sides of the horizontal
_ANGLES = np.concatenate([side + np.linspace(-_ARC, _ARC, 13) for side in (0.0, np.pi)])
_RADII = np.arange(_LEAST - 4 * _STEP, _MOST + 4.5 * _STEP, _STEP)
_SMOOTHED = 0.4  # seconds
_WINDOW = 3  # steps: the brightness of so many circles inside is held against that of so many outside


def pupil_share(grey: NDArray[np.uint8], iris: Floats) -> float:
    """The pupil's diameter over its iris', 0.2 to 0.75.

    Args:
        grey: (height, width) a picture.
        iris: (5, 2): centre, then four points of the edge: beside it at 1 and 3.
    """
    across = (iris[3] - iris[1]) / 2
    radius, tilt = float(np.linalg.norm(across)), float(np.arctan2(across[1], across[0]))
    x = iris[0, 0] - 0.5 + radius * np.outer(_RADII, np.cos(_ANGLES + tilt))
    y = iris[0, 1] - 0.5 + radius * np.outer(_RADII, np.sin(_ANGLES + tilt))
    bright = np.median(_sampled(grey, x, y), axis=1)
    total = np.concatenate([[0.0], np.cumsum(bright)])
    edges = np.arange(_WINDOW, len(_RADII) - _WINDOW + 1)
    growth = (total[edges + _WINDOW] - 2 * total[edges] + total[edges - _WINDOW]) / _WINDOW
    at = _RADII[edges] - _STEP / 2  # between the circles inside and those outside
    within = (at >= _LEAST) & (at <= _MOST)
    best = int(np.flatnonzero(within)[np.argmax(growth[within])])
    shift = 0.0
    if 0 < best < len(growth) - 1:
        before, here, after = growth[best - 1 : best + 2]
        bend = before - 2 * here + after
        shift = float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0
    return float(np.clip(at[best] + shift * _STEP, _LEAST, _MOST))


def steadied(shares: Floats, fps: float) -> Floats:
    """The shares of the pictures of a video, (N,), smoothed in time."""
    reach = max(1, round(_SMOOTHED * fps / 2))
    for smooth in (np.median, np.mean):
        padded = np.concatenate([np.repeat(shares[:1], reach), shares, np.repeat(shares[-1:], reach)])
        shares = np.asarray(smooth(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=-1))
    return shares


def _sampled(grey: NDArray[np.uint8], x: Floats, y: Floats) -> Floats:
    """Between the pixels, linearly; beyond the edges of the picture those at the edge."""
    height, width = grey.shape
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, below = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    over, down = x - left, y - top
    upper = grey[top, left] * (1 - over) + grey[top, right] * over
    lower = grey[below, left] * (1 - over) + grey[below, right] * over
    return np.asarray(upper * (1 - down) + lower * down)

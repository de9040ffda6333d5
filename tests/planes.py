"""Planes: whether they can be had here, and the slow way from them to RGB, libjpeg's arithmetic written out."""

import numpy as np
import pytest
from numpy.typing import NDArray

from loaders.decode.planes import PlaneDecoder
from loaders.errors import InputError


def lack_of_library() -> str | None:
    """What to install; None where libturbojpeg is there."""
    try:
        PlaneDecoder(1, 16)
    except InputError as error:
        return str(error)
    return None


needs_libturbojpeg = pytest.mark.skipif(lack_of_library() is not None, reason=str(lack_of_library()))


def doubled(chroma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(…, H, W) → (…, 2·H, 2·W), as ``h2v2_fancy_upsample`` in libjpeg-turbo's jdsample.c: 9, 3, 3 and 1 sixteenths."""
    rows = _three_to_one(chroma.astype(np.int64), -2)
    sixteenths = _three_to_one(rows, -1)
    rounding = np.where(np.arange(sixteenths.shape[-1]) % 2, 7, 8)
    return ((sixteenths + rounding) >> 4).astype(np.uint8)


def _three_to_one(samples: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
    """Twice as many, of 3 parts the nearer sample and 1 part the next; beyond its ends there is more of the same."""
    before, after = (
        np.take(samples, np.clip(np.arange(samples.shape[axis]) + step, 0, samples.shape[axis] - 1), axis)
        for step in (-1, 1)
    )
    joined = np.repeat(samples, 2, axis)
    places = [slice(None)] * samples.ndim
    for first, half in enumerate((3 * samples + before, 3 * samples + after)):
        places[axis] = slice(first, None, 2)
        joined[tuple(places)] = half
    return joined


def rgb_of(luma: NDArray[np.uint8], blue: NDArray[np.uint8], red: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(…, H, W) each → (…, H, W, 3), by JFIF's formulas."""
    y, cb, cr = luma.astype(float), blue - 128.0, red - 128.0
    channels = [y + 1.402 * cr, y - 0.344136286 * cb - 0.714136286 * cr, y + 1.772 * cb]
    return np.rint(np.stack(channels, -1)).clip(0, 255).astype(np.uint8)

"""Encoded batches as the reader makes them of clips' members, and frames as plain decoders see them."""

import io
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loaders.dataset.manifest import ClipFormat
from loaders.decode.cut import Cutter, strip_of
from loaders.decode.pipeline import Encoded
from loaders.decode.wav import first_sample

Bytes = NDArray[np.uint8]


def encoded_of(
    clip: ClipFormat,
    strips: Sequence[Bytes],
    audio: Sequence[Bytes] = (),
    chosen: Sequence[Sequence[int]] | None = None,
) -> Encoded:
    """Whole clips, or ``chosen`` frames of each and the sound from the first of them on."""
    every = [range(clip.frames)] * len(strips) if chosen is None else chosen
    frames = np.array([list(numbers) for numbers in every], np.int16).reshape(len(strips), -1)
    cutter = Cutter(clip, frames.shape[1])
    cut = [cutter.cut(strip, numbers).file for strip, numbers in zip(strips, frames, strict=True)]
    return Encoded(cut, audio, frames, first_sample(frames[:, 0].astype(np.int64), clip))


def frames_apart(strip: Bytes, frames: int, size: int, chosen: Iterable[int]) -> list[Bytes]:
    """Chosen frames of a filmstrip, each as one by itself: nothing is beside it."""
    return [strip_of(strip, frames, size, [number]) for number in chosen]


def by_pillow(jpeg: Bytes) -> Bytes:
    """(H, W, 3), RGB."""
    return np.asarray(Image.open(io.BytesIO(jpeg.tobytes())).convert("RGB"))

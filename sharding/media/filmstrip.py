"""A clip's frames as one picture: stacked top to bottom in one baseline JPEG.

Decoded, the picture is the array (T, H, W, 3) by reshape. A height that is a multiple of 16 keeps every frame on its
own rows of JPEG blocks, also with halved colour resolution; a restart marker between frames makes any of them a JPEG by
cutting, see `loaders.decode.cut`, and the header says where they lie, see `loaders.decode.frame_offsets`.
"""

import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loaders.dataset.manifest import LONGEST
from loaders.decode.frame_offsets import with_offsets

Subsampling = Literal["4:2:0", "4:4:4"]
ROWS_OF_A_BLOCK = 16
LONGEST_INTERVAL = 65_535  #: blocks of a restart interval, which a JPEG states in two bytes


def rows_of_a_block(subsampling: Subsampling) -> int:
    """Rows of pixels that a JPEG codes together."""
    return ROWS_OF_A_BLOCK if subsampling == "4:2:0" else ROWS_OF_A_BLOCK // 2


def encode_filmstrip(
    frames: NDArray[np.uint8], *, quality: int, subsampling: Subsampling, restart_markers: bool = True
) -> bytes:
    """One JPEG of frames (T, H, W, 3) uint8 RGB, T·H pixels high and W wide.

    Its Huffman tables are made for the picture: a few per cent smaller than with the standard's tables, and as much
    faster to decode. ``quality`` is libjpeg's, 1 … 95. With ``restart_markers`` each frame is a restart interval of its
    own, which takes H to be a multiple of a block's rows, and the header says where they lie.
    """
    count, height, width, _ = frames.shape
    picture = Image.new("RGB", (width, count * height), None)  # not filled first, as `Image.fromarray` does
    picture.frombytes(np.ascontiguousarray(frames).data)
    out = io.BytesIO()
    block = rows_of_a_block(subsampling)
    if restart_markers and height % block:
        raise ValueError(
            f"frames are {height} pixels high, and restart markers between them take a multiple of {block}"
        )
    picture.save(
        out,
        "JPEG",
        quality=quality,
        subsampling=subsampling,
        optimize=True,
        restart_marker_rows=height // block if restart_markers else 0,
    )
    return with_offsets(out.getvalue(), count) if restart_markers else out.getvalue()


def decode_filmstrip(data: bytes, frames: int, *, size: int | None = None) -> NDArray[np.uint8]:
    """The frames (T, H, W, 3) of a filmstrip of T ``frames``. Raises ValueError where the data is something else.

    With ``size``, the height and width of a frame, a picture that claims other sizes is refused before its pixels take
    up memory.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            width, height = picture.size
            unlike = size is not None and (width, height) != (size, size * frames)
            if height % frames or height > LONGEST or width > LONGEST or unlike:
                raise ValueError(
                    f"a picture of {width}×{height} is no filmstrip of {frames} frames"
                    + (f" of {size}×{size}" if size is not None else "")
                )
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a whole JPEG: {error}") from error
    return pixels.reshape(frames, height // frames, width, 3)

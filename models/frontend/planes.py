"""Frames as luma and halved chroma (I420, see `loaders.decode.planes`): where each plane lies, and what weighs it.

libjpeg-turbo doubles chroma with a triangle filter: a pixel has three quarters of the nearer sample and a quarter of
the next, along rows and along columns. That is a matrix product, like the resampling that follows, and the two make one
matrix: frames are resampled from half the chroma to what they would be, without it ever being doubled.

What differs: levels are not rounded and limited in between, which tells where colours are beyond what RGB has; and a
frame's first and last row have all their chroma from their own frame, not a quarter of it from the filmstrip's next.
"""

import torch
from torch import Tensor

#: Red, green and blue of Y, Cb − 128 and Cr − 128, all of them 0 … 255 (JFIF 1.02, by ITU-R BT.601).
RGB_OF_PLANES = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))
NO_COLOUR = 128  #: Cb and Cr of grey


def planes_of(frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Views of frames (N, 3·H/2, W): Y (N, H, W), Cb and Cr (N, H/2, W/2)."""
    number, rows, width = frames.shape
    height = rows * 2 // 3
    chroma = frames[:, height:].view(number, 2, height // 2, width // 2)
    return frames[:, :height], chroma[:, 0], chroma[:, 1]


def on_chroma(weight: Tensor) -> Tensor:
    """Weights of pixels (…, H), H even, as weights of the chroma samples that these were doubled from (…, H/2).

    Pixel 2k has 3/4 of sample k and 1/4 of k − 1, pixel 2k + 1 has the other quarter of k + 1; beyond its ends there is
    more of the same sample (``h2v2_fancy_upsample`` in libjpeg-turbo's jdsample.c).
    """
    even, odd = weight[..., 0::2], weight[..., 1::2]
    from_below = torch.cat([even[..., 1:], odd[..., -1:]], -1)
    from_above = torch.cat([even[..., :1], odd[..., :-1]], -1)
    return 0.75 * (even + odd) + 0.25 * (from_below + from_above)

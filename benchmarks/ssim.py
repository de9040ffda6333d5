"""How alike two pictures look: SSIM and PSNR.

SSIM by Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to Structural Similarity",
IEEE Transactions on Image Processing 13 (2004), equation 13, with the constants, the Gaussian window of 11 pixels and
1.5 pixels' deviation, and the mean over the map (equation 14) that it gives; of the luma, over the places where the
whole window lies in the picture.
"""

import numpy as np
from numpy.typing import NDArray

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_RADIUS, _SIGMA = 5, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def luma(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Of RGB frames (…, 3), in 0 … 255."""
    result: NDArray[np.float32] = frames.astype(np.float32) @ _LUMA
    return result


def ssim(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean SSIM of pictures (…, H, W) in 0 … 255, 11 pixels or more high and wide; 1 where they are equal."""
    mean_one, mean_other = _blur(one), _blur(other)
    variance_one = _blur(one * one) - mean_one**2
    variance_other = _blur(other * other) - mean_other**2
    covariance = _blur(one * other) - mean_one * mean_other
    likeness = (2 * mean_one * mean_other + _C1) * (2 * covariance + _C2)
    likeness /= (mean_one**2 + mean_other**2 + _C1) * (variance_one + variance_other + _C2)
    return float(likeness.mean())


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal over noise, in dB, of two arrays of 8 bits; infinite where they are equal."""
    error = float(np.square(one.astype(np.float32) - other.astype(np.float32)).mean())
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def _blur(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weighted mean over the window, at every place where it fits in: (…, H, W) → (…, H − 10, W − 10)."""
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    weights = np.exp(-(offsets**2) / (2 * _SIGMA**2)).astype(np.float32)
    weights /= weights.sum()
    height, width = pictures.shape[-2] - 2 * _RADIUS, pictures.shape[-1] - 2 * _RADIUS
    rows = weights[0] * pictures[..., :height, :]
    for start in range(1, 2 * _RADIUS + 1):
        rows += weights[start] * pictures[..., start : start + height, :]
    out: NDArray[np.float32] = weights[0] * rows[..., :width]
    for start in range(1, 2 * _RADIUS + 1):
        out += weights[start] * rows[..., start : start + width]
    return out

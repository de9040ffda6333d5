"""What a member's bytes must be to be decoded."""

import io
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from loaders.dataset.manifest import ClipFormat, Member
from sharding.packing.members import decode_member
from sharding.settings import BuildSettings

CLIP: ClipFormat = BuildSettings(size=32).clip
GAZE = Member(name="gaze", extension="npy", dtype="float32", shape=(4,), required=False)


def npy(array: NDArray[np.generic], *, allow_pickle: bool = False) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=allow_pickle)
    return out.getvalue()


def test_an_array_comes_back_as_it_was_saved() -> None:
    array = np.array([1, -2.5, 0, 3], np.float32)
    decoded = decode_member(GAZE, npy(array), CLIP)
    assert isinstance(decoded, np.ndarray)
    assert decoded.dtype == np.float32
    assert decoded.tolist() == array.tolist()


def test_an_array_is_what_is_declared_whatever_its_header_says() -> None:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": (1 << 50,)})
    with pytest.raises(ValueError, match=r"not an \.npy file of float32"):
        decode_member(GAZE, out.getvalue() + bytes(400), CLIP)
    with pytest.raises(ValueError, match=r"not an \.npy file"):
        decode_member(GAZE, npy(np.array([{}] * 4, object), allow_pickle=True), CLIP)
    with pytest.raises(ValueError, match="not finite"):
        decode_member(GAZE, npy(np.array([1, math.nan, 0, 0], np.float32)), CLIP)
    with pytest.raises(ValueError, match="bytes of numbers"):
        decode_member(GAZE, npy(np.zeros(4, np.float32))[:-4], CLIP)

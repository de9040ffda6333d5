"""A member's bytes: arrays as files, and whether they hold what dataset.json declares of them.

What a file claims for its own size is held against the declaration before anything is decoded: no file can make its
reader take up more memory than a clip does.
"""

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from loaders.dataset.manifest import LONGEST, ClipFormat, Member
from loaders.dataset.npy import parse_npy
from sharding.media.filmstrip import decode_filmstrip
from sharding.media.waveform import decode_waveform

_MAP_BYTES = 1 << 16  # of a description; a real one has some 200
_MEMBER_BYTES = 1 << 28  # of any member
_ROOM = 1 << 16  # for headers, and for pictures that do not compress


def largest(member: Member) -> int:
    """More bytes than the member can have in earnest, whatever is declared."""
    if member.dtype == "map":
        return _MAP_BYTES
    return min(2 * math.prod(member.shape) * np.dtype(member.dtype).itemsize + _ROOM, _MEMBER_BYTES)


def can_decode(member: Member) -> bool:
    """Whether this program knows the member's kind of file."""
    return member.extension in _DECODERS


def npy(array: NDArray[Any]) -> bytes:
    """An .npy file of an array, little-endian and row by row."""
    out = io.BytesIO()
    plain = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    np.lib.format.write_array(out, plain, version=(1, 0), allow_pickle=False)
    return out.getvalue()


def encode_array(member: Member, array: NDArray[Any]) -> bytes:
    """A member's .npy file.

    Raises:
        ValueError: the array is not what is declared, or holds numbers that are not finite.
    """
    lengths = array.shape
    if member.variable and lengths and lengths[0] <= member.shape[0]:
        lengths = (member.shape[0], *lengths[1:])
    if array.dtype != np.dtype(member.dtype) or lengths != member.shape:
        raise ValueError(f"{member.name}: {array.dtype} {array.shape} where {member.dtype} {member.shape} is declared")
    if not np.isfinite(array).all():
        raise ValueError(f"{member.name}: holds numbers that are not finite")
    return npy(array)


def decode_member(member: Member, data: bytes, clip: ClipFormat) -> NDArray[Any] | Mapping[str, Any]:
    """The member's content: an array of the declared shape, or of fewer rows where they vary; or a map.

    Raises:
        ValueError: it is something else, with what that is.
    """
    if len(data) > largest(member):
        raise ValueError(f"{len(data)} bytes are too many for it")
    return _DECODERS[member.extension](member, data, clip)


def _picture(member: Member, data: bytes, clip: ClipFormat) -> NDArray[Any]:
    frames, height, width, channels = member.shape
    if height != width or channels != 3 or not 0 < frames * height <= LONGEST:
        raise ValueError(f"declared as {member.shape}, which no filmstrip has")
    return decode_filmstrip(data, frames, size=height)


def _sound(member: Member, data: bytes, clip: ClipFormat) -> NDArray[Any]:
    (samples,) = member.shape
    return decode_waveform(data, samples=samples, sample_rate=clip.sample_rate)


def _array(member: Member, data: bytes, clip: ClipFormat) -> NDArray[Any]:
    array: NDArray[Any] = parse_npy(member, np.frombuffer(data, np.uint8))
    if not np.isfinite(array).all():
        raise ValueError("holds numbers that are not finite")
    return array


def _map(member: Member, data: bytes, clip: ClipFormat) -> Mapping[str, Any]:
    content = msgpack.unpackb(
        data, max_str_len=4096, max_bin_len=4096, max_array_len=4096, max_map_len=256, max_ext_len=0
    )
    if not isinstance(content, dict):
        raise ValueError("not a map")
    return content


_DECODERS: Mapping[str, Callable[[Member, bytes, ClipFormat], NDArray[Any] | Mapping[str, Any]]] = {
    "jpg": _picture,
    "wav": _sound,
    "flac": _sound,
    "npy": _array,
    "msg": _map,
}

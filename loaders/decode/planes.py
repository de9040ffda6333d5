"""Filmstrips decoded to what a JPEG holds, luma and halved chroma, instead of RGB.

These planes are what libjpeg-turbo's inverse transform gives; for RGB it doubles the chroma, weighs three samples for
every pixel and writes twice as many bytes. A front end that resamples and colours by matrices anyway does all that in
them (`models.frontend.front_end`), and batches are half as large.

A frame is H·W samples of Y, H/2·W/2 of Cb and as many of Cr, one behind the other, all of them 0 … 255 (JFIF): what is
called I420, as an array (3·H/2, W).

simplejpeg does not hand out planes. The functions that do are in libjpeg-turbo's own library, libturbojpeg.so.0: the
system's, or else the one in the wheel of `turbojpeg` on PyPI, of which nothing but this library is used.
"""

import ctypes
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from ctypes import POINTER, byref, c_char_p, c_int, c_ulong, c_void_p
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from loaders.dataset.manifest import Manifest
from loaders.errors import InputError

#: What batches hold: RGB, or luma and halved chroma.
Pixels = Literal["rgb", "yuv420"]

_SONAME = "libturbojpeg.so.0"
_WHEEL = "turbojpeg"
_420, _YCBCR = 2, 1  # TJSAMP_420 and TJCS_YCbCr of turbojpeg.h
_OFFSET = 16  # bytes beside a multiple of 64, as in `loaders.decode.turbo`


def frame_shape(size: int, pixels: Pixels) -> tuple[int, ...]:
    """Shape of the bytes of a frame that is ``size`` pixels high and wide; of planes a multiple of 4."""
    return (size, size, 3) if pixels == "rgb" else (size * 3 // 2, size)


def check_pixels(pixels: str, manifests: Sequence[Manifest], cpu_decoder: str, obstacle: str | None) -> Pixels:
    """What batches are to hold, if they can.

    Args:
        manifests: of the datasets.
        cpu_decoder: as the loader was given it.
        obstacle: why libjpeg-turbo cannot decode without DALI, see `loaders.decode.turbo`; None where it can.

    Raises:
        InputError: they cannot.
    """
    if pixels not in get_args(Pixels):
        raise InputError(f"pixels is {pixels!r}: use rgb or yuv420")
    if pixels == "rgb":
        return "rgb"
    if cpu_decoder == "dali":
        raise InputError("pixels is 'yuv420' and cpu_decoder is 'dali', which decodes RGB: use auto, or pixels rgb")
    if obstacle is not None:
        raise InputError(f"pixels is 'yuv420', for clips with WAV on a CPU, but {obstacle}: use pixels rgb")
    for manifest in manifests:
        chroma = manifest.settings.get("subsampling", "4:2:0")
        if chroma != "4:2:0":
            raise InputError(
                f"pixels is 'yuv420', and the chroma of {manifest.corpus} is {chroma}: use pixels rgb, or build it "
                "with --subsampling 4:2:0"
            )
        PlaneDecoder(manifest.clip.frames, manifest.clip.size)  # which says what is in its way
    return cast(Pixels, pixels)


class PlaneDecoder:
    """Decodes filmstrips of one shape. Any number of threads may use it: each gets a workspace of its own.

    A thread decodes into the same memory every time, and copies the planes from there to where they belong.
    libjpeg-turbo writes blocks, eight rows at a time: into memory that the caches hold it is faster by more than the
    copy takes (benchmarks/NOTES.md). Nor could it leave room for a frame's chroma before the next frame's luma.
    """

    def __init__(self, frames: int, size: int) -> None:
        """
        Args:
            frames: of a filmstrip.
            size: height and width of a frame, a multiple of 16, so that no block of chroma is of two frames.

        Raises:
            InputError: frames are of another size, or there is no libturbojpeg.
        """
        if size % 16:
            raise InputError(f"pixels is 'yuv420' and frames are {size} pixels high: use pixels rgb")
        self._library = _library()
        self._frames, self._size = frames, size
        self._own = threading.local()

    def decode_into(self, data: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
        """Decode a JPEG with halved chroma (4:2:0) into ``out`` (T·3·H/2, W) uint8.

        Raises:
            RuntimeError: it is damaged, of another size, or has other chroma.
        """
        own = self._workspace()
        own.decode(data)
        height, frames = self._size, out.reshape(own.luma.shape[0], -1, own.luma.shape[2])
        frames[:, :height] = own.luma
        frames[:, height : height * 5 // 4] = own.blue
        frames[:, height * 5 // 4 :] = own.red

    def _workspace(self) -> "_Workspace":
        found: _Workspace | None = getattr(self._own, "workspace", None)
        if found is None:
            found = self._own.workspace = _Workspace(self._library, self._frames, self._size)
        return found


class _Workspace:
    """A decompressor and the planes of one filmstrip. One thread may use it."""

    def __init__(self, library: ctypes.CDLL, frames: int, size: int) -> None:
        self._library = library
        self._width, self._height = size, frames * size
        self._handle = library.tjInitDecompress()
        if not self._handle:
            raise MemoryError("libturbojpeg has no memory for a decompressor")
        weakref.finalize(self, library.tjDestroy, self._handle).atexit = False
        pixels = frames * size * size
        memory = np.empty(pixels * 3 // 2 + 128, np.uint8)
        start = -memory.ctypes.data % 64 + _OFFSET
        luma, chroma = start + pixels, pixels // 4
        self.luma = memory[start:luma].reshape(frames, size, size)
        self.blue = memory[luma : luma + chroma].reshape(frames, size // 4, size)
        self.red = memory[luma + chroma : luma + 2 * chroma].reshape(frames, size // 4, size)
        self._planes = (c_void_p * 3)(*(plane.ctypes.data for plane in (self.luma, self.blue, self.red)))
        self._strides = (c_int * 3)(size, size // 2, size // 2)

    def decode(self, data: NDArray[np.uint8]) -> None:
        """Fill the planes."""
        width, height, chroma, colours = c_int(), c_int(), c_int(), c_int()
        jpeg = data.ctypes.data, data.size
        # The planes are written as large as the header says.
        said = self._library.tjDecompressHeader3(
            self._handle, *jpeg, byref(width), byref(height), byref(chroma), byref(colours)
        )
        if said:
            raise RuntimeError(f"not a whole JPEG: {self._problem()}")
        if (width.value, height.value) != (self._width, self._height):
            raise RuntimeError(f"a JPEG of {width.value}×{height.value} instead of {self._width}×{self._height}")
        if (chroma.value, colours.value) != (_420, _YCBCR):
            raise RuntimeError("a JPEG without halved chroma (4:2:0), which has no such planes: use pixels rgb")
        if self._library.tjDecompressToYUVPlanes(self._handle, *jpeg, self._planes, 0, self._strides, 0, 0):
            raise RuntimeError(f"not a whole JPEG: {self._problem()}")

    def _problem(self) -> str:
        said: bytes = self._library.tjGetErrorStr2(self._handle)
        return said.decode(errors="replace")


@cache
def _library() -> ctypes.CDLL:
    """libturbojpeg; its functions are called without the interpreter's lock.

    Those of 1.4 are asked for, which 2 and 3 have too.

    Raises:
        InputError: there is none.
    """
    library = _load()
    library.tjInitDecompress.restype = c_void_p
    library.tjInitDecompress.argtypes = []
    library.tjDestroy.argtypes = [c_void_p]
    library.tjGetErrorStr2.restype = c_char_p
    library.tjGetErrorStr2.argtypes = [c_void_p]
    library.tjDecompressHeader3.argtypes = [c_void_p, c_void_p, c_ulong, *([POINTER(c_int)] * 4)]
    library.tjDecompressToYUVPlanes.argtypes = [
        *(c_void_p, c_void_p, c_ulong),
        *(POINTER(c_void_p), c_int, POINTER(c_int), c_int, c_int),
    ]
    return library


def _load() -> ctypes.CDLL:
    for name in (_SONAME, *_in_wheel()):
        with suppress(OSError):
            return ctypes.CDLL(name)
    raise InputError(
        f"pixels is 'yuv420', and there is no {_SONAME} here: install it (Debian: apt install libturbojpeg0; "
        f"or pip install {_WHEEL}), or use pixels rgb"
    )


def _in_wheel() -> list[str]:
    try:
        files = distribution(_WHEEL).files or []
    except PackageNotFoundError:
        return []
    return [str(file.locate()) for file in files if file.name.startswith("libturbojpeg") and ".so" in file.name]

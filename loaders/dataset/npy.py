"""A member's array out of the bytes of its .npy file.

The header of such a file is a Python expression. It is not evaluated, but compared with the only one that fits what
dataset.json declares: no file can say of itself how much memory it takes, nor have anything run.
"""

import io
import math
import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from loaders.dataset.members import Member

_MAGIC = b"\x93NUMPY\x01\x00"
_PREFIX = len(_MAGIC) + 2  # and two bytes of how long the header is
_ROWS = re.compile(rb"'shape': \((\d{1,10}),")


def parse_npy(member: Member, file: NDArray[np.uint8]) -> NDArray[np.generic]:
    """The array in a file, in the file's memory.

    Args:
        member: its declaration, of numbers, without a `Member.problem`.
        file: (bytes,).

    Returns:
        Of the declared type and shape; where rows vary in number, of as many as there are.

    Raises:
        ValueError: it holds something else, with what that is.
    """
    start = file[:_PREFIX].tobytes()
    if len(start) < _PREFIX or not start.startswith(_MAGIC):
        raise ValueError("not an .npy file of version 1.0")
    end = _PREFIX + int.from_bytes(start[len(_MAGIC) :], "little")
    header = file[_PREFIX:end].tobytes().rstrip()
    shape = member.shape
    if member.variable:
        rows = _ROWS.search(header)
        if rows is None or int(rows[1]) > shape[0]:
            raise ValueError(f"not an .npy file of {_declared(member)}")
        shape = int(rows[1]), *shape[1:]
    if header != _header(member.dtype, shape):
        raise ValueError(f"not an .npy file of {_declared(member)}")
    dtype = np.dtype(member.dtype)
    content = file[end:]
    if content.size != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{content.size} bytes of numbers, which do not make {shape}")
    return np.frombuffer(content, dtype).reshape(shape)


def parse_alike(
    member: Member, memory: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.generic], NDArray[np.bool_]] | None:
    """The arrays of many files at once, where these lie equally far apart and are as long as numpy writes them.

    Args:
        member: their declaration, as of `parse_npy`, of rows that do not vary in number.
        memory: in which they lie.
        starts, sizes: of each, bytes; (n,).

    Returns:
        (n, *shape), and (n,) whether a file is what is declared: where it is not, `parse_npy` says whether the file is
        merely written in another way. None where they do not lie so.
    """
    start, dtype = _written(member.dtype, member.shape), np.dtype(member.dtype)
    end = len(start) + math.prod(member.shape) * dtype.itemsize
    first = int(starts[0])
    apart = int(starts[1]) - first if len(starts) > 1 else end
    if (starts != first + apart * np.arange(len(starts))).any() or (sizes != end).any():
        return None
    files = np.lib.stride_tricks.as_strided(memory[first:], (len(starts), end), (apart, 1), writeable=False)
    fits = (files[:, : len(start)] == np.frombuffer(start, np.uint8)).all(axis=1)
    return files[:, len(start) :].view(dtype).reshape(len(starts), *member.shape), fits


def _declared(member: Member) -> str:
    return f"{member.dtype} {'at most ' if member.variable else ''}{member.shape}"


@lru_cache(4096)
def _written(dtype: str, shape: tuple[int, ...]) -> bytes:
    """What numpy writes before such an array's numbers."""
    file = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
    return file.getvalue()


@lru_cache(4096)
def _header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """The same, less what says how long it is, and the blanks that it is filled up with."""
    return _written(dtype, shape)[_PREFIX:].rstrip()

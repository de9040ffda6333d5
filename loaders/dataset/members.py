"""The files of a clip's sample, as dataset.json declares them."""

import math
from dataclasses import dataclass

import numpy as np

LARGEST_ARRAY = 1 << 28  #: bytes of a clip's array, at most: a batch holds hundreds of them
# Files by which a batch is made, and those that its decoders know.
_DECODED = {"filmstrip": ("jpg",), "audio": ("wav", "flac"), "gaze": ("npy",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of a clip's sample: ``<key>.<name>.<extension>``."""

    name: str  #: prefix of its catalog columns: ``<name>_offset``, ``<name>_size``, ``<name>_xxh3``
    extension: str
    dtype: str  #: of the decoded array
    shape: tuple[int, ...]  #: of the decoded array
    required: bool  #: False: a clip may come without it
    variable: bool = False  #: clips have fewer rows than the first number of `shape`, or as many

    @property
    def suffix(self) -> str:
        """What follows the key and a dot in the tar: the name under which WebDataset shows the member."""
        return f"{self.name}.{self.extension}"

    def problem(self) -> str | None:
        """What no built dataset declares of a member; None where all is well.

        Memory is reserved by what is declared.
        """
        what = f"the member {self.name!r} is declared"
        if self.extension not in _DECODED.get(self.name, (self.extension,)):
            return f"{what} as an .{self.extension}, which is no {self.name}"
        if (self.dtype == "map") != (self.extension == "msg"):
            return f"{what} as {self.dtype!r} in an .{self.extension}"
        if any(not 0 < length < 1 << 31 for length in self.shape):
            return f"{what} with the shape {self.shape}"
        if self.variable and (self.name in _DECODED or self.extension != "npy" or not self.shape):
            return f"{what} with a number of rows that varies, as an .{self.extension} of the shape {self.shape}"
        if self.dtype == "map":
            return None
        itemsize = _number_bytes(self.dtype)
        if itemsize is None:
            return f"{what} as {self.dtype!r}, which is no kind of number"
        if self.extension == "npy" and math.prod(self.shape) * itemsize > LARGEST_ARRAY:
            return f"{what} with the shape {self.shape}, of more than {LARGEST_ARRAY} bytes"
        return None


def _number_bytes(name: str) -> int | None:
    """Bytes of a number of that type; None where numpy and torch do not both know it."""
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, SyntaxError):
        return None
    return dtype.itemsize if dtype.kind in "iuf" and dtype.itemsize <= 8 else None

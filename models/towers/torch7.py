"""Files of Torch 7 (``.t7``, binary), in which older weights are published: numbers and tables of them, no programs.

The format is torch7's own, File.lua: every value has a type's number before it, and tables and objects an index, by
which they are referred to again.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.errors import InputError

_NIL, _NUMBER, _STRING, _TABLE, _TORCH, _BOOLEAN = range(6)
_TYPES = {"Float": "<f4", "Double": "<f8", "Long": "<i8", "Int": "<i4", "Byte": "u1", "Cuda": "<f4"}


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = memoryview(data), 0
        self._known: dict[int, Any] = {}

    def value(self) -> Any:
        """The next value: None, a number, a text, a truth, a dict, or an array."""
        kind = self._int()
        if kind == _NIL:
            return None
        if kind == _NUMBER:
            return self._unpack("<d")
        if kind == _STRING:
            return self._text()
        if kind == _BOOLEAN:
            return bool(self._int())
        if kind not in (_TABLE, _TORCH):
            raise ValueError(f"a value of the type {kind}")
        index = self._int()
        if index in self._known:
            return self._known[index]
        if kind == _TABLE:
            return self._table(index)
        version = self._text()
        name = self._text() if version.startswith("V ") else version
        return self._object(index, name)

    def _table(self, index: int) -> dict[Any, Any]:
        table: dict[Any, Any] = {}
        self._known[index] = table
        for _ in range(self._int()):
            key = self.value()
            table[int(key) if isinstance(key, float) else key] = self.value()
        return table

    def _object(self, index: int, name: str) -> Any:
        kind = next((dtype for word, dtype in _TYPES.items() if name.startswith(f"torch.{word}")), None)
        if kind is not None and name.endswith("Storage"):
            count = self._unpack("<q")
            stored = np.frombuffer(self._take(count * np.dtype(kind).itemsize), kind)
            self._known[index] = stored
            return stored
        if kind is not None and name.endswith("Tensor"):
            sizes = self._int()
            shape = [self._unpack("<q") for _ in range(sizes)]
            strides = [self._unpack("<q") for _ in range(sizes)]
            first = self._unpack("<q") - 1
            storage = self.value()
            tensor = np.empty(0, kind) if storage is None else _view(storage, shape, strides, first)
            self._known[index] = tensor
            return tensor
        holder: dict[Any, Any] = {}
        self._known[index] = holder
        fields = self.value()
        holder.update(fields if isinstance(fields, dict) else {}, __class__=name)
        return holder

    def _text(self) -> str:
        return bytes(self._take(self._int())).decode("latin-1")

    def _int(self) -> int:
        return int(self._unpack("<i"))

    def _unpack(self, form: str) -> Any:
        (value,) = struct.unpack(form, self._take(struct.calcsize(form)))
        return value

    def _take(self, count: int) -> memoryview:
        if count < 0 or self._at + count > len(self._data):
            raise ValueError("it ends too early")
        self._at += count
        return self._data[self._at - count : self._at]


def _view(storage: NDArray[Any], shape: list[int], strides: list[int], first: int) -> NDArray[Any]:
    last = first + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if first < 0 or min(strides, default=0) < 0 or min(shape, default=1) < 1 or last >= len(storage):
        raise ValueError("a tensor reaches beyond its storage")
    item = storage.itemsize
    view = np.lib.stride_tricks.as_strided(storage[first:], shape, [stride * item for stride in strides])
    return view.copy()


def read_torch7(path: Path) -> Any:
    """What a file holds: tables as dicts, objects as dicts with ``__class__``, tensors as arrays.

    Raises:
        InputError: it cannot be read, or is none.
    """
    try:
        return _Reader(path.read_bytes()).value()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}: give a file that can be read") from error
    except (ValueError, struct.error, RecursionError) as error:
        raise InputError(f"{path}: no file of Torch 7 ({error}): give the file as it was published") from error

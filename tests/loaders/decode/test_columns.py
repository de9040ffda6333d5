"""Columns laid into one piece come out of it as they were."""

import numpy as np
import pytest
import torch

from loaders.decode.columns import fill, to_device, views


@pytest.mark.parametrize("rows", [0, 1, 7, 128])
def test_columns_come_out_as_they_went_in(rows: int) -> None:
    draw = np.random.default_rng(rows)
    columns = [
        draw.normal(size=(rows, 103)).astype(np.float32),
        draw.random(rows) < 0.5,
        draw.integers(-(2**62), 2**62, rows),
        draw.integers(0, 9, (2 * rows, 2))[::2, 1],  # not contiguous
    ]
    piece = fill(torch.empty(rows * 600 + 64, dtype=torch.uint8), columns)
    for found in (views(piece, columns), to_device(columns, torch.device("cpu"))):
        for column, tensor in zip(columns, found, strict=True):
            assert tensor.dtype == torch.from_numpy(column).dtype
            assert np.array_equal(tensor.numpy(), column)

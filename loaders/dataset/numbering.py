"""Rows of several columns as one number each: what is named by a speaker and a video, say, by one number."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def numbered(*columns: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
    """Equal rows, equal numbers: 0, 1, … in the rows' order, in which the first column decides, then the next.

    A column that those before it determine changes no number.

    Args:
        columns: (n,) each, n below 2³¹.
    """
    order = np.lexsort(columns[::-1])
    numbers = np.empty(len(order), np.int32)
    numbers[order] = numbered_in_order(order, columns)
    return numbers


def numbered_in_order(order: NDArray[np.integer[Any]], columns: Sequence[NDArray[np.integer[Any]]]) -> NDArray[Any]:
    """The same for a list that is sorted by these columns already: (n,) for its places.

    Args:
        order: (n,) the row at each place.
        columns: (n,) each, of rows.
    """
    begins = np.zeros(len(order), np.bool_)
    for column in columns:
        ordered = column[order]
        begins[1:] |= ordered[1:] != ordered[:-1]
    return np.cumsum(begins)

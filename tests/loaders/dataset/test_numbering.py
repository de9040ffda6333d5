"""Equal rows have equal numbers, in the rows' order; what is known already changes none."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loaders.dataset.numbering import numbered, numbered_in_order

ROWS = st.lists(st.tuples(*3 * [st.integers(0, 3)]), max_size=20)


@given(ROWS)
def test_numbers_are_the_ranks_of_the_rows(rows: list[tuple[int, int, int]]) -> None:
    ranks = {row: rank for rank, row in enumerate(sorted(set(rows)))}
    columns = np.array(rows, np.int32).reshape(-1, 3).T
    numbers = numbered(*columns)
    assert numbers.dtype == np.int32
    assert numbers.tolist() == [ranks[row] for row in rows]
    order = np.lexsort(columns[::-1])
    assert numbered_in_order(order, columns).tolist() == sorted(numbers.tolist())


@given(st.lists(st.integers(0, 9), max_size=20), st.lists(st.integers(0, 9), min_size=10, max_size=10))
def test_a_column_that_another_determines_changes_nothing(names: list[int], of_name: list[int]) -> None:
    """As where every video's name is one speaker's."""
    video = np.array(names, np.int32)
    speaker = np.array(of_name, np.int32)[video]
    assert numbered(video, speaker).tolist() == numbered(video).tolist()
    _, codes = np.unique(video, return_inverse=True)
    assert numbered(codes, speaker).tolist() == codes.tolist()

"""A build that saw hardly any face says what else it can crop."""

from hypothesis import given
from hypothesis import strategies as st

from sharding.packing.faceless import NO_FACE, faceless_line


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_it_is_said_where_more_than_half_have_none_for_that_reason(faceless: int, short: int, kept: int) -> None:
    line = faceless_line({NO_FACE: faceless, "too_short": short}, faceless + short + kept)
    assert (line is not None) == (faceless > short + kept)
    if line is not None:
        assert line.startswith(f"in {faceless} of {faceless + short + kept} utterances")
        assert "--crop centre" in line

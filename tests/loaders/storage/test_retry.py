"""What fails for a while is asked for again, each time after a longer wait; what fails for good is told at once."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.errors import InputError
from loaders.storage.retry import ATTEMPTS, LONGEST, pause, persist


@given(st.integers(0, 10_000), st.floats(0.001, 10))
def test_waits_grow_and_have_a_limit(attempt: int, first: float) -> None:
    assert 0 < pause(attempt, first) <= pause(attempt + 1, first) <= LONGEST


@pytest.mark.parametrize("failures", [0, 1, ATTEMPTS - 1])
def test_what_fails_for_a_while_is_asked_for_again_and_every_failure_is_said(
    failures: int, caplog: pytest.LogCaptureFixture
) -> None:
    slept: list[float] = []
    left = [ConnectionError(f"failure {number}") for number in range(failures)]

    def attempt() -> str:
        if left:
            raise left.pop(0)
        return "there"

    with caplog.at_level(logging.WARNING):
        assert persist(attempt, "s3://b/x", sleep=slept.append) == "there"
    assert slept == [pause(number) for number in range(failures)]
    assert [f"failure {number}" in record.getMessage() for number, record in enumerate(caplog.records)] == [
        True
    ] * failures


@pytest.mark.parametrize(
    ("error", "asked"),
    [(ConnectionError("out"), ATTEMPTS), (OSError("a\nb"), ATTEMPTS), (PermissionError("no"), 1), (InputError("x"), 1)],
)
def test_what_fails_for_good_is_one_line(error: Exception, asked: int) -> None:
    tried: list[None] = []

    def attempt() -> None:
        tried.append(None)
        raise error

    with pytest.raises(InputError) as refused:
        persist(attempt, "s3://b/x", sleep=lambda seconds: None)
    assert len(tried) == asked
    assert "\n" not in str(refused.value)

"""How a command ends with an error, and what the error carries there."""

import errno
import pickle
from pathlib import Path

import pytest

from loaders.errors import TRY_AGAIN, WRONG_INPUT, InputError, as_one_line, first_line, reported
from loaders.storage.retry import persist
from sharding.sources.read_errors import SourceError, failures_named

PATH = Path("/data/vox")


def status_of(error: BaseException) -> object:
    with pytest.raises(SystemExit) as ended, reported():
        raise error
    return ended.value.code


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("kind", [InputError, SourceError])
def test_an_error_is_made_of_its_parts_and_comes_whole_to_another_process(kind: type[InputError], again: bool) -> None:
    made = kind(PATH, "not there: at all", "build it", try_again=again)
    for error in (made, pickle.loads(pickle.dumps(made))):
        assert type(error) is kind
        assert str(error) == "/data/vox: not there: at all: build it"
        assert (error.subject, error.problem, error.mend) == ("/data/vox", "not there: at all", "build it")
        assert error.try_again is again
        assert status_of(error) == error.exit_status == (TRY_AGAIN if again else WRONG_INPUT)


def test_one_line_will_do() -> None:
    error = InputError("/data/vox: not there: build it")
    assert (error.subject, error.problem, error.mend) == ("", str(error), "")
    assert status_of(error) == 2
    with pytest.raises(TypeError, match="together"):
        InputError(PATH, "not there")


def test_another_name_for_what_an_error_names(capsys: pytest.CaptureFixture[str]) -> None:
    error = InputError(PATH / "train", "gone", "look into /data", try_again=True)
    other = error.renamed(str(PATH), "s3://bucket/vox")
    assert str(other) == "s3://bucket/vox/train: gone: look into /data"
    assert (other.subject, other.try_again) == ("s3://bucket/vox/train", True)
    assert str(error) == "/data/vox/train: gone: look into /data"
    assert status_of(other) == 75
    assert capsys.readouterr().err == f"error: {other}\n"


@pytest.mark.parametrize(("failure", "status"), [(TimeoutError("slow"), 75), (PermissionError("no right"), 2)])
def test_a_store_that_fails_is_worth_another_try_and_one_that_refuses_is_not(failure: Exception, status: int) -> None:
    def attempt() -> None:
        raise failure

    with pytest.raises(InputError) as failed:
        persist(attempt, "s3://bucket/vox", attempts=2, sleep=lambda _: None)
    assert status_of(failed.value) == status


def test_a_file_system_that_fails_is_worth_another_try() -> None:
    with pytest.raises(SourceError) as failed, failures_named(PATH):
        raise OSError(errno.ESTALE, "Stale file handle", str(PATH))
    assert status_of(failed.value) == 75


def test_what_failed_in_one_line() -> None:
    assert first_line(ValueError("\n  a \nb")) == "a"
    assert first_line(ValueError("\n \n")) == first_line(ValueError()) == "ValueError"
    assert as_one_line("a\n  b\tc", 5) == "a b c"
    assert as_one_line("abcdef", 5) == "abcde…"


def test_ctrl_c_is_no_error_of_the_input() -> None:
    assert status_of(KeyboardInterrupt()) == 130

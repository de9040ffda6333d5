"""What tests of several packages share."""

import dataclasses
import os
from collections.abc import Generator
from pathlib import Path

# Triton's kernels run in its interpreter where there is no GPU. It must be said before they are imported.
if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"

import pytest
from hypothesis import settings

from loaders.decode import dali
from tests.datasets import CONTENTS, make_dataset

DALI = dali.is_installed()

# No deadline: how long an example takes is the machine's affair. The same examples in every run: a failure can be
# repeated, and a change is not blamed for what luck found.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--full`` runs the tests that scale at full size: more kills, more clips, minutes instead of seconds."""
    parser.addoption("--full", action="store_true", help="tests that scale run at full size, for minutes")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    """A fixture that needs DALI."""
    return (yield from _skipped_without_dali())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """A test that needs DALI."""
    return (yield from _skipped_without_dali())


def _skipped_without_dali() -> Generator[None, object, object]:
    """Where DALI, an extra, is not installed, what fails for want of it is skipped: it says what would install it."""
    try:
        return (yield)
    except Exception as error:
        if not DALI and dali.mend() in str(error):
            pytest.skip(f"DALI is not installed: {dali.mend()}")
        raise


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether tests that scale run at full size."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def namesakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small dataset, but that all speakers' videos have the same names; for reading only."""
    folder = tmp_path_factory.mktemp("datasets") / "namesakes"
    make_dataset(folder, dataclasses.replace(CONTENTS, each_speakers_own=True))
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset with the splits train and test, for reading only: who damages one makes a copy first."""
    folder = tmp_path_factory.mktemp("datasets") / "small"
    make_dataset(folder)
    return folder

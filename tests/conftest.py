"""What tests of several packages share."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.datasets import make_dataset

# No deadline: how long an example takes is the machine's affair. The same examples in every run: a failure can be
# repeated, and a change is not blamed for what luck found.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset with the splits train and test, for reading only: who damages one makes a copy first."""
    folder = tmp_path_factory.mktemp("datasets") / "small"
    make_dataset(folder)
    return folder

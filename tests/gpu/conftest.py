"""Tests that need an NVIDIA GPU; elsewhere they are collected, and skipped with the reason.

A GPU is dear: all of them are to take two minutes and a half. What many tests compare with is decoded once; and several
processes share the GPU, but for tests that measure its memory or keep it busy:

    python -m pytest tests/gpu -n 8 --dist loadgroup -m "not alone"
    python -m pytest tests/gpu -n 0 -m alone
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch

from sharding.settings import BuildSettings
from tests.datasets import CONTENTS, make_dataset


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            item.add_marker(pytest.mark.skipif(not torch.cuda.is_available(), reason=_why_not()))


def _why_not() -> str:
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    return "there is no NVIDIA GPU that torch can use"


@pytest.fixture(autouse=True)
def _few_trials(request: pytest.FixtureRequest) -> Iterator[None]:
    """A loader that decodes on the GPU tries it first, in a pipeline that takes seconds to make and is thrown away.

    Tests in which nothing depends on it say at once that it decodes; ``real_trials`` are short ones.
    """
    real = request.node.get_closest_marker("real_trials") is not None
    trial = mock.patch("loaders.decode.placement._SECONDS", 0.02)
    with trial if real else mock.patch("loaders.decode.placement.Trial.__call__", return_value=1.0):
        yield


@pytest.fixture(scope="session")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 16 frames of 224×224, 4:2:0, as published corpora are built."""
    folder = tmp_path_factory.mktemp("datasets") / "full_size"
    make_dataset(folder, replace(CONTENTS, speakers={"train": 3, "test": 1}), BuildSettings())
    return folder


@pytest.fixture(scope="session")
def full_colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small clips, 4:4:4 and FLAC."""
    folder = tmp_path_factory.mktemp("datasets") / "full_colour"
    make_dataset(folder, CONTENTS, BuildSettings(size=48, subsampling="4:4:4", audio_format="flac"))
    return folder

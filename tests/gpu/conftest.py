"""Tests that need an NVIDIA GPU; elsewhere they are collected, and skipped with the reason.

A GPU is dear: all of them are to take two minutes and a half. What many tests compare with is decoded once.
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


@pytest.fixture(scope="module", autouse=True)
def _short_trials() -> Iterator[None]:
    """Every loader that decodes on the GPU tries it first, for half a second: what it finds does not matter here."""
    with mock.patch("loaders.placement._SECONDS", 0.02):
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

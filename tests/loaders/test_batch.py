"""A batch's fields by name, and what moves it."""

import logging
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from loaders import Batch, ClipLoader
from loaders.batch import _say_unpinned
from tests.batches import tensors


@pytest.fixture(scope="module")
def batch(dataset: Path) -> Batch:
    with ClipLoader(dataset, batch_size=4, threads=1, targets=("emotion",)) as loader:
        return next(iter(loader))


def test_a_field_by_its_name_is_the_attribute(batch: Batch) -> None:
    assert list(batch.keys()) == list(batch.as_dict())
    for name in batch.keys():  # noqa: SIM118 - a batch is no mapping: its length is that of the examples
        assert name in batch
        assert batch[name] is getattr(batch, name)
    assert batch["targets"]["emotion"] is batch.targets["emotion"]
    assert "emotion" not in batch


def test_keyword_arguments_and_a_dictionary_take_a_batch_as_it_is(batch: Batch) -> None:
    def model(video: torch.Tensor, audio: torch.Tensor, **others: Any) -> tuple[torch.Tensor, torch.Tensor, set[str]]:
        return video, audio, set(others)

    video, audio, others = model(**batch)
    assert video is batch.video
    assert audio is batch.audio
    assert others == set(batch.keys()) - {"video", "audio"}
    again = tensors(Batch(**dict(batch)))
    assert all(one is other for (_, one), (_, other) in zip(again, tensors(batch), strict=True))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("vidoe", r"no field 'vidoe': there are video, audio"),
        ("emotion", r"it is batch\['targets'\]\['emotion'\]"),
    ],
)
def test_a_name_that_is_no_field_is_told_with_those_that_are(batch: Batch, name: str, told: str) -> None:
    with pytest.raises(KeyError, match=told):
        batch[name]


def test_slices_are_of_examples_and_nothing_else_is_an_index(batch: Batch) -> None:
    assert batch[1:3].clip.tolist() == batch.clip.tolist()[1:3]
    assert batch[:0].targets["emotion"].shape == (0,)
    for other in (0, (1, 2), None):
        with pytest.raises(TypeError, match="by the name of a field, or by a slice"):
            batch[other]  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="by the name of a field"):
        list(batch)


@pytest.fixture
def _nothing_said_yet() -> None:
    _say_unpinned.cache_clear()


@pytest.mark.usefixtures("_nothing_said_yet")
def test_pinning_where_there_is_no_gpu_is_the_same_batch_and_says_why_once(
    batch: Batch, caplog: pytest.LogCaptureFixture
) -> None:
    with mock.patch("torch.accelerator.is_available", return_value=False), caplog.at_level(logging.INFO, "loaders"):
        assert batch.pin_memory() is batch
        assert batch.pin_memory() is batch
    assert [record.message for record in caplog.records] == [
        "a batch is not pinned: torch can use no GPU here; pin_memory has no effect"
    ]


@pytest.mark.usefixtures("_nothing_said_yet")
def test_pinning_what_is_not_in_host_memory_is_the_same_batch_and_says_why(
    batch: Batch, caplog: pytest.LogCaptureFixture
) -> None:
    """As of batches that a GPU holds; "meta" is a device that every torch has."""
    elsewhere = batch.to("meta")
    with caplog.at_level(logging.INFO, "loaders"):
        assert elsewhere.pin_memory() is elsewhere
    assert [record.message for record in caplog.records] == [
        "a batch is not pinned: it lies on meta already; pin_memory has no effect"
    ]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_pinning_in_host_memory_pins_every_tensor(batch: Batch) -> None:
    assert all(tensor.is_pinned() for _, tensor in tensors(batch.pin_memory()))

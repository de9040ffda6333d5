"""Figures as text: by the format's grammar, every figure once, to the last bit."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.exposition import Metric, as_json_lines, as_text, loader_metrics
from loaders.stats import LoaderStats
from tests.exposition import parsed

STATS = LoaderStats(
    **{
        field.name: {int: 3 + place, float: (3 + place) / 7, str: "turbo"}[field.type]  # type: ignore[index]
        for place, field in enumerate(fields(LoaderStats))
    }
)
NOT_NUMBERS = {"decoder", "decoder_reason"}


@given(
    st.text(),
    st.dictionaries(st.sampled_from(["rank", "split", "reason", "_x"]), st.text(st.characters(codec="utf-8"))),
    st.one_of(st.integers(0, 1 << 62), st.floats(0, allow_nan=False)),
)
def test_any_text_and_number_comes_back(says: str, labels: dict[str, str], value: float) -> None:
    text = as_text([Metric(name="filmstrip_a_total", kind="counter", says=says, value=value, labels=labels)])
    assert parsed(text) == {("filmstrip_a_total", tuple(sorted(labels.items()))): float(value)}


def test_every_number_that_a_loader_counts_is_there_once_and_to_the_last_bit() -> None:
    found = parsed(as_text(loader_metrics(STATS, {"rank": "0", "split": "train"})))
    for name, labels in found:
        assert name.startswith("filmstrip_loader_")
        assert dict(labels).items() >= {("rank", "0"), ("split", "train")}
    told = sorted(value for (name, _), value in found.items() if not name.endswith("_info"))
    numbers = [getattr(STATS, field.name) for field in fields(LoaderStats) if field.name not in NOT_NUMBERS]
    assert told == sorted([*numbers, STATS.clips_per_second, STATS.data_wait_share])
    [decoder] = [dict(labels)["decoder"] for name, labels in found if name.endswith("_info")]
    assert decoder == "turbo"


def test_samples_of_a_name_stand_together_whatever_order_they_come_in() -> None:
    train, test = (loader_metrics(STATS, {"split": split}) for split in ("train", "test"))
    mixed = [metric for pair in zip(train, test, strict=True) for metric in pair]
    assert parsed(as_text(mixed)) == parsed(as_text([*train, *test]))


def test_what_prometheus_would_refuse_is_refused_here() -> None:
    good = Metric(name="filmstrip_a_total", kind="counter", says="A.", value=1)
    for bad, why in (
        ([good, good], "twice"),
        ([good, replace(good, labels={"a": "b"}, says="B.")], "two texts"),
        ([replace(good, name="filmstrip a_total")], "not what a counter is called"),
        ([replace(good, name="filmstrip_a")], "not what a counter is called"),
        ([replace(good, kind="gauge")], "not what a gauge is called"),
        ([replace(good, labels={"__a": "b"})], "not what a label is called"),
    ):
        with pytest.raises(ValueError, match=why):
            as_text(bad)


def test_json_lines_have_the_labels_beside_the_numbers() -> None:
    metrics = loader_metrics(replace(STATS, first_batch=math.nan), {"rank": "1"})
    lines = [json.loads(line, parse_constant=pytest.fail) for line in as_json_lines(metrics, 12.5).splitlines()]
    assert all(line["time"] == 12.5 and line["rank"] == "1" for line in lines)
    assert lines[0]["filmstrip_loader_clips_total"] == STATS.clips
    assert lines[0]["filmstrip_loader_first_batch_seconds"] is None
    assert [line["decoder"] for line in lines[1:]] == ["cpu", "gpu", "turbo"]

"""The settings of each stage: groups, options, checks."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.errors import InputError
from models.training.config import (
    DataConfig,
    EvaluateConfig,
    FinetuneConfig,
    PretrainConfig,
    RunConfig,
    ScheduleConfig,
    TargetsConfig,
    TrainingDataConfig,
    ValidationConfig,
    as_data,
    check,
    check_targets,
    flat,
    options_of,
    required_of,
    with_local_paths,
)
from models.training.tasks.registry import stages
from tests.datasets import LABELS

PRETRAIN = PretrainConfig(data=TrainingDataConfig(data=("vox",)), run=RunConfig(output=Path("run")))


def test_an_option_means_the_same_at_every_stage() -> None:
    kinds: dict[str, set[object]] = {}
    for config in stages().values():
        for name, kind in options_of(config).items():
            kinds.setdefault(name, set()).add(kind)
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}


def test_what_has_no_default_is_required() -> None:
    assert [sorted(required_of(config)) for config in stages().values()] == [
        ["data", "output"],
        ["data", "output"],
        ["checkpoint", "data"],
    ]


def test_all_values_are_recorded_but_for_what_is_not_repeated() -> None:
    recorded = as_data(PRETRAIN)
    json.dumps(recorded)
    names = {name for group in recorded.values() for name in group}
    once = {"resume", "change", "metrics"}
    assert names == set(flat(PRETRAIN)) - once == set(options_of(PretrainConfig)) - once


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("data", "batch_size", 1),
        ("data", "seed", 1 << 32),
        ("data", "seed", -1),
        ("data", "data", ("a", "./a")),
        ("data", "weights", (1.0, 2.0)),
        ("data", "weights", (0.0,)),
        ("data", "node_groups", 0),
        ("network", "gaze_dropout", 1.5),
        ("network", "frame_size", 8),
        ("schedule", "warmup_steps", -5),
        ("schedule", "epochs", 0),
        ("optimizer", "learning_rate", math.nan),
        ("optimizer", "learning_rate", 0.0),
        ("optimizer", "weight_decay", math.inf),
        ("optimizer", "tower_learning_rate", 0.0),
        ("loader", "cache_gb", -1.0),
        ("validation", "validate_every", 0),
        ("validation", "patience", 0),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(group: str, name: str, value: object) -> None:
    check(PRETRAIN)
    changed = replace(PRETRAIN, **{group: replace(getattr(PRETRAIN, group), **{name: value})})
    with pytest.raises(InputError, match="--" + name.replace("_", "-")):
        check(changed)


def test_an_option_that_another_one_makes_void_is_refused() -> None:
    finetune = FinetuneConfig(data=PRETRAIN.data, run=PRETRAIN.run)
    no_triplet = replace(finetune, triplet=replace(finetune.triplet, alpha=0.0))
    no_gaze = replace(PRETRAIN, network=replace(PRETRAIN.network, gaze=False))
    started = replace(finetune, network=replace(finetune.network, init=Path("run")))
    for config, option in (
        (no_triplet, "margin"),
        (no_gaze, "gaze_dropout"),
        (started, "preset"),
        (PRETRAIN, "change"),
        *((PRETRAIN, option) for option in ("validation_fraction", "validation_split", "patience", "select_by")),
        (finetune, "freeze_stages"),
        (PRETRAIN, "cache"),
    ):
        check(config)
        with pytest.raises(InputError, match=f"--{option.replace('_', '-')} has no effect"):
            check(config, {option})


def test_validation_wants_clips_from_one_place() -> None:
    def validated(**options: Any) -> PretrainConfig:
        return replace(PRETRAIN, validation=ValidationConfig(validate_every=5, **options))

    check(validated(validation_fraction=0.1, patience=2, select_by="accuracy"))
    check(validated(validation_split="third"))
    with pytest.raises(InputError, match="neither is given"):
        check(validated())
    with pytest.raises(InputError, match="both are given"):
        check(validated(validation_fraction=0.1, validation_split="third"))
    for fraction in (0.0, 1.0, math.nan):
        with pytest.raises(InputError, match="--validation-fraction is"):
            check(validated(validation_fraction=fraction))


def test_what_does_nothing_for_the_targets_is_refused() -> None:
    emotion, _, valence = LABELS
    finetune = FinetuneConfig(data=PRETRAIN.data, run=PRETRAIN.run)
    check_targets(finetune, (emotion, valence), {"alpha", "number_loss"})
    for targets, option in (
        ((valence,), "alpha"),
        ((valence,), "margin"),
        ((valence,), "triplet_reduction"),
        ((valence,), "class_weights"),
        ((emotion,), "number_loss"),
    ):
        check_targets(finetune, targets)
        with pytest.raises(InputError, match=f"--{option.replace('_', '-')} has no effect without a target"):
            check_targets(finetune, targets, {option})
    weighted = replace(finetune, targets=TargetsConfig(target_weights=(1.0, 0.5)))
    check_targets(weighted, (emotion, valence))
    with pytest.raises(InputError, match="--target-weights has 2 numbers for emotion: give each one"):
        check_targets(weighted, (emotion,))
    with pytest.raises(InputError, match=r"--target-weights is .*use more than 0"):
        check(replace(finetune, targets=TargetsConfig(target_weights=(1.0, -0.5))))


def test_a_url_of_this_machine_is_a_path_wherever_it_stands() -> None:
    data = DataConfig(data=("file:///data/vox", "s3://bucket/vox"))
    local = with_local_paths(EvaluateConfig(checkpoint=Path("file:/runs/a"), data=data))
    assert local.checkpoint == Path("/runs/a")
    assert local.data.data == ("/data/vox", "s3://bucket/vox")
    with pytest.raises(InputError, match="--output"):
        with_local_paths(replace(PRETRAIN, run=RunConfig(output=Path("s3://bucket/run"))))


@given(st.integers(1, 50), st.integers(1, 400), st.sampled_from(["step", "cosine"]), st.integers(0, 60))
def test_the_rate_rises_once_and_falls_then(epoch: int, total: int, schedule: str, warmup: int) -> None:
    config = ScheduleConfig(schedule=schedule, warmup_steps=warmup)  # type: ignore[arg-type]
    rates = [config.learning_rate(0.1, step, steps_an_epoch=epoch, total=total) for step in range(total)]
    assert all(0 < rate <= 0.1 for rate in rates)
    after = rates[warmup:]
    assert after == sorted(after, reverse=True)
    if warmup == 0:
        assert rates[0] == pytest.approx(0.1)

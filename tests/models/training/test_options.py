"""An option that has no effect is an error."""

from __future__ import annotations

from dataclasses import fields

import pytest

import train
from loaders.errors import InputError
from models.training.options import STAGES, given, require_effect

NAMES = [field.name for field in fields(train.Settings)]


def test_every_option_of_the_program_has_its_stages() -> None:
    assert sorted(STAGES) == sorted(NAMES)
    assert all(stages for stages in STAGES.values())


def test_what_was_given_is_told_from_defaults_of_the_same_value() -> None:
    line = ["--stage", "pretrain", "--alpha=0.1", "--no-gaze", "--batch_size", "32", "--data", "a", "b", "--no-resume"]
    assert given(line, NAMES) == {"stage", "alpha", "gaze", "batch_size", "data", "resume"}
    assert given(["--help", "--nothing"], NAMES) == set()


@pytest.mark.parametrize("name", NAMES)
def test_an_option_is_refused_at_every_stage_where_it_does_nothing(name: str) -> None:
    for stage in ("pretrain", "finetune", "evaluate"):
        if stage in STAGES[name]:
            require_effect(stage, [name])
        else:
            with pytest.raises(
                InputError, match=f"--{name.replace('_', '-')} has no effect at --stage {stage}, only at"
            ):
                require_effect(stage, [name])

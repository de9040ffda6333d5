"""An option that has no effect is an error."""

from __future__ import annotations

import pytest

from loaders.errors import InputError
from models.training.config import options_of
from models.training.options import given, require_effect
from models.training.tasks.registry import stages

KNOWN = {stage: options_of(config) for stage, config in stages().items()}
NAMES = sorted({name for names in KNOWN.values() for name in names})


def test_what_was_given_is_told_from_defaults_of_the_same_value() -> None:
    line = ["--alpha=0.1", "--no-gaze", "--batch_size", "32", "--data", "a", "b", "--no-resume"]
    assert given(line, NAMES) == {"alpha", "gaze", "batch_size", "data", "resume"}
    assert given(["--help", "--nothing"], NAMES) == set()


@pytest.mark.parametrize("name", NAMES)
def test_an_option_is_refused_at_every_stage_where_it_does_nothing(name: str) -> None:
    for stage, names in KNOWN.items():
        if name in names:
            require_effect(stage, [name], KNOWN)
        else:
            with pytest.raises(
                InputError, match=f"--{name.replace('_', '-')} has no effect at --stage {stage}, only at"
            ):
                require_effect(stage, [name], KNOWN)

"""Objectives are found by name, and a run's is made again from what run.json says of it."""

from __future__ import annotations

import pytest

from loaders.errors import InputError
from models.objectives.infonce import InfoNCEConfig
from models.objectives.registry import DEFAULT, from_json, objective, objectives, settings_of, to_json


def test_what_is_described_is_read_back() -> None:
    for name, kind in objectives().items():
        assert from_json(to_json(name, kind())) == kind()
    changed = InfoNCEConfig(temperature=0.5, mask="speaker")
    assert from_json(to_json("infonce", changed)) == changed
    assert from_json(None) == settings_of(DEFAULT)()


def test_what_there_is_not_is_an_error_in_a_line() -> None:
    with pytest.raises(InputError, match="no objective is called 'x': choose one of correspondence, infonce"):
        settings_of("x")
    with pytest.raises(InputError, match="other settings than the run's"):
        from_json({"name": "infonce", "heat": 1})
    with pytest.raises(ValueError, match="another objective is called infonce"):
        objective("infonce")(InfoNCEConfig)

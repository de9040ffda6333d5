"""What decides a run's outcome is changed by nobody in silence."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from loaders.errors import InputError
from models.training.provenance import Change, as_json, changes, versions

RUN = as_json(
    {
        "stage": "finetune",
        "gaze": True,
        "sizes": {"front_end": {"frames": 2, "augmentation": {"gaze_dropout": 0.0}}, "video": {"width": 4}},
        "targets": [{"name": "emotion", "classes": ["calm", "happy"]}, {"name": "valence", "low": -1.0, "high": 1.0}],
        "init": {"run": "here", "model_sha256": "ab", "results": {}},
        "settings": {
            "learning_rate": 1e-3,
            "schedule": "step",
            "max_steps": None,
            "epochs": 3,
            "weights": (1.0, 2.0),
            "gaze_dropout": 0.0,
        },
        "execution": {"folders": ["vox"], **versions()},
    }
)
FOLDER = Path("run")


def with_(path: str, value: Any, run: dict[str, Any] = RUN) -> dict[str, Any]:
    """The run with another value at a dotted place."""
    run = copy.deepcopy(run)
    *way, last = path.split(".")
    at = run
    for name in way:
        at = at[name]
    at[last] = value
    return run


def test_the_same_run_has_no_changes() -> None:
    assert changes(FOLDER, RUN, RUN, ()) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"settings.{name}", value)
        for name, value in (("learning_rate", 0.5), ("weights", [1.0]), ("schedule", "cosine"))
    ],
)
def test_what_decides_the_outcome_is_refused_with_both_values_unless_it_is_meant(path: str, value: Any) -> None:
    name = path.partition(".")[2]
    before = RUN["settings"][name]
    now = with_(path, value)
    with pytest.raises(InputError, match=f"--change {name.replace('_', '-')}$") as refused:
        changes(FOLDER, RUN, now, ())
    assert str(Change(name, before, value)) in str(refused.value)
    for spelt in (name, name.replace("_", "-")):
        assert changes(FOLDER, RUN, now, [spelt]) == [Change(name, before, value)]


def test_all_that_differs_is_named_at_once() -> None:
    now = with_("settings.weights", [1.0], with_("settings.learning_rate", 0.5))
    with pytest.raises(
        InputError, match=r"learning_rate was 0.001 and is 0.5, weights was \[1.0, 2.0\] and is \[1.0\]"
    ):
        changes(FOLDER, RUN, now, ())
    with pytest.raises(InputError, match="run: weights was"):
        changes(FOLDER, RUN, now, ["learning-rate"])


def test_a_longer_run_is_the_shorter_one_gone_on_with_unless_the_rate_looks_at_its_end() -> None:
    assert changes(FOLDER, RUN, with_("settings.epochs", 9), ()) == [Change("epochs", 3, 9)]
    cosine = with_("settings.schedule", "cosine")
    with pytest.raises(InputError, match="epochs was 3 and is 9"):
        changes(FOLDER, cosine, with_("settings.epochs", 9, cosine), ())


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("sizes.video.width", 8, "sizes.video.width was 4 and is 8"),
        ("gaze", False, "gaze was true and is false"),
        ("init.model_sha256", "cd", 'init was "ab" and is "cd"'),
        ("init", None, "init was"),
    ],
)
def test_a_run_keeps_its_network(path: str, value: Any, named: str) -> None:
    with pytest.raises(InputError, match="another network") as refused:
        changes(FOLDER, RUN, with_(path, value), ())
    assert named in str(refused.value)


@pytest.mark.parametrize("path", ["init.run", "sizes.front_end.augmentation.gaze_dropout"])
def test_where_the_towers_lie_and_how_clips_are_augmented_makes_no_other_network(path: str) -> None:
    assert changes(FOLDER, RUN, with_(path, "elsewhere"), ()) == []


@pytest.mark.parametrize("name", ["folders", "torch"])
def test_what_changes_rounding_alone_may_differ_and_is_told(name: str) -> None:
    found = changes(FOLDER, RUN, with_(f"execution.{name}", "other"), ())
    assert found == [Change(name, RUN["execution"][name], "other")]


def test_a_change_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match=r"--change learning_rate: it is as it was, 0\.001"):
        changes(FOLDER, RUN, RUN, ["learning-rate"])
    again = with_("changes", [{"step": 3, "option": "learning_rate", "before": 1e-2, "after": 1e-3}])
    assert changes(FOLDER, again, RUN, ["learning-rate"]) == []  # the same command, given again after a kill
    with pytest.raises(InputError, match="--change width: not what a run can change: use one of learning_rate, "):
        changes(FOLDER, RUN, RUN, ["width"])


def test_a_run_that_did_not_write_down_its_settings_is_not_gone_on_with() -> None:
    with pytest.raises(InputError, match="older version"):
        changes(FOLDER, {"stage": "pretrain", "seed": 0}, RUN, ())


def test_a_run_keeps_its_targets_and_other_classes_are_named() -> None:
    """A number's range may grow with its dataset: what it means is the same."""
    emotion, valence = RUN["targets"]
    wider = [emotion, valence | {"high": 2.0}]
    assert changes(FOLDER, RUN, with_("targets", wider), ()) == []
    for targets, what in (
        ([emotion | {"classes": ["calm", "sad"]}, valence], "emotion lacks class 'happy' and has the new class 'sad'"),
        ([emotion], "targets was emotion, valence and is emotion"),
        ([valence, emotion], "targets was emotion, valence and is valence, emotion"),
        ([emotion, valence | {"classes": ["low", "high"], "low": None, "high": None}], "valence was a number and is"),
    ):
        with pytest.raises(InputError, match=f"another network: {what}.*give another --output"):
            changes(FOLDER, RUN, with_("targets", targets), ())

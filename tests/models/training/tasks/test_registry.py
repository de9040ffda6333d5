"""The stages of train.py."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from loaders.errors import InputError
from models.training.config import EvaluateConfig, FinetuneConfig, PretrainConfig
from models.training.tasks.correspondence import Correspondence
from models.training.tasks.registry import registered, stage, stages, task_of_run
from models.training.tasks.targets import Targets


def test_every_task_is_a_stage_and_scores_its_runs() -> None:
    known = {"pretrain": PretrainConfig, "finetune": FinetuneConfig, "evaluate": EvaluateConfig}
    assert {name: config for name, config in stages().items() if name in known} == known
    assert (registered()["pretrain"].task, registered()["finetune"].task) == (Correspondence, Targets)
    assert all(found.task.stage == name == found.config.stage for name, found in registered().items())
    assert isinstance(task_of_run({"stage": "pretrain"}), Correspondence)
    assert isinstance(task_of_run({"stage": "finetune", "init": None}), Targets)
    with pytest.raises(InputError, match="a run of stage dream, which is none of pretrain, finetune"):
        task_of_run({"stage": "dream"})


@pytest.mark.parametrize("name", ["pretrain", "evaluate"])
def test_a_name_is_one_stage(name: str) -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Other(PretrainConfig):
        """Another."""

        stage: ClassVar[str] = name

    with pytest.raises(ValueError, match=f"is called {name}, too"):
        stage(Other)(Correspondence)

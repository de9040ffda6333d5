"""The stages of ``train.py``: a module of this package each, and the scoring of finished runs.

A stage is a task and its settings, which are those of pre-training or of fine-tuning, and more. `stage` registers it;
nothing else has to know of it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

import models.training.tasks
from loaders.errors import InputError
from models.training.config import EvaluateConfig, FinetuneConfig, PretrainConfig, StageConfig
from models.training.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Registered:
    """A stage that trains."""

    config: type[PretrainConfig | FinetuneConfig]  #: its settings: what it is for, and the options of ``train.py``
    task: type[Task]


T = TypeVar("T", bound=Task)
_REGISTERED: dict[str, Registered] = {}


def stage(config: type[PretrainConfig | FinetuneConfig]) -> Callable[[type[T]], type[T]]:
    """Register the decorated task as what ``train.py --stage NAME`` trains: `config.stage` is the name.

    Raises:
        ValueError: another task has the name.
    """

    def register(task: type[T]) -> type[T]:
        if config.stage in (*_REGISTERED, EvaluateConfig.stage):
            raise ValueError(f"{task.__module__}: another stage is called {config.stage}, too")
        _REGISTERED[config.stage] = Registered(config, task)
        return task

    return register


def registered() -> Mapping[str, Registered]:
    """All stages that train, by name, in the order of their modules."""
    for module in pkgutil.iter_modules(models.training.tasks.__path__):
        import_module(f"{models.training.tasks.__name__}.{module.name}")
    return dict(sorted(_REGISTERED.items(), key=lambda item: item[1].task.__module__))


def stages() -> Mapping[str, type[StageConfig]]:
    """The settings of every stage, by name."""
    training: dict[str, type[StageConfig]] = {name: found.config for name, found in registered().items()}
    return training | {EvaluateConfig.stage: EvaluateConfig}


def task_of(config: PretrainConfig | FinetuneConfig) -> Task:
    """What a stage trains."""
    return registered()[config.stage].task.of(config)


def task_of_run(run: Mapping[str, Any], *, rounds: int = 1) -> Task:
    """The task of a finished run, to score it: ``run`` is its run.json, ``rounds`` is for pairs.

    Raises:
        InputError: its stage is none of this program's.
    """
    found = registered().get(run["stage"])
    if found is None:
        raise InputError(f"a run of stage {run['stage']}, which is none of {', '.join(registered())}: train it again")
    return found.task.of_run(run, rounds=rounds)

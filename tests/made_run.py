"""A run's folder without a training: the smallest network with its first weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from models.frontend.front_end import FrontEnd
from models.systems.presets import ModelConfig, preset_to_json, target_net
from models.training.labels import to_json
from models.training.runs import describe_run, save_model
from sharding.settings import BuildSettings
from tests.datasets import LABELS
from tests.presets import SMALLEST

SETTINGS = BuildSettings(size=32)


def built(settings: BuildSettings) -> dict[str, Any]:
    """What run.json says of a dataset."""
    return {"corpus": "own", "clips": 3, "speakers": 2, "settings": dataclasses.asdict(settings)}


def make_run(
    folder: Path, settings: BuildSettings | None = SETTINGS, window: int | None = None, sizes: ModelConfig = SMALLEST
) -> Path:
    """A fine-tuned run by its looks, trained on clips of these settings; None: of an older version."""
    folder.mkdir()
    torch.manual_seed(0)
    described: dict[str, Any] = {
        "stage": "finetune",
        "gaze": True,
        "sizes": preset_to_json(sizes),
        "init": None,
        "targets": to_json(LABELS),
        "config": {"data": {"window": window, "data": [str(folder.parent / "dataset")]}},
        "settings": {"gaze_dropout": 0.3, "mixed_precision": "no"},
    }
    if settings is not None:
        described["builds"] = [built(settings)]
        described["gaze_tracker"] = settings.gaze
    describe_run(folder, described, Accelerator())
    front_end = FrontEnd(sizes.front_end, gaze_mean=torch.zeros(103), gaze_std=torch.ones(103))
    save_model(folder, front_end, target_net(sizes, LABELS))
    return folder

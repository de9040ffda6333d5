"""In what precision a run is evaluated: that of its training, or what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerate import Accelerator, PartialState

from loaders.errors import InputError
from models.training.config import Precision, PrecisionConfig
from models.training.curves import say
from models.training.provenance import SETTINGS


def evaluated_in(run: Mapping[str, Any], config: PrecisionConfig) -> Precision:
    """The precision for a run's evaluation.

    Args:
        run: its run.json.
        config: what was asked for. What accelerate launch was told does not count: it always names one.
    """
    if config.mixed_precision is not None:
        return config.mixed_precision
    trained = trained_in(run)
    on_cpu = PartialState().device.type == "cpu"
    return "no" if trained is None or (trained == "fp16" and on_cpu) else trained


def trained_in(run: Mapping[str, Any]) -> Precision | None:
    """The precision that a run was trained in; None where an older version did not write it down."""
    settings = run.get(SETTINGS)
    trained = settings.get("mixed_precision") if isinstance(settings, dict) else None
    for known in ("no", "fp16", "bf16"):
        if trained == known:
            return known
    return None


def tell_precision(accelerator: Accelerator, run: Mapping[str, Any]) -> None:
    """Say so where a run is evaluated in another precision than it was trained in."""
    trained, now = trained_in(run), accelerator.mixed_precision
    if trained is None:
        say(accelerator, f"evaluated in {_told(now)}; the run does not say in what it was trained")
    elif trained != now:
        say(accelerator, f"evaluated in {_told(now)}; trained in {_told(trained)}")


def require_precision(accelerator: Accelerator) -> None:
    """Raise InputError where the device cannot compute so: accelerate would say nothing, and compute in float32."""
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise InputError("--mixed-precision fp16 needs a GPU, on a CPU nothing would be float16: use bf16 or no")


def _told(precision: str) -> str:
    return {"no": "float32", "fp16": "float16", "bf16": "bfloat16"}[precision]

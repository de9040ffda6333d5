"""In what precision a run is evaluated."""

from typing import Any
from unittest.mock import Mock

import pytest
import torch

from loaders.errors import InputError
from models.training.config import Precision, PrecisionConfig
from models.training.precision import evaluated_in, require_precision, tell_precision


@pytest.mark.parametrize(
    ("trained", "asked", "device", "precision"),
    [
        ("bf16", None, "cpu", "bf16"),
        ("bf16", "no", "cpu", "no"),
        ("no", "bf16", "cpu", "bf16"),
        ("fp16", None, "cuda", "fp16"),
        ("fp16", None, "cpu", "no"),
        (None, None, "cpu", "no"),
    ],
)
def test_it_is_that_of_the_training_unless_another_is_asked_for(
    trained: str | None, asked: Precision | None, device: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.training.precision.PartialState", lambda: Mock(device=torch.device(device)))
    run: dict[str, Any] = {} if trained is None else {"settings": {"mixed_precision": trained}}
    assert evaluated_in(run, PrecisionConfig(mixed_precision=asked)) == precision


def test_another_than_the_trainings_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    accelerator = Mock(mixed_precision="no", is_main_process=True)
    for trained, said in (("no", ""), ("fp16", "evaluated in float32; trained in float16\n")):
        tell_precision(accelerator, {"settings": {"mixed_precision": trained}})
        assert capsys.readouterr().out == said
    tell_precision(accelerator, {})
    assert "the run does not say" in capsys.readouterr().out


def test_float16_on_a_cpu_is_refused() -> None:
    """accelerate computes in float32 then, and run.json would say fp16."""
    with pytest.raises(InputError, match="fp16 needs a GPU"):
        require_precision(Mock(mixed_precision="fp16", device=torch.device("cpu")))
    require_precision(Mock(mixed_precision="fp16", device=torch.device("cuda")))

"""Means between two lines of the curves."""

from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from loaders.stats import LoaderStats
from models.training.curves import Curves, told
from models.training.journal import Journal, read_metrics

NOTHING = {name: 0 if kind is int else "" if kind is str else 0.0 for name, kind in LoaderStats.__annotations__.items()}


def curves() -> Curves:
    accelerator = Mock(device=torch.device("cpu"))
    accelerator.reduce = lambda tensor, **_: tensor
    return Curves(accelerator)


def test_a_line_is_the_mean_of_all_its_steps_also_where_it_was_interrupted(tmp_path: Path) -> None:
    loader = Mock(epoch=3, stats=lambda: LoaderStats(**NOTHING))
    whole, before, after = curves(), curves(), curves()
    losses = torch.rand(5, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    for step, loss in enumerate(losses):
        for counting in (whole, before if step < 2 else after):
            if step == 2 and counting is after:
                counting.load_state_dict(before.state_dict())
            counting.add({"loss": loss, "audio": 2 * loss})
    with Journal(tmp_path, 0) as journal:
        whole.log(5, 0.1, loader, journal)
        after.log(5, 0.1, loader, journal)
    first, second = read_metrics(tmp_path)
    assert first == second
    assert first["loss"] == pytest.approx(losses.double().mean().item(), rel=1e-6)
    assert (first["epoch"], first["learning_rate"]) == (3, 0.1)


def test_right_after_a_line_its_loss_is_still_known() -> None:
    """A checkpoint may come with the line, and what is wrong with it is said with the loss."""
    counting = curves()
    counting.add({"loss": torch.tensor(0.5)})
    counting.log(1, 0.1, Mock(epoch=0, stats=lambda: LoaderStats(**NOTHING)), None)
    assert float(counting.loss) == 0.5
    counting.add({"loss": torch.tensor(float("nan"))})
    counting.add({"loss": torch.tensor(1.0)})
    assert not counting.loss.isfinite()


def test_what_a_bar_shows_is_read_without_powers_of_ten() -> None:
    stats = Mock(clips_per_second=812.3, data_wait_share=2.58e-08)
    assert told({"loss": 0.5}, stats) == {"loss": 0.5, "clips/s": 812.3, "data wait": "0.00 %"}

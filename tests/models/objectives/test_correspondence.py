"""What is minimised where sound and picture are to be told apart."""

from __future__ import annotations

import math

import pytest
import torch

from models.objectives.correspondence import correspondence_loss


def test_correspondence_loss_of_ignorance_is_one_bit() -> None:
    loss = correspondence_loss(torch.zeros(4, 2, dtype=torch.bfloat16), torch.tensor([0, 1, 1, 0]))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(math.log(2))

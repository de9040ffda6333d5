"""The MLP over functionals: of any scale, and of clips without them."""

from __future__ import annotations

import pytest
import torch

from loaders.errors import InputError
from models.towers.egemaps import EgemapsTowerConfig
from models.towers.tower import Masked


def test_the_scale_of_functionals_does_not_matter() -> None:
    """They are Hertz, decibels and ratios side by side."""
    values = torch.randn(16, 88, generator=torch.Generator().manual_seed(0))
    scale, mask = torch.logspace(-4, 4, 88), torch.ones(16, dtype=torch.bool)
    mask[3] = False
    outs = []
    for given in (values, values * scale + 100 * scale):
        torch.manual_seed(1)
        outs.append(EgemapsTowerConfig().tower()(Masked(given, mask)))
    assert outs[0].shape == (16, 128)
    torch.testing.assert_close(outs[0], outs[1], atol=5e-2, rtol=0)
    assert EgemapsTowerConfig.modality == "audio"


def test_what_is_no_88_functionals_is_refused_with_the_mend() -> None:
    with pytest.raises(InputError, match=r"takes \(88,\): build it again"):
        EgemapsTowerConfig().tower()(Masked(torch.zeros(2, 25), torch.ones(2, dtype=torch.bool)))

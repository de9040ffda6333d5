"""One thread a test process: these networks are tiny, and pytest-xdist fills the cores with processes."""

from __future__ import annotations

import torch

torch.set_num_threads(1)

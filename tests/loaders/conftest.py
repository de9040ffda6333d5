"""One thread a test process for torch: the tensors are tiny, and pytest-xdist fills the cores with processes."""

import torch

torch.set_num_threads(1)

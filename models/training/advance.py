"""A step of training: the gradient of one batch, or of several one after the other, cut to a length, and then Adam's.

Of N batches a step's gradient is the mean of theirs. Where a loss is a mean over rows, that is the gradient of one
batch N times as large. It is another where rows meet: a batch norm, a triplet loss and a concordance see one of the
batches at a time, and a mean over those rows that have a label is taken within each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from loaders import Batch
from loaders.errors import InputError
from models.frontend.front_end import FrontEnd
from models.training.tasks.task import Step

#: Of a step, the length of its gradient before it is cut.
GRADIENT_NORM = "gradient_norm"


class Advance:
    """Takes steps of training, batch by batch.

    Args:
        accelerator: for the ranks, and the scale of float16's gradients.
        optimizer: as accelerate prepared it.
        step: what is minimised on a batch, see `Task.step`.
        accumulate: batches a step.
        clip: the most that a gradient's norm may be, over all weights; a longer one is scaled down to it (Pascanu et
            al., "On the difficulty of training recurrent neural networks", ICML 2013). 0: as it is.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        optimizer: torch.optim.Optimizer,
        step: Callable[[Batch, nn.Module, FrontEnd], Step],
        *,
        accumulate: int = 1,
        clip: float = 0.0,
    ) -> None:
        require_no_accumulation(accelerator)
        self._accelerator, self._optimizer, self._step = accelerator, optimizer, step
        self._accumulate, self._clip = accumulate, clip
        self._batches = 0
        self._sums: dict[str, Tensor] = {}

    def __call__(self, batch: Batch, network: nn.Module, front_end: FrontEnd) -> Step | None:
        """Count a batch in; a step that it makes whole is taken, and returned with means over its batches.

        Returns:
            The step, with its gradient's norm among what is logged, without gradient; None as long as it is not whole.
        """
        if self._batches == 0:
            self._optimizer.zero_grad()
        self._batches += 1
        whole = self._batches == self._accumulate
        # The ranks' gradients are added up once a step.
        with nullcontext() if whole else self._accelerator.no_sync(network):
            taken = self._step(batch, network, front_end)
            self._accelerator.backward(taken.loss / self._accumulate)
        self._add({"loss": taken.loss, **taken.logged})
        if not whole:
            return None
        norm = self._norm(network)
        self._optimizer.step()
        means = {name: total / self._accumulate for name, total in self._sums.items()}
        self._batches, self._sums = 0, {}
        return Step(means.pop("loss"), {**means, GRADIENT_NORM: norm})

    def _add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            known = self._sums.get(name)
            self._sums[name] = value.detach() if known is None else known + value.detach()

    def _norm(self, network: nn.Module) -> Tensor:
        """The gradient's norm, of which no more than the most is left."""
        if self._clip:
            cut: Tensor = self._accelerator.clip_grad_norm_(network.parameters(), self._clip)
            return cut
        self._accelerator.unscale_gradients()
        gradients = [each.grad for each in network.parameters() if each.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)


def require_no_accumulation(accelerator: Accelerator) -> None:
    """Raise InputError where accelerate was told of several batches a step: it would divide the loss and no more."""
    told = accelerator.gradient_accumulation_steps
    if told != 1:
        raise InputError(
            f"accelerate was told to accumulate gradients over {told} batches: tell train.py with --accumulate {told}, "
            "and leave accelerate's gradient_accumulation_steps at 1"
        )

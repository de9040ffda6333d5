"""Validation while a network is trained: which weights are the best, and whether it is time to stop.

Every validation scores the same clips in the same pairs, and draws nothing: a training with validation takes the steps
that it would take without. What is known from one to the next is `Standing`, a few numbers that lie in each checkpoint,
with the best weights beside them. So a run that is killed, be it in the midst of a validation, and resumed keeps the
same weights and stops at the same step as one that was not.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list
from torch import Tensor, nn

from loaders import ClipLoader
from loaders.errors import InputError
from models.training.config import ValidationConfig
from models.training.journal import Journal
from models.training.tasks.task import Model, Task

#: Of results.json and run.json: what was validated on, and what was chosen by it, by stage.
SELECTED = "selected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the validations so far have found."""

    best_step: int | None = None  #: None: none yet that has a score
    best_score: float | None = None
    without_gain: int = 0  #: validations since then

    def after(self, step: int, score: float) -> Standing:
        """After one more. Of equal scores the earlier one counts; one that is no number is never the best."""
        if math.isfinite(score) and (self.best_score is None or score > self.best_score):
            return Standing(best_step=step, best_score=score)
        return Standing(best_step=self.best_step, best_score=self.best_score, without_gain=self.without_gain + 1)


class Validation:
    """Of one training."""

    def __init__(self, config: ValidationConfig, task: Task, loader: ClipLoader, accelerator: Accelerator) -> None:
        """
        Args:
            config: with ``validate_every``.
            task: scores.
            loader: of the clips to validate on; is closed by who made it.
            accelerator: for the ranks, and for the curves.
        """
        if config.validate_every is None:
            raise ValueError("how often is it to be validated?")
        self.every = config.validate_every
        self._config, self._task, self._loader, self._accelerator = config, task, loader, accelerator
        self._start = loader.state_dict()
        # What decides the scores: in order, clips and pairs are the same in batches of any size.
        self._clips = {name: value for name, value in self._start["fingerprint"].items() if name != "global_batch"}
        self._by: str | None = None  # the name of the score, after the first validation
        self.standing = Standing()
        self._best: dict[str, Tensor] = {}

    def due(self, step: int) -> bool:
        """Whether it is validated after so many steps."""
        return step % self.every == 0

    @property
    def stopped(self) -> bool:
        """Whether patience is at its end."""
        return self._config.patience is not None and self.standing.without_gain >= self._config.patience

    @property
    def plan(self) -> str:
        """What is going to be done, in a line."""
        return f"validating every {self.every} steps on {self._what()}"

    @property
    def begun(self) -> bool:
        """Whether there was a validation, be it before this process."""
        return self._by is not None

    def begin(self, step: int, model: Model, journal: Journal | None) -> None:
        """Validate the network as it is before training: the curve's beginning, and none of the candidates.

        Raises:
            InputError: there is no score of the name that weights are to be chosen by, or none on these clips.
        """
        score = self._chosen(self._scores(model, step, journal))
        if not math.isfinite(score):
            raise InputError(f"{self.by} is {score} on {self._what()}: validate on more, or choose another --select-by")

    def validate(self, step: int, model: Model, journal: Journal | None) -> dict[str, float]:
        """Score the network, and keep its weights where they are the best so far; returns a line to show."""
        score = self._chosen(self._scores(model, step, journal))
        self.standing = self.standing.after(step, score)
        if self.standing.best_step == step:
            self._best = {name: tensor.detach().cpu().clone() for name, tensor in model.network.state_dict().items()}
        return {f"validation {self.by}": score}

    @property
    def by(self) -> str:
        """The name of the score; after the first validation."""
        if self._by is None:
            raise ValueError("nothing was validated yet")
        return self._by

    # -- in checkpoints

    def state_dict(self) -> dict[str, Any]:
        """As JSON takes it; the best weights are `weights`."""
        asked = self._config.select_by
        return {"by": self._by, "asked": asked, "clips": self._clips, **asdict(self.standing)}

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The best ones, on the CPU; none before there are some."""
        return self._best

    def load_state_dict(self, state: Mapping[str, Any], weights: Mapping[str, Tensor]) -> bool:
        """Go on from a saved state; whether it is: one of other clips, or of another score, cannot be compared."""
        now = self.state_dict()
        if state["clips"] != now["clips"] or state["asked"] != now["asked"]:
            return False
        names = ("best_step", "best_score", "without_gain")
        self._by, self.standing = state["by"], Standing(**{name: state[name] for name in names})
        self._best = dict(weights)
        return True

    # -- at the end

    def choose(self, network: nn.Module) -> None:
        """Give the network the best weights."""
        if self._best:
            network.load_state_dict(self._best)

    def selected(self, steps: int) -> dict[str, Any]:
        """What was chosen, for results.json and run.json.

        Args:
            steps: that the training took.
        """
        (catalog, *_) = catalogs = self._loader.catalogs
        return {
            "split": catalog.split,
            "fraction": self._config.validation_fraction,
            "speakers": sum(len(np.unique(of_dataset.speaker)) for of_dataset in catalogs),
            "clips": sum(map(len, catalogs)),
            "by": self._by,
            "step": self.standing.best_step,
            "score": self.standing.best_score,
            "steps": steps,
            "stopped_early": self.stopped,
        }

    def told(self, steps: int) -> str:
        """The same in a line."""
        best = self.standing
        if best.best_step is None or best.best_score is None:
            return f"no validation on {self._what()} has a score: the weights are those of the last step"
        stopped = f", stopped after {best.without_gain} validations without a better one" if self.stopped else ""
        return (
            f"the weights are those of step {best.best_step} of {steps}, the best by {self.by} "
            f"{best.best_score:.3f} on {self._what()}{stopped}"
        )

    # -- scores

    def _scores(self, model: Model, step: int, journal: Journal | None) -> dict[str, float]:
        for buffer in model.network.buffers() if self._accelerator.num_processes > 1 else ():
            # Of the main process, whose statistics are saved: each rank's are of its own part of the last batch.
            broadcast(buffer)
        with _undisturbed(self._accelerator.device):
            self._loader.load_state_dict(self._start)  # the same pairs each time
            results = self._task.score(self._accelerator, model.front_end, model.network, self._loader, intervals=False)
            self._loader.load_state_dict(self._start)  # which ends the reading ahead, beside the training's
        scores = [self._task.choices(results)]
        if self._accelerator.num_processes > 1:
            broadcast_object_list(scores)
        self._accelerator.log({f"validation/{name}": value for name, value in scores[0].items()}, step=step)
        if journal is not None:
            journal.write({"step": step, "validation": scores[0]})
        return scores[0]

    def _chosen(self, scores: Mapping[str, float]) -> float:
        by = self._config.select_by or next(iter(scores))
        if by not in scores:
            raise InputError(f"--select-by {by}: there is no such score, only {', '.join(scores)}")
        self._by = by
        return scores[by]

    def _what(self) -> str:
        catalogs = self._loader.catalogs
        speakers = sum(len(np.unique(catalog.speaker)) for catalog in catalogs)
        return f"{sum(map(len, catalogs))} clips of {speakers} speakers of {catalogs[0].split}"


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Afterwards every generator that training may draw from is where it was."""
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - whoever draws from it
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)  # noqa: NPY002

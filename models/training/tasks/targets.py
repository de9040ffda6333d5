"""Fine-tuning: what do labels say of a clip?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from accelerate import Accelerator
from torch import nn

from loaders import Batch, ClipLoader
from loaders.dataset.catalog import Catalog
from loaders.dataset.dataset import Dataset
from loaders.dataset.labels import Label
from loaders.errors import InputError
from models.answers import predict_targets
from models.frontend.front_end import FrontEnd, given_by
from models.objectives.targets import TargetLossConfig, of_all_ranks, target_loss
from models.systems.presets import (
    ModelConfig,
    has_gaze_tower,
    model_config_from_json,
    needs,
    preset_to_json,
    target_net,
)
from models.systems.streams import Needs
from models.systems.targets import TargetNet
from models.towers.tower import Tower, built
from models.training import labels, runs
from models.training.config import FinetuneConfig, TargetNetworkConfig, TargetsConfig, TripletConfig
from models.training.evaluation import MODALITIES
from models.training.freezing import stages_to_freeze
from models.training.predictions import PREDICTIONS
from models.training.scores import score_targets
from models.training.tasks.registry import stage
from models.training.tasks.task import Model, Step, augmented, begun, front_end_of, gaze_of, sizes_of

#: Of results: what weights can be chosen by; what each kind of target is scored by stands before the rest.
_HIGH_IS_GOOD = ("micro_f1", "ccc", "macro_f1", "uar", "pearson")


@stage(FinetuneConfig)
class Targets:
    """What do labels say of a clip?"""

    stage: str = FinetuneConfig.stage
    paired = False
    trained_in_pairs = False
    answers = PREDICTIONS
    predict = staticmethod(predict_targets)

    def __init__(
        self,
        config: TargetNetworkConfig | None = None,
        targets: TargetsConfig | None = None,
        triplet: TripletConfig | None = None,
        *,
        run: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            config: of the network.
            targets: what is predicted.
            triplet: of the loss.
            run: the run.json of a finished run, where it is to be scored.
        """
        self._config = config or TargetNetworkConfig()
        self._targets = targets or TargetsConfig()
        triplet = triplet or TripletConfig()
        self._losses = TargetLossConfig(
            alpha=triplet.alpha,
            margin=triplet.margin,
            reduction=triplet.triplet_reduction,
            normalise=triplet.normalise,
            same_instance=triplet.same_instance,
            number=self._targets.number_loss,
            weights=self._targets.target_weights,
        )
        self._run = run
        #: What the run that the towers come from scored, where that is known already.
        self._earlier: Mapping[str, Any] = {} if run is None or run["init"] is None else run["init"]["results"]

    @classmethod
    def of(cls, config: FinetuneConfig) -> Self:
        """See `Task.of`."""
        return cls(config.network, config.targets, config.triplet)

    @classmethod
    def of_run(cls, run: Mapping[str, Any], *, rounds: int) -> Self:
        """See `Task.of_run`."""
        return cls(run=run)

    @property
    def frames(self) -> int:
        """See `Task.frames`; with --init, its run's."""
        return self._sizes.front_end.frames

    @property
    def needs(self) -> Needs:
        """See `Task.needs`; with --init, its run's, but for gaze."""
        return needs(self._sizes, gaze=self._config.looks_at_gaze)

    @property
    def _sizes(self) -> ModelConfig:
        init = self._config.init
        return sizes_of(self._config) if init is None else model_config_from_json(runs.read_run(init)["sizes"])

    def load(self, folder: Path) -> tuple[FrontEnd, nn.Module]:
        """See `Task.load`."""
        return runs.load_targets(folder)

    def targets(self, datasets: Sequence[Dataset]) -> tuple[Label, ...]:
        """See `Task.targets`."""
        if self._run is None:
            return labels.chosen(self._targets.targets, datasets)
        known = labels.from_json(self._run.get(labels.TARGETS), "the run")
        labels.require_same(known, datasets, "the run")
        return known

    def model(self, catalogs: Sequence[Catalog], targets: Sequence[Label] = ()) -> Model:
        """See `Task.model`."""
        config = self._config
        origin: dict[str, Any] | None = None
        fresh: tuple[Tower, ...] = ()
        published: dict[str, Any] = {}
        if config.init is None:
            sizes = sizes_of(config)
            network = target_net(sizes, targets, gaze=gaze_of(config, sizes))
            published = begun(network, config)
        else:
            sizes, network, fresh = _from_pretrained(config, config.init, targets)
            self._earlier = runs.read_results(config.init)
            origin = {
                "run": str(config.init),
                "results": self._earlier,
                "model_sha256": runs.model_sha256(config.init),
            }
        frozen: tuple[nn.Module, ...] = ()
        if config.freeze_stages is not None:
            frozen = stages_to_freeze(network, config.freeze_stages, fresh=fresh)
        if self._targets.class_weights is not None:
            weights = labels.class_weights(targets, catalogs, self._targets.class_weights)
            self._losses = replace(self._losses, class_weights=weights)
        network.standardise(labels.moments(targets, catalogs))
        described = {
            "stage": self.stage,
            "gaze": network.gaze is not None,
            "sizes": preset_to_json(sizes),
            labels.TARGETS: labels.to_json(targets),
            "init": origin,
            **published,
        }
        return Model(front_end_of(sizes, catalogs, self.needs.of_gaze), network, described, frozen)

    def require(self, loader: ClipLoader, name: str) -> None:
        """Some clip has to have each label."""
        split = loader.catalogs[0].split
        for target in loader.catalogs[0].targets:
            if not any(_is_stated(catalog.targets[target]).any() for catalog in loader.catalogs):
                raise InputError(
                    f"{name}: no clip of the split {split!r} has the label {target!r}: give a dataset where some have, "
                    "or other --targets"
                )

    def step(self, batch: Batch, network: nn.Module, front_end: FrontEnd) -> Step:
        """The thesis' loss for any labels, see `models.objectives.targets.target_loss`."""
        inputs = front_end(**given_by(batch), seed=batch.seed)
        loss = target_loss(*of_all_ranks(network(**inputs), batch.targets), self._losses)
        logged = {} if loss.triplet is None else {"triplet": loss.triplet}
        for modality, losses in (("audio", loss.audio), ("visual", loss.visual), ("joint", loss.joint)):
            several = len(losses) > 1
            logged |= {f"{name}/{modality}" if several else modality: value for name, value in losses.items()}
        return Step(loss.total, logged)

    def choices(self, results: Mapping[str, Any]) -> dict[str, float]:
        """See `Task.choices`: the mean over targets and modalities first."""
        named: dict[str, float] = {}
        main: list[float] = []
        for name, scores in results["targets"].items():
            for modality in MODALITIES:
                known = {score: scores[modality][score] for score in _HIGH_IS_GOOD if score in scores[modality]}
                main.append(next(iter(known.values())))
                named |= {f"{name}.{modality}.{score}": value for score, value in known.items()}
        return {"mean": sum(main) / len(main), **named}

    def score(
        self,
        accelerator: Accelerator,
        front_end: FrontEnd,
        network: Any,
        loader: ClipLoader,
        *,
        keep: Path | None = None,
        intervals: bool = True,
    ) -> dict[str, Any]:
        """How right each modality is about each target, beside what the pre-trained run scored."""
        scores = score_targets(accelerator, front_end, network, loader, keep=keep, intervals=intervals)
        return {**self._earlier, "targets": scores}


def _is_stated(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    stated: np.ndarray[Any, np.dtype[np.bool_]] = values >= 0 if values.dtype.kind == "i" else np.isfinite(values)
    return stated


def _from_pretrained(
    config: TargetNetworkConfig, init: Path, targets: Sequence[Label]
) -> tuple[ModelConfig, TargetNet, tuple[Tower, ...]]:
    """Sizes and network of a pre-trained run's towers, and which of its towers are none of those."""
    _, towers = runs.load_correspondence(init)
    sizes = model_config_from_json(runs.read_run(init)["sizes"])
    if not config.gaze:
        towers.gaze = None
    fresh = built(sizes.gaze) if has_gaze_tower(sizes, gaze=config.gaze) and towers.gaze is None else None
    network = TargetNet.from_correspondence(towers, targets, sizes.heads, gaze=fresh)
    return replace(sizes, front_end=augmented(sizes.front_end, config)), network, () if fresh is None else (fresh,)

"""Pre-training: do sound and picture belong together?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from loaders import Batch, ClipLoader
from loaders.dataset.catalog import Catalog
from loaders.dataset.dataset import Dataset
from loaders.dataset.labels import Label
from models.answers import predict_match
from models.frontend.front_end import FrontEnd, given_by
from models.objectives.global_batch import gather_rows
from models.objectives.infonce import recall
from models.objectives.registry import DEFAULT, ObjectiveConfig, OfPairs, from_json, settings_of, to_json
from models.systems.correspondence import AVENet, Encoder, L3Net
from models.systems.presets import correspondence_net, preset_to_json
from models.systems.registry import system_of
from models.systems.streams import Needs
from models.training import runs
from models.training.config import CorrespondenceNetworkConfig, PretrainConfig
from models.training.evaluation import MatchPredictions
from models.training.negatives import told
from models.training.objectives import chosen
from models.training.predictions import PAIRS, write_pairs
from models.training.retrieval import RECALL_AT, WAYS, Gallery
from models.training.scores import answer_pairs, score_gallery, score_pairs, speakers, videos
from models.training.tasks.registry import stage
from models.training.tasks.task import Model, Step, begun, front_end_of, gaze_of, needs_of, sizes_of


@stage(PretrainConfig)
class Correspondence:
    """Do sound and picture belong together?"""

    stage: str = PretrainConfig.stage
    paired = True
    answers = PAIRS
    predict = staticmethod(predict_match)

    def __init__(
        self,
        config: CorrespondenceNetworkConfig | None = None,
        *,
        rounds: int = 1,
        objective: tuple[str, ObjectiveConfig] | None = None,
    ) -> None:
        """
        Args:
            config: of the network.
            rounds: how often a split is scored, each time with other pairs.
            objective: what is minimised, by its name and settings; None: the correspondence.
        """
        self._config = config or CorrespondenceNetworkConfig()
        self._rounds = rounds
        self._name, self._settings = objective or (DEFAULT, settings_of(DEFAULT)())
        self._objective = self._settings.objective(1.0)
        self._network: L3Net | AVENet | None = None
        self._groups = torch.zeros(0, 1, dtype=torch.int64)

    @classmethod
    def of(cls, config: PretrainConfig) -> Self:
        """See `Task.of`."""
        minimised = config.objective.objective, chosen(config.objective)
        return cls(config.network, rounds=config.scoring.evaluation_rounds, objective=minimised)

    @classmethod
    def of_run(cls, run: Mapping[str, Any], *, rounds: int) -> Self:
        """See `Task.of_run`."""
        described = run.get("objective")
        name = DEFAULT if described is None else str(described.get("name"))
        return cls(rounds=rounds, objective=(name, from_json(described)))

    @property
    def frames(self) -> int:
        """See `Task.frames`."""
        return sizes_of(self._config).front_end.frames

    @property
    def trained_in_pairs(self) -> bool:
        """See `Task.trained_in_pairs`."""
        return isinstance(self._objective, OfPairs)

    @property
    def needs(self) -> Needs:
        """See `Task.needs`."""
        return needs_of(self._config)

    def load(self, folder: Path) -> tuple[FrontEnd, nn.Module]:
        """See `Task.load`."""
        return runs.load_correspondence(folder)

    def targets(self, datasets: Sequence[Dataset]) -> tuple[Label, ...]:
        """No labels are needed."""
        return ()

    def model(self, catalogs: Sequence[Catalog], targets: Sequence[Label] = ()) -> Model:
        """See `Task.model`."""
        config, sizes = self._config, sizes_of(self._config)
        front_end = front_end_of(sizes, catalogs, self.needs.of_gaze)
        name = config.model if config.system is None else system_of(config.system).correspondence
        gaze = gaze_of(config, sizes)
        network = correspondence_net(sizes, name, gaze=gaze)
        described = {"stage": self.stage, "model": name, "gaze": gaze, "sizes": preset_to_json(sizes)}
        described |= begun(network, config)
        self._objective = self._settings.objective(network.temperature)
        if self._name != DEFAULT:
            network.objective = self._objective  # trained, checkpointed and saved with it
            described["objective"] = to_json(self._name, self._settings)
        if isinstance(self._objective, OfPairs):
            return Model(front_end, network, described)
        alike = [videos(catalogs)] + ([speakers(catalogs)] if self._objective.mask == "speaker" else [])
        self._network, self._groups = network, torch.from_numpy(np.stack(alike, axis=1))
        return Model(front_end, network, described, trained=Encoder(network))

    def require(self, loader: ClipLoader, name: str) -> None:
        """Any clips will do."""

    def step(self, batch: Batch, network: nn.Module, front_end: FrontEnd) -> Step:
        """The objective, of all ranks' rows."""
        inputs = front_end(**given_by(batch), seed=batch.seed)
        if isinstance(self._objective, OfPairs):
            logits, match = gather_rows([network(**inputs), batch.match])
            right = (logits.argmax(1) == match).float().mean()
            return Step(self._objective(logits, match), {"accuracy": right})
        assert self._network is not None
        self._groups = self._groups.to(batch.clip.device)
        seen, heard, groups = gather_rows([*network(**inputs), self._groups[batch.clip]])
        scores = self._network.scores(seen, heard)
        negative = (groups[:, None] != groups[None]).all(-1)  # another video, and by --mask speaker another speaker
        return Step(
            self._objective(scores, negative),
            {"recall": recall(scores.detach(), negative), **self._objective.logged()},
        )

    def choices(self, results: Mapping[str, Any]) -> dict[str, float]:
        """See `Task.choices`."""
        found = {
            f"{way}.{name}": results["retrieval"][way][name]
            for way in WAYS
            for name in ("ndcg", *(f"recall_at_{k}" for k in RECALL_AT))
            if "retrieval" in results
        }
        if "pretraining" not in results:
            return {"ndcg": float(np.mean([found[f"{way}.ndcg"] for way in WAYS])), **found}
        by_kind = results.get("pretraining_by_negatives", {})
        named = {f"accuracy.{kind}": scores["accuracy"] for kind, scores in by_kind.items()}
        return {"accuracy": results["pretraining"]["accuracy"], **named, **found}

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
        """Retrieval under ``retrieval``; and accuracy on pairs, where these are what it was trained on: under
        ``pretraining`` on the first of the loader's negatives, or on all, by kind, under ``pretraining_by_negatives``
        where there are several.
        """
        scores: dict[str, Any] = {}
        answers: dict[str, list[MatchPredictions]] = {}
        gallery: list[Gallery] | None = [] if isinstance(network, L3Net | AVENet) else None
        for epoch, shares in (loader.negatives or {}).items():
            # The pairs of an epoch, whatever was scored before.
            loader.load_state_dict(loader.state_dict() | {"epoch": epoch, "step": 0})
            first = None if scores else gallery
            rounds = answer_pairs(accelerator, front_end, network, loader, rounds=self._rounds, gallery=first)
            answers[told(shares)] = rounds
            scores[told(shares)] = {
                **score_pairs(rounds, loader.catalogs, intervals=intervals),
                "negatives": told(shares),
            }
        found = None if gallery is None else score_gallery(network, gallery, loader.catalogs, intervals=intervals)
        retrieval = {} if found is None else {"retrieval": found}
        if not self.trained_in_pairs:
            return retrieval  # nothing has said from which score on a pair matches
        if keep is not None and accelerator.is_main_process:
            write_pairs(keep, answers, loader.catalogs)
        results = {"pretraining": next(iter(scores.values())), **retrieval}
        return results if len(scores) == 1 else {**results, "pretraining_by_negatives": scores}

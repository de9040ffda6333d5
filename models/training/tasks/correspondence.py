"""Pre-training: do sound and picture belong together?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from accelerate import Accelerator
from torch import nn

from loaders import Batch, ClipLoader
from loaders.dataset.catalog import Catalog
from loaders.dataset.dataset import Dataset
from loaders.dataset.labels import Label
from models.frontend.front_end import FrontEnd, given_by
from models.objectives.correspondence import correspondence_loss
from models.objectives.global_batch import gather_rows
from models.predict import predict_match
from models.systems.presets import correspondence_net, preset_to_json
from models.systems.registry import system_of
from models.systems.streams import Needs
from models.training import runs
from models.training.config import CorrespondenceNetworkConfig, PretrainConfig
from models.training.evaluation import MatchPredictions
from models.training.negatives import told
from models.training.predictions import PAIRS, write_pairs
from models.training.scores import answer_pairs, score_pairs
from models.training.tasks.registry import stage
from models.training.tasks.task import Model, Step, begun, front_end_of, gaze_of, needs_of, sizes_of


@stage(PretrainConfig)
class Correspondence:
    """Do sound and picture belong together?"""

    stage: str = PretrainConfig.stage
    paired = True
    answers = PAIRS
    predict = staticmethod(predict_match)

    def __init__(self, config: CorrespondenceNetworkConfig | None = None, *, rounds: int = 1) -> None:
        """
        Args:
            config: of the network.
            rounds: how often a split is scored, each time with other pairs.
        """
        self._config = config or CorrespondenceNetworkConfig()
        self._rounds = rounds

    @classmethod
    def of(cls, config: PretrainConfig) -> Self:
        """See `Task.of`."""
        return cls(config.network, rounds=config.scoring.evaluation_rounds)

    @classmethod
    def of_run(cls, run: Mapping[str, Any], *, rounds: int) -> Self:
        """See `Task.of_run`."""
        return cls(rounds=rounds)

    @property
    def frames(self) -> int:
        """See `Task.frames`."""
        return sizes_of(self._config).front_end.frames

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
        return Model(front_end, network, described)

    def require(self, loader: ClipLoader, name: str) -> None:
        """Any clips will do."""

    def step(self, batch: Batch, network: nn.Module, front_end: FrontEnd) -> Step:
        """Cross entropy of the match."""
        inputs = front_end(**given_by(batch), seed=batch.seed)
        logits, match = gather_rows([network(**inputs), batch.match])
        right = (logits.argmax(1) == match).float().mean()
        return Step(correspondence_loss(logits, match), {"accuracy": right})

    def choices(self, results: Mapping[str, Any]) -> dict[str, float]:
        """See `Task.choices`."""
        by_kind = results.get("pretraining_by_negatives", {})
        named = {f"accuracy.{kind}": scores["accuracy"] for kind, scores in by_kind.items()}
        return {"accuracy": results["pretraining"]["accuracy"], **named}

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
        """Accuracy on pairs: under ``pretraining`` on the first of the loader's negatives, or on all, by kind, under
        ``pretraining_by_negatives`` where there are several.
        """
        scores: dict[str, Any] = {}
        answers: dict[str, list[MatchPredictions]] = {}
        for epoch, shares in (loader.negatives or {}).items():
            # The pairs of an epoch, whatever was scored before.
            loader.load_state_dict(loader.state_dict() | {"epoch": epoch, "step": 0})
            rounds = answer_pairs(accelerator, front_end, network, loader, rounds=self._rounds)
            answers[told(shares)] = rounds
            scores[told(shares)] = {
                **score_pairs(rounds, loader.catalogs, intervals=intervals),
                "negatives": told(shares),
            }
        if keep is not None and accelerator.is_main_process:
            write_pairs(keep, answers, loader.catalogs)
        results = {"pretraining": next(iter(scores.values()))}
        return results if len(scores) == 1 else {**results, "pretraining_by_negatives": scores}

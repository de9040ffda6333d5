"""Fine-tuning: which of seven emotions?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from accelerate import Accelerator
from torch import nn

from loaders import Batch, ClipLoader
from loaders.dataset.manifest import Manifest
from loaders.errors import InputError
from models.frontend.front_end import FrontEnd
from models.objectives.emotion import EmotionLossConfig, emotion_loss
from models.predict import predict_emotion
from models.systems.emotion import EmotionNet
from models.systems.presets import ModelConfig, emotion_net, model_config_from_json, preset_to_json
from models.training import runs
from models.training.config import EmotionNetworkConfig, FinetuneConfig, TripletConfig
from models.training.scores import score_emotion
from models.training.tasks.registry import stage
from models.training.tasks.task import Model, Step, augmented, front_end_of, sizes_of


@stage(FinetuneConfig)
class Emotion:
    """Which of seven emotions?"""

    stage: str = FinetuneConfig.stage
    paired = False
    predict = staticmethod(predict_emotion)

    def __init__(
        self,
        config: EmotionNetworkConfig | None = None,
        triplet: TripletConfig | None = None,
        *,
        earlier: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            config: of the network.
            triplet: of the loss.
            earlier: what the run that the towers come from scored, where that is known already.
        """
        self._config = config or EmotionNetworkConfig()
        triplet = triplet or TripletConfig()
        self._losses = EmotionLossConfig(
            alpha=triplet.alpha, margin=triplet.margin, reduction=triplet.triplet_reduction
        )
        self._earlier: Mapping[str, Any] = earlier or {}

    @classmethod
    def of(cls, config: FinetuneConfig) -> Self:
        """See `Task.of`."""
        return cls(config.network, config.triplet)

    @classmethod
    def of_run(cls, run: Mapping[str, Any], *, rounds: int) -> Self:
        """See `Task.of_run`."""
        return cls(earlier={} if run["init"] is None else run["init"]["results"])

    def load(self, folder: Path) -> tuple[FrontEnd, nn.Module]:
        """See `Task.load`."""
        return runs.load_emotion(folder)

    def model(self, manifests: Sequence[Manifest]) -> Model:
        """See `Task.model`."""
        config = self._config
        origin: dict[str, Any] | None = None
        if config.init is None:
            sizes = sizes_of(config)
            network = emotion_net(sizes, gaze=config.gaze)
        else:
            sizes, network = _from_pretrained(config, config.init)
            self._earlier = runs.read_results(config.init)
            origin = {
                "run": str(config.init),
                "results": self._earlier,
                "model_sha256": runs.model_sha256(config.init),
            }
        gaze = network.gaze is not None
        described = {"stage": self.stage, "gaze": gaze, "sizes": preset_to_json(sizes), "init": origin}
        return Model(front_end_of(sizes, manifests), network, described)

    def require(self, loader: ClipLoader, name: str) -> None:
        """Some clip has to have a label."""
        if not any((catalog.emotion >= 0).any() for catalog in loader.catalogs):
            split = loader.catalogs[0].split
            raise InputError(f"{name}: no clip of the split {split!r} has a label: give a dataset with emotions")

    def step(self, batch: Batch, network: nn.Module, front_end: FrontEnd) -> Step:
        """The thesis' loss, see `models.objectives.emotion.emotion_loss`."""
        inputs = front_end(batch.video, batch.audio, batch.gaze, batch.gaze_valid, batch.seed)
        loss = emotion_loss(network(inputs.video, inputs.audio, inputs.gaze), batch.emotion, self._losses)
        logged = {"triplet": loss.triplet, "audio": loss.audio, "visual": loss.visual, "joint": loss.joint}
        return Step(loss.total, logged)

    def score(self, accelerator: Accelerator, front_end: FrontEnd, network: Any, loader: ClipLoader) -> dict[str, Any]:
        """F1 by modality, beside what the pre-trained run scored."""
        return {**self._earlier, "emotion": score_emotion(accelerator, front_end, network, loader)}


def _from_pretrained(config: EmotionNetworkConfig, init: Path) -> tuple[ModelConfig, EmotionNet]:
    _, towers = runs.load_correspondence(init)
    sizes = model_config_from_json(runs.read_run(init)["sizes"])
    if not config.gaze:
        towers.gaze = None
    fresh = sizes.gaze.tower() if config.gaze and towers.gaze is None else None
    network = EmotionNet.from_correspondence(towers, sizes.emotion, gaze=fresh)
    return replace(sizes, front_end=augmented(sizes.front_end, config)), network

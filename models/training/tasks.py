"""What is trained: a task makes a network, says what a step minimises, scores, and answers.

`models.training.loop` fits any task. Another objective on the same data is another task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from loaders import Batch, ClipLoader
from loaders.dataset.manifest import Manifest
from loaders.errors import InputError
from models.frontend.augmentation import Augmentation
from models.frontend.front_end import FrontEnd, FrontEndConfig
from models.objectives.correspondence import correspondence_loss
from models.objectives.emotion import EmotionLossConfig, emotion_loss
from models.predict import predict_emotion, predict_match
from models.systems.emotion import EmotionNet
from models.systems.presets import (
    Preset,
    correspondence_net,
    emotion_net,
    preset,
    preset_from_json,
    preset_to_json,
)
from models.training import runs
from models.training.config import (
    CorrespondenceNetworkConfig,
    EmotionNetworkConfig,
    NetworkConfig,
    Stage,
    TripletConfig,
)
from models.training.scores import score_emotion, score_match


@dataclass(frozen=True, slots=True)
class Step:
    """What a step of training minimises, and what of it to log."""

    loss: Tensor
    logged: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained, on the CPU and fresh from its making, and how run.json describes it."""

    front_end: FrontEnd
    network: nn.Module
    description: dict[str, Any]


class Task(Protocol):
    """See the module."""

    #: The stage of train.py that it is.
    stage: Stage
    #: Whether half of the examples have another video's sound.
    paired: bool
    #: What its network answers to what the loader yields, see `models.predict`.
    predict: Callable[..., Any]

    def model(self, manifests: Sequence[Manifest]) -> Model:
        """The model, its weights drawn from torch's generator; ``manifests`` are those of the training data.

        Raises:
            InputError: it starts from a run that is not there, not finished or of another stage.
        """
        ...

    def require(self, loader: ClipLoader, name: str) -> None:
        """Raise InputError where nothing of the datasets called ``name``, as the loader yields them, can be used."""
        ...

    def step(self, batch: Batch, network: nn.Module, front_end: FrontEnd) -> Step:
        """What is minimised on a batch."""
        ...

    def score(self, accelerator: Accelerator, front_end: FrontEnd, network: Any, loader: ClipLoader) -> dict[str, Any]:
        """What stands in results.json: the scores on a split, over all ranks."""
        ...


class Correspondence:
    """Do sound and picture belong together?"""

    stage: Stage = "pretrain"
    paired = True
    predict = staticmethod(predict_match)

    def __init__(self, config: CorrespondenceNetworkConfig | None = None, *, rounds: int = 1) -> None:
        """
        Args:
            config: of the network.
            rounds: how often a split is scored, each time with other pairs.
        """
        self._config = config or CorrespondenceNetworkConfig()
        self._rounds = rounds

    def model(self, manifests: Sequence[Manifest]) -> Model:
        """See `Task.model`."""
        config, sizes = self._config, sizes_of(self._config)
        front_end = front_end_of(sizes, manifests)
        network = correspondence_net(sizes, config.model, gaze=config.gaze)
        described = {"stage": self.stage, "model": config.model, "gaze": config.gaze, "sizes": preset_to_json(sizes)}
        return Model(front_end, network, described)

    def require(self, loader: ClipLoader, name: str) -> None:
        """Any clips will do."""

    def step(self, batch: Batch, network: nn.Module, front_end: FrontEnd) -> Step:
        """Cross entropy of the match."""
        inputs = front_end(batch.video, batch.audio, batch.gaze, batch.gaze_valid, batch.seed)
        logits = network(inputs.video, inputs.audio, inputs.gaze)
        right = (logits.argmax(1) == batch.match).float().mean()
        return Step(correspondence_loss(logits, batch.match), {"accuracy": right})

    def score(self, accelerator: Accelerator, front_end: FrontEnd, network: Any, loader: ClipLoader) -> dict[str, Any]:
        """Accuracy on pairs."""
        return {"pretraining": score_match(accelerator, front_end, network, loader, rounds=self._rounds)}


class Emotion:
    """Which of seven emotions?"""

    stage: Stage = "finetune"
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


def task_of(run: Mapping[str, Any], *, rounds: int = 1) -> Task:
    """The task of a run, to score it: ``run`` is its run.json, ``rounds`` is for pairs."""
    if run["stage"] == Correspondence.stage:
        return Correspondence(rounds=rounds)
    return Emotion(earlier={} if run["init"] is None else run["init"]["results"])


def load(folder: Path, run: Mapping[str, Any]) -> tuple[FrontEnd, nn.Module]:
    """The trained front end and network of a run; see `models.training.runs`."""
    if run["stage"] == Correspondence.stage:
        return runs.load_correspondence(folder)
    return runs.load_emotion(folder)


def sizes_of(config: NetworkConfig) -> Preset:
    """The preset with what the settings change of it.

    Raises:
        InputError: it has no such setting, or there is no such preset.
    """
    sizes = preset(config.preset)
    front_end = replace(
        _augmented(sizes.front_end, config),
        frame_size=config.frame_size or sizes.front_end.frame_size,
        frames=config.frames or sizes.front_end.frames,
    )
    if config.width is None:
        return replace(sizes, front_end=front_end)
    video, audio = (tower.with_width(config.width) for tower in (sizes.video, sizes.audio))
    if video is None and audio is None:
        raise InputError(f"--width has no effect with --preset {config.preset}, whose towers have none: leave it away")
    return replace(sizes, front_end=front_end, video=video or sizes.video, audio=audio or sizes.audio)


def front_end_of(sizes: Preset, manifests: Sequence[Manifest]) -> FrontEnd:
    """With the gaze statistics of the training split; of several datasets' together, each counting by its clips."""
    known = [m for m in manifests if m.gaze_mean is not None and m.gaze_std is not None and "train" in m.splits]
    if not known:
        return FrontEnd(sizes.front_end)
    clips = torch.tensor([float(m.splits["train"].clips) for m in known], dtype=torch.float64)[:, None]
    share = clips / clips.sum()
    means = torch.tensor([m.gaze_mean for m in known], dtype=torch.float64)
    stds = torch.tensor([m.gaze_std for m in known], dtype=torch.float64)
    mean = (share * means).sum(0)
    variance = (share * (stds.square() + (means - mean).square())).sum(0)
    return FrontEnd(sizes.front_end, gaze_mean=mean, gaze_std=variance.sqrt())


def _from_pretrained(config: EmotionNetworkConfig, init: Path) -> tuple[Preset, EmotionNet]:
    _, towers = runs.load_correspondence(init)
    sizes = preset_from_json(runs.read_run(init)["sizes"])
    if not config.gaze:
        towers.gaze = None
    fresh = sizes.gaze.tower() if config.gaze and towers.gaze is None else None
    network = EmotionNet.from_correspondence(towers, sizes.emotion, gaze=fresh)
    return replace(sizes, front_end=_augmented(sizes.front_end, config)), network


def _augmented(front_end: FrontEndConfig, config: NetworkConfig) -> FrontEndConfig:
    return replace(front_end, augmentation=Augmentation(gaze_dropout=config.gaze_dropout))

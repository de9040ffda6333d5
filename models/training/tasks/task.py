"""What is trained: a task makes a network, says what a step minimises, scores, and predicts.

`models.training.loop` fits any task. Another objective on the same data is another task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, Self

from accelerate import Accelerator
from torch import Tensor, nn

from loaders import Batch, ClipLoader
from loaders.dataset.catalog import Catalog
from loaders.dataset.dataset import Dataset
from loaders.dataset.labels import Label
from loaders.errors import InputError
from models.frontend.augmentation import Augmentation
from models.frontend.front_end import FrontEnd, FrontEndConfig
from models.systems.presets import ModelConfig, has_gaze_tower, preset
from models.systems.presets import needs as needs_of_sizes
from models.systems.registry import sizes_of_system, system_of, with_towers
from models.systems.streams import Needs
from models.towers.vgg_face import begin_from
from models.training.config import NetworkConfig
from models.training.moments import pooled


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
    frozen: tuple[nn.Module, ...] = ()  #: of the network, what training leaves as it is
    #: A module around the network, which a step calls in its place; None: the network itself.
    trained: nn.Module | None = None


class Task(Protocol):
    """See the module."""

    #: The stage of train.py that it is.
    stage: str
    #: Whether half of the examples that are scored have another video's sound.
    paired: bool
    #: The file of a run that holds what it answered, see `models.training.predictions`.
    answers: str
    #: What its network predicts from what the loader yields, see `models.answers`.
    predict: Callable[..., Any]

    @property
    def frames(self) -> int:
        """How many frames of a clip its network takes, where it is trained."""
        ...

    @property
    def trained_in_pairs(self) -> bool:
        """Whether half of the examples that it is trained on have another video's sound."""
        ...

    @property
    def needs(self) -> Needs:
        """What of a clip its network looks at, where it is trained."""
        ...

    @classmethod
    def of(cls, config: Any) -> Self:
        """The task of a stage's settings."""
        ...

    @classmethod
    def of_run(cls, run: Mapping[str, Any], *, rounds: int) -> Self:
        """The task of a finished run, to score it: ``run`` is its run.json, ``rounds`` is for pairs."""
        ...

    def load(self, folder: Path) -> tuple[FrontEnd, nn.Module]:
        """The trained front end and network of a run, see `models.training.runs`."""
        ...

    def targets(self, datasets: Sequence[Dataset]) -> tuple[Label, ...]:
        """The labels that its batches have to hold, as these datasets declare them, or the run that is scored.

        Raises:
            InputError: a dataset lacks one, or has other classes of it.
        """
        ...

    def model(self, catalogs: Sequence[Catalog], targets: Sequence[Label] = ()) -> Model:
        """The model, its weights drawn from torch's generator.

        Args:
            catalogs: of the training data, with what is stated of the targets.
            targets: see `targets`.

        Raises:
            InputError: it starts from a run that is not there, not finished or of another stage.
        """
        ...

    def require(self, loader: ClipLoader, name: str) -> None:
        """Raise InputError where nothing of the datasets called ``name``, as the loader yields them, can be used."""
        ...

    def step(self, batch: Batch, network: nn.Module, front_end: FrontEnd) -> Step:
        """What is minimised on a batch, called by every rank with as many rows.

        The ranks' gradients are averaged: a loss that is no mean over rows is taken of the rows of all ranks, see
        `models.objectives.global_batch.gather_rows`.
        """
        ...

    def choices(self, results: Mapping[str, Any]) -> dict[str, float]:
        """The scores by which weights can be chosen, by name: high ones are good, the first is the default.

        Args:
            results: that `score` returned.
        """
        ...

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
        """What stands in results.json: the scores on a split, over all ranks.

        Args:
            accelerator: for the ranks.
            front_end, network: the model.
            loader: of the split.
            keep: a file for all that was answered, see `models.training.predictions`; None: it is let go.
            intervals: of the scores, too; without them the values alone, as a validation needs them.
        """
        ...


def sizes_of(config: NetworkConfig) -> ModelConfig:
    """The preset with what the settings change of it.

    Raises:
        InputError: it has no such setting, or there is no such preset.
    """
    sizes = preset(config.preset)
    if config.system is not None:
        sizes = sizes_of_system(sizes, system_of(config.system), config.towers)
    else:
        sizes = with_towers(sizes, config.towers)
    front_end = replace(
        augmented(sizes.front_end, config),
        frame_size=config.frame_size or sizes.front_end.frame_size,
        frames=config.frames or sizes.front_end.frames,
    )
    if config.width is None:
        return replace(sizes, front_end=front_end)
    video, audio = (tower.with_width(config.width) for tower in (sizes.video, sizes.audio))
    if video is None and audio is None:
        raise InputError(f"--width has no effect with --preset {config.preset}, whose towers have none: leave it away")
    return replace(sizes, front_end=front_end, video=video or sizes.video, audio=audio or sizes.audio)


def needs_of(config: NetworkConfig) -> Needs:
    """What of a clip a network of these settings looks at."""
    return needs_of_sizes(sizes_of(config), gaze=config.looks_at_gaze)


def gaze_of(config: NetworkConfig, sizes: ModelConfig) -> bool:
    """Whether a network of these settings has a tower for gaze."""
    return has_gaze_tower(sizes, gaze=config.looks_at_gaze)


def begun(network: nn.Module, config: NetworkConfig) -> dict[str, Any]:
    """Give a fresh network the published weights that it is to begin from; returns what run.json says of them."""
    begin_from(network, config.vgg_face)
    return {} if config.vgg_face is None else {"vgg_face": sha256(config.vgg_face.read_bytes()).hexdigest()}


def front_end_of(sizes: ModelConfig, catalogs: Sequence[Catalog], gaze_streams: Sequence[str] = ("gaze",)) -> FrontEnd:
    """With the gaze statistics of the training split; of several datasets' together, each counting by its clips."""
    manifests = [catalog.manifest for catalog in catalogs]
    known = [m for m in manifests if m.gaze_mean is not None and m.gaze_std is not None and "train" in m.splits]
    if not known:
        return FrontEnd(sizes.front_end, gaze_streams=gaze_streams)
    together = pooled(
        [m.splits["train"].clips for m in known], [m.gaze_mean or () for m in known], [m.gaze_std or () for m in known]
    )
    return FrontEnd(sizes.front_end, gaze_mean=together.mean, gaze_std=together.std, gaze_streams=gaze_streams)


def augmented(front_end: FrontEndConfig, config: NetworkConfig) -> FrontEndConfig:
    """With the augmentation of a training."""
    return replace(front_end, augmentation=Augmentation(gaze_dropout=config.gaze_dropout))

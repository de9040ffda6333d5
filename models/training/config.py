"""The settings of a run: a frozen dataclass a stage, in groups. Each field is an option of train.py.

The name of an option says one thing wherever it stands, and a stage has the options that do something there.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, get_type_hints

from tyro.conf import arg

from loaders.dataset.labels import Label
from loaders.dataset.remote import CACHE
from loaders.errors import InputError
from loaders.storage.urls import local_path, url_of
from models.objectives.class_weights import ClassWeighting
from models.objectives.targets import NumberLoss
from models.systems.presets import PresetName
from models.systems.registry import system_of, systems
from models.towers.registry import names_for
from models.training.execution import Tf32
from models.training.negatives import scoring_negatives, training_negatives
from models.training.objectives import ObjectiveOptions, check_objective, takes_pairs
from models.training.options import refuse, spelt
from models.training.trackers import TrackerName

Precision = Literal["no", "fp16", "bf16"]
if TYPE_CHECKING:  # which of them there are, no type checker sees
    SystemName = str
    VideoTowerName = str
    AudioTowerName = str
    GazeTowerName = str
else:
    SystemName = Literal[tuple(systems())]
    VideoTowerName, AudioTowerName, GazeTowerName = (Literal[names_for(place)] for place in ("video", "audio", "gaze"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Which clips, and how they are taken."""

    data: tuple[str, ...]
    """A dataset built by sharding/build.py, or several of them with clips of one shape: folders, or URLs of an object
    store (s3://bucket/vox)."""
    batch_size: int = 32
    """Clips a batch on each process."""
    window: int | None = None
    """Consecutive frames, and the sound under them, that an example takes of a clip; at a random place in training."""
    shard_window: int | None = None
    """Shards a node group that examples are drawn from at a time; by default all. Two windows of a remote dataset have
    to fit in the cache."""
    seed: int = 0
    """Of weights, order, pairs and augmentation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingDataConfig(DataConfig):
    """Which clips are trained on, and how they are taken."""

    weights: tuple[float, ...] = ()
    """How often an epoch passes over each of several datasets; by default once."""
    node_groups: int = 1
    """Into which shards are dealt out: with as many as nodes, a shard is read on one node alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderConfig:
    """How clips are read and decoded: this changes rounding at most."""

    loader_threads: int | None = None
    """Threads that decode; by default as many as there are cores."""
    reading_threads: int | None = None
    """Threads that read and check clips; by default 1 for a CPU; for a GPU 3 processes, or 2 threads."""
    readers: Literal["auto", "threads", "processes"] = "auto"
    """What these are: threads of this process, or a process for each, which leaves the interpreter's lock to the
    others; auto: processes for a GPU."""
    placement: Literal["auto", "gpu", "cpu"] = "auto"
    """Where filmstrips are decoded for training on a GPU; auto: on the CPU while it keeps up, and then on the GPU if
    that is faster."""
    hw_decoder_load: float = 0.9
    """Share of the filmstrips that a GPU decodes in its JPEG engines, where it has some."""
    cpu_decoder: Literal["auto", "dali", "turbo"] = "auto"
    """What decodes for training on a CPU, to the same bytes: DALI's graph, or libjpeg-turbo alone, which is faster and
    takes clips with WAV; auto: that where it can."""
    pixels: Literal["rgb", "yuv420"] = "rgb"
    """What is decoded for training on a CPU: RGB, or luma and halved chroma as the clips hold them: faster,
    half the memory, and to within a level or two the same frames. Needs libturbojpeg."""
    cache: Path = CACHE
    """Folder on a local disk for the shards of remote datasets."""
    cache_gb: float = 64.0
    """What these may take, in 10⁹ bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """The network. None stands for the preset's own value."""

    preset: PresetName = "full"
    """Sizes: full are the thesis', tiny is what two CPU cores train in minutes."""
    gaze: bool = True
    """Whether the network has the gaze tower; fine-tuning adds a fresh one where the pre-trained network has none, and
    leaves out the one it has with --no-gaze."""
    system: SystemName | None = None
    """The towers, how they are joined, and the correspondence network, by the name of a system."""
    video_tower: VideoTowerName | None = None
    """Another tower in the place of the system's, or the preset's; so the next two."""
    audio_tower: AudioTowerName | None = None
    """What hears: a log-mel's, or one of what the dataset's clips have beside their sound."""
    gaze_tower: GazeTowerName | None = None
    """What takes gaze: its statistics, or the gaze signals frame by frame."""
    vgg_face: Path | None = None
    """File of VGG-Face's published weights, of Torch (.t7) or PyTorch (.pth); without it the tower vgg-face-gru begins
    from random ones."""
    width: int | None = None
    """Channels of the first stage of the audio and video towers."""
    frame_size: int | None = None
    """Side of the frames the video tower sees, pixels."""
    frames: int | None = None
    """Frames of a clip the video tower sees, evenly spaced."""
    gaze_dropout: float = 0.0
    """Share of the training clips whose gaze is withheld."""

    @property
    def looks_at_gaze(self) -> bool:
        """Whether the network takes gaze."""
        return self.gaze if self.system is None else system_of(self.system).looks_at_gaze

    @property
    def towers(self) -> dict[str, str]:
        """Towers that are chosen by name, by their places."""
        chosen = {"video": self.video_tower, "audio": self.audio_tower, "gaze": self.gaze_tower}
        return {place: name for place, name in chosen.items() if name is not None}

    @property
    def knows_faces(self) -> bool:
        """Whether its video tower is VGG-Face's."""
        of_system = {} if self.system is None else system_of(self.system).towers
        return {**of_system, **self.towers}.get("video") == "vgg-face-gru"


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrespondenceNetworkConfig(NetworkConfig):
    """The correspondence network. None stands for the preset's own value."""

    model: Literal["l3", "ave"] = "l3"
    """Which correspondence network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetNetworkConfig(NetworkConfig):
    """The network that predicts labels. None stands for the preset's own value."""

    init: Path | None = None
    """The pre-trained run whose towers to start from; without it, from scratch."""
    freeze_stages: int | Literal["all"] | None = None
    """Leave the first stages of the pre-trained towers as they are, statistics of their batch norms included: so many
    of each tower, or all. A tower without stages is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsConfig:
    """What does not belong together."""

    negatives: tuple[str, ...] = ("other_video",)
    """What half of the pairs take their sound from, as [EPOCH:]KIND[=WEIGHT], with several kinds by their weights, from
    epoch 0 on or that of the schedule: other_video, other_speaker, same_speaker (in another video), shifted (the same
    video at another time)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetsConfig:
    """What is predicted, and how far off it is."""

    targets: tuple[str, ...] = ()
    """The labels to predict, of classes or numbers; by default the dataset's one label of classes."""
    target_weights: tuple[float, ...] = ()
    """How much each of several targets counts in the loss; by default all alike."""
    number_loss: NumberLoss = "ccc"
    """Of numbers: one minus their concordance correlation with what is stated, over a batch, or the mean square error
    in standard deviations."""
    class_weights: ClassWeighting | None = None
    """How much a class counts in the cross entropy, by how many training clips have it: inverse to their number
    (inverse), to its root (inverse_sqrt), or to the effective number of samples with a beta of 0.999 (effective; Cui
    et al., 2019). By default all clips count alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TripletConfig:
    """What is minimised beside the targets' own losses."""

    alpha: float = 0.1
    """Weight of the triplet loss, which is of the first target that has classes."""
    margin: float | None = 0.2
    """Margin of the triplet loss; None: the plain difference of distances, as published, which has no least value."""
    triplet_reduction: Literal["sum", "mean"] = "mean"
    """The triplet loss summed over a batch, as published, or its mean."""
    normalise: bool = True
    """Whether the triplet loss takes embeddings scaled to length 1, or as they are, as published."""
    same_instance: bool = False
    """Whether a clip's own other modality is one of its positives between modalities; in the thesis only other clips of
    its class are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """Adam, and what it is given."""

    learning_rate: float = 1e-4
    """Adam's, at the start."""
    weight_decay: float = 1e-5
    """Adam's."""
    clip_gradients: float = 20.0
    """The most that the norm of a step's gradient may be; a longer one is scaled down to it. 0: as it is."""
    accumulate: int = 1
    """Batches a step, whose gradient is the mean of theirs. Steps, rates and checkpoints count steps."""
    sync_batch_norm: Literal["auto", "yes", "no"] = "auto"
    """Whether batch norms take mean and variance over all processes, as one with the whole batch would, or each over
    its own clips; auto: over all."""
    tower_learning_rate: float | None = None
    """The towers' own learning rate at the start; it goes as the other does. By default it is the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """How long, and how the learning rate goes."""

    epochs: int = 32
    """Rounds over the training split."""
    max_steps: int | None = None
    """Stop after this many steps, wherever in an epoch that is."""
    warmup_steps: int = 0
    """Steps in which the learning rate rises from near 0."""
    schedule: Literal["step", "cosine"] = "step"
    """step: times 0.94 every 16 epochs, as in Objects that Sound; cosine: down to 0 at the last step."""

    def learning_rate(self, first: float, step: int, *, steps_an_epoch: float, total: int) -> float:
        """The learning rate of a step: a function of the step alone, so that resuming needs no state of it.

        Args:
            first: the rate at the start, after warming up.
            step: from 0.
            steps_an_epoch, total: steps.
        """
        warm = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.schedule == "cosine":
            return warm * first * (1 + math.cos(math.pi * step / total)) / 2
        return warm * first * float(0.94 ** (step // steps_an_epoch // 16))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringConfig:
    """What the network is scored on."""

    evaluation_split: str | None = None
    """The split to score; "test" or "validation", whichever the dataset has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairScoringConfig(ScoringConfig):
    """What the network is scored on."""

    evaluation_rounds: int = 1
    """Of pairs: how often the split is scored, each time with other pairs."""
    evaluation_negatives: tuple[str, ...] = ("other_video",)
    """Of pairs: the kinds of negatives to score on, see --negatives; each by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundConfig:
    """Where what is found is written, beside the table."""

    json: Path | None = None
    """A new file for the scores with their intervals, as results.json of a run has them."""
    predictions: Path | None = None
    """A new Parquet file for all that was answered, an utterance or a pair a row, as a run has it."""
    metrics: Path | None = None
    """A file of figures to watch it by, as of a training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationConfig:
    """Scoring while training, on clips that are neither trained nor evaluated on, to choose weights by."""

    validate_every: int | None = None
    """Steps from one validation to the next; the weights of the best one are those of the run. Without it nothing is
    validated, and they are those of the last step."""
    validation_fraction: float | None = None
    """Validate on this share of the training split's speakers, whose clips are then not trained on. Which speakers they
    are depends on --seed and their names."""
    validation_split: str | None = None
    """Validate on this split; it has to be another than the one that is evaluated."""
    patience: int | None = None
    """End the training after so many validations in a row without a better one; by default it goes to its end."""
    select_by: str | None = None
    """The score of a validation that is to be high: by default the accuracy on pairs with the first of
    --evaluation-negatives, or the mean of all targets and modalities, micro-F1 of classes and CCC of numbers. A name
    that there is not is answered with those that there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionConfig:
    """In what precision it is computed."""

    mixed_precision: Precision | None = None
    """None: training as accelerate launch was told, evaluation as the run was trained."""
    tf32: Tf32 = "convolutions"
    """On a GPU, which float32 products may be rounded to TF32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """The run's folder, and how it is kept."""

    output: Path
    """Folder of the run."""
    resume: bool = False
    """Go on from the last checkpoint in --output, with the settings it was trained with."""
    change: tuple[str, ...] = ()
    """With --resume: the options that are meant to differ from before, such as learning-rate; the run keeps note."""
    checkpoint_every: int = 500
    """Steps from one checkpoint to the next; the last two are kept."""
    log_every: int = 20
    """Steps from one line of the curves to the next."""
    tracker: tuple[TrackerName, ...] = ("tensorboard",)
    """What the curves are sent to, beside the run's metrics.jsonl; none at all where no name follows."""
    metrics: Path | None = None
    """A file of figures to watch the training by, written every few seconds and at the end: NAME.prom, for Prometheus
    by the node exporter's textfile collector, or NAME.jsonl, to which lines are appended. Of several processes each has
    its own, as NAME.rank1.prom."""
    picture: bool = True
    """Draw curves.png in the run when it ends; needs matplotlib (the extra plots)."""
    compile: bool = False
    """Have torch compile the towers: minutes at the start, for shorter steps."""


_flat = arg(name="")  # options are named by their field alone


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """What every training has. Stages add their own."""

    data: Annotated[TrainingDataConfig, _flat]
    run: Annotated[RunConfig, _flat]
    validation: Annotated[ValidationConfig, _flat] = field(default_factory=ValidationConfig)
    optimizer: Annotated[OptimizerConfig, _flat] = field(default_factory=OptimizerConfig)
    schedule: Annotated[ScheduleConfig, _flat] = field(default_factory=ScheduleConfig)
    precision: Annotated[PrecisionConfig, _flat] = field(default_factory=PrecisionConfig)
    loader: Annotated[LoaderConfig, _flat] = field(default_factory=LoaderConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig(TrainingConfig):
    """Do sound and picture belong together?"""

    stage: ClassVar[str] = "pretrain"
    network: Annotated[CorrespondenceNetworkConfig, _flat] = field(default_factory=CorrespondenceNetworkConfig)
    objective: Annotated[ObjectiveOptions, _flat] = field(default_factory=ObjectiveOptions)
    pairs: Annotated[PairsConfig, _flat] = field(default_factory=PairsConfig)
    scoring: Annotated[PairScoringConfig, _flat] = field(default_factory=PairScoringConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneConfig(TrainingConfig):
    """What do labels say of a clip, from its sound, its picture, or both?"""

    stage: ClassVar[str] = "finetune"
    network: Annotated[TargetNetworkConfig, _flat] = field(default_factory=TargetNetworkConfig)
    targets: Annotated[TargetsConfig, _flat] = field(default_factory=TargetsConfig)
    triplet: Annotated[TripletConfig, _flat] = field(default_factory=TripletConfig)
    scoring: Annotated[ScoringConfig, _flat] = field(default_factory=ScoringConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """Score a finished run on a dataset."""

    stage: ClassVar[str] = "evaluate"
    checkpoint: Path
    """The run to score."""
    data: Annotated[DataConfig, _flat]
    scoring: Annotated[PairScoringConfig, _flat] = field(default_factory=PairScoringConfig)
    found: Annotated[FoundConfig, _flat] = field(default_factory=FoundConfig)
    precision: Annotated[PrecisionConfig, _flat] = field(default_factory=PrecisionConfig)
    loader: Annotated[LoaderConfig, _flat] = field(default_factory=LoaderConfig)


StageConfig = PretrainConfig | FinetuneConfig | EvaluateConfig

#: Of evaluation, what only the scoring of pairs draws from or repeats.
OF_ANSWERS = ("evaluation_negatives", "evaluation_rounds")
#: The same, and what the gallery of retrieval is drawn by.
OF_PAIRS = (*OF_ANSWERS, "seed")
#: What the run of --init decides.
OF_INIT = ("preset", "system", "video_tower", "audio_tower", "gaze_tower", "vgg_face", "width", "frame_size", "frames")
#: What is of the triplet loss.
OF_TRIPLETS = ("alpha", "margin", "triplet_reduction", "normalise", "same_instance")
#: What is of validation, beside how often.
OF_VALIDATION = ("validation_fraction", "validation_split", "patience", "select_by")
#: What a later use of the same settings does not repeat.
_ONCE = ("resume", "change", "metrics")

_LEAST: Mapping[str, float] = {
    "batch_size": 2,
    "epochs": 1,
    "max_steps": 1,
    "evaluation_rounds": 1,
    "width": 1,
    "frame_size": 16,
    "frames": 1,
    "checkpoint_every": 1,
    "log_every": 1,
    "node_groups": 1,
    "shard_window": 1,
    "warmup_steps": 0,
    "weight_decay": 0,
    "alpha": 0,
    "margin": 0,
    "clip_gradients": 0,
    "accumulate": 1,
    "seed": 0,
    "validate_every": 1,
    "patience": 1,
}
_POSITIVE = ("cache_gb", "learning_rate", "tower_learning_rate", "weights", "target_weights")

C = TypeVar("C")


def options_of(config: type) -> dict[str, Any]:
    """The options of a stage, or of a group: each one's type, by its name."""
    found: dict[str, Any] = {}
    hints = get_type_hints(config)
    for each in fields(config):
        found |= options_of(hints[each.name]) if is_dataclass(hints[each.name]) else {each.name: hints[each.name]}
    return found


def required_of(config: type) -> list[str]:
    """The options of a stage, or of a group, that have no default."""
    found: list[str] = []
    hints = get_type_hints(config)
    for each in fields(config):
        if each.default is MISSING and each.default_factory is MISSING:
            found += required_of(hints[each.name]) if is_dataclass(hints[each.name]) else [each.name]
    return found


def flat(config: Any) -> dict[str, Any]:
    """The values of all options, by their names."""
    found: dict[str, Any] = {}
    for each in fields(config):
        value = getattr(config, each.name)
        found |= flat(value) if is_dataclass(value) else {each.name: value}
    return found


def as_data(config: Any) -> dict[str, Any]:
    """A stage's settings in their groups as JSON takes them, to be read again by `models.training.config_file`."""
    found: dict[str, Any] = {}
    for each in fields(config):
        value = getattr(config, each.name)
        if is_dataclass(value):
            found[each.name] = as_data(value)
        elif each.name not in _ONCE:
            found[each.name] = str(value) if isinstance(value, Path) else value
    return found


def with_local_paths(config: C) -> C:
    """The settings with paths of this machine for all that lies there, also where a file:// URL was given.

    Raises:
        InputError: a run, or the cache, in an object store.
    """
    changed: dict[str, Any] = {}
    for each in fields(config):  # type: ignore[arg-type]
        value = getattr(config, each.name)
        if is_dataclass(value):
            changed[each.name] = with_local_paths(value)
        elif isinstance(value, Path):
            changed[each.name] = local_path(value, spelt(each.name))
        elif each.name == "data":
            changed["data"] = tuple(str(local_path(d, "--data")) if d.startswith("file:/") else d for d in value)
    return replace(config, **changed)  # type: ignore[type-var]


def check(config: StageConfig, given: Collection[str] = ()) -> None:
    """Raise InputError where the settings do not make a run, or an option that was ``given`` has no effect."""
    _check_effects(config, given)
    values = flat(config)
    for name, least in _LEAST.items():
        value = values.get(name)
        if value is not None and not least <= value < math.inf:
            raise InputError(f"{spelt(name)} is {value}: use {least} or more")
    for name in _POSITIVE:
        value = values.get(name)
        if value is not None and not all(0 < number < math.inf for number in _numbers(value)):
            raise InputError(f"{spelt(name)} is {values[name]}: use more than 0")
    if config.data.seed >= 1 << 32:
        raise InputError(f"--seed is {config.data.seed}: use 0 to {(1 << 32) - 1}")
    _check_data(config.data)
    if isinstance(config, TrainingConfig):
        _check_validation(config.validation)
    if isinstance(config.scoring, PairScoringConfig):
        scoring_negatives(config.scoring.evaluation_negatives, config.scoring.evaluation_rounds)
    if isinstance(config, PretrainConfig):
        last = max(training_negatives(config.pairs.negatives))
        if last >= config.schedule.epochs:
            raise InputError(
                f"--negatives: what holds from epoch {last} on has no effect with --epochs {config.schedule.epochs}, "
                "the first of which is 0: leave it away, or give more epochs"
            )
    if not isinstance(config, EvaluateConfig) and not 0 <= config.network.gaze_dropout <= 1:
        raise InputError(f"--gaze-dropout is {config.network.gaze_dropout}: use a share from 0 to 1")


def check_targets(config: FinetuneConfig, targets: Sequence[Label], given: Collection[str] = ()) -> None:
    """Raise InputError where an option that was ``given`` has no effect on these targets, or weights are not theirs."""
    weights = config.targets.target_weights
    if weights and len(weights) != len(targets):
        names = ", ".join(target.name for target in targets)
        raise InputError(f"--target-weights has {len(weights)} numbers for {names}: give each one")
    if all(target.classes is None for target in targets):
        refuse(given, [*OF_TRIPLETS, "class_weights"], "without a target that has classes")
    if all(target.classes is not None for target in targets):
        refuse(given, ["number_loss"], "without a target that is a number")


def _check_effects(config: StageConfig, given: Collection[str]) -> None:
    if all(url_of(dataset) is None for dataset in config.data.data):
        refuse(given, ["cache", "cache_gb"], "on local datasets")
    if config.loader.placement == "cpu":
        refuse(given, ["hw_decoder_load"], "with --placement cpu")
    if isinstance(config, EvaluateConfig):
        return
    if not config.run.resume:
        refuse(given, ["change"], "without --resume")
    if config.validation.validate_every is None:
        refuse(given, OF_VALIDATION, "without --validate-every")
    if isinstance(config, PretrainConfig):
        check_objective(config.objective, given)
        if not takes_pairs(config.objective):
            why = f"with --objective {config.objective.objective}, which is given no pairs"
            refuse(given, ["negatives", *OF_ANSWERS], why)
    if not config.network.knows_faces:
        refuse(given, ["vgg_face"], "without a video tower vgg-face-gru")
    if config.network.system is not None:
        refuse(given, ["model", "gaze"], f"with --system {config.network.system}, which says it")
    if not config.network.looks_at_gaze:
        why = "with --no-gaze" if config.network.system is None else f"with --system {config.network.system}"
        refuse(given, ["gaze_dropout", "gaze_tower"], f"{why}, which does not look at gaze")
    elif config.network.system is not None and not system_of(config.network.system).gaze_tower:
        refuse(given, ["gaze_tower"], f"with --system {config.network.system}, whose video tower encodes gaze")
    if isinstance(config, FinetuneConfig):
        if config.network.init is not None:
            refuse(given, OF_INIT, "with --init, whose run decides it")
        else:
            refuse(given, ["freeze_stages"], "without --init: fresh towers have learnt nothing")
        if config.triplet.alpha == 0:
            refuse(given, [name for name in OF_TRIPLETS if name != "alpha"], "with --alpha 0")


def _check_validation(config: ValidationConfig) -> None:
    if config.validate_every is None:
        return
    fraction = config.validation_fraction
    if (fraction is None) == (config.validation_split is None):
        found = "neither is" if fraction is None else "both are"
        raise InputError(
            "--validate-every takes clips to validate on from --validation-fraction, a share of the training's "
            f"speakers, or --validation-split: {found} given, give one of them"
        )
    if fraction is not None and not 0 < fraction < 1:
        raise InputError(f"--validation-fraction is {fraction}: use more than 0 and less than 1")


def _check_data(data: DataConfig) -> None:
    where = [url_of(dataset) or str(Path(dataset).resolve()) for dataset in data.data]
    for number, dataset in enumerate(data.data):
        if where[number] in where[:number]:
            raise InputError(f"--data names {dataset} twice: give it once, with a greater one of --weights")
    if isinstance(data, TrainingDataConfig) and data.weights and len(data.weights) != len(data.data):
        raise InputError(f"--weights has {len(data.weights)} numbers for {len(data.data)} datasets: give each one")


def _numbers(value: float | tuple[float, ...]) -> Iterator[float]:
    yield from value if isinstance(value, tuple) else (value,)

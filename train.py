"""Train and evaluate: ``accelerate launch train.py --stage {pretrain,finetune,evaluate} --help``."""

import hashlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from accelerate import Accelerator
from accelerate.utils import DistributedType, ProjectConfiguration, set_seed
from rich.console import Console
from torch import Tensor, nn

from loaders import Batch, ClipLoader
from loaders.dataset import Manifest
from loaders.errors import InputError, reported
from loaders.filesystem import local_path, url_of
from loaders.progress import progress
from loaders.remote import CACHE, describe
from models import options, runs
from models.augmentation import Augmentation
from models.checkpoint import Checkpoint, checkpoints, newest_checkpoint, not_finite, restore, write_checkpoint
from models.emotion import EmotionNet
from models.execution import Tf32, adam, compile_towers, place, place_front_end, set_tf32
from models.frontend import FrontEnd, FrontEndConfig
from models.gaze import GazeTower
from models.losses import EmotionLossConfig, correspondence_loss, emotion_loss
from models.presets import Preset, correspondence_net, emotion_net, preset, preset_from_json
from models.provenance import EXECUTION, SETTINGS, Change, as_json, changes, versions
from models.scores import plain, results_table, score_emotion, score_match


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a run. None stands for the preset's own value, or for the stage's."""

    stage: Literal["pretrain", "finetune", "evaluate"]
    """pretrain: do sound and picture belong together? finetune: which of seven emotions? evaluate: score a run."""
    data: tuple[str, ...]
    """A dataset built by sharding/build.py, or several of them with clips of one shape: folders, or URLs of an object
    store (s3://bucket/vox)."""
    weights: tuple[float, ...] = ()
    """How often an epoch passes over each of several datasets; by default once."""
    output: Path | None = None
    """Folder of the run; for pretrain and finetune."""
    init: Path | None = None
    """finetune: the pre-trained run whose towers to start from; without it, from scratch."""
    checkpoint: Path | None = None
    """evaluate: the run to score."""
    resume: bool = False
    """Go on from the last checkpoint in --output, with the settings it was trained with."""
    change: tuple[str, ...] = ()
    """With --resume: the options that are meant to differ from before, such as learning-rate; the run keeps note."""

    model: Literal["l3", "ave"] = "l3"
    """pretrain: which correspondence network."""
    preset: Literal["full", "tiny"] = "full"
    """Sizes: full are the thesis', tiny is what two CPU cores train in minutes."""
    gaze: bool = True
    """Whether the network has the gaze tower; fine-tuning adds a fresh one where the pre-trained network has none, and
    leaves out the one it has with --no-gaze."""
    width: int | None = None
    """Channels of the first stage of the audio and video towers."""
    frame_size: int | None = None
    """Side of the frames the video tower sees, pixels."""
    frames: int | None = None
    """Frames of a clip the video tower sees, evenly spaced."""
    window: int | None = None
    """Consecutive frames, and the sound under them, that an example takes of a clip; at a random place in training."""
    gaze_dropout: float = 0.0
    """Share of the training clips whose gaze is withheld."""

    batch_size: int = 32
    """Clips a step on each process."""
    epochs: int = 32
    """Rounds over the training split."""
    max_steps: int | None = None
    """Stop after this many steps, wherever in an epoch that is."""
    learning_rate: float = 1e-4
    """Adam's, at the start."""
    weight_decay: float = 1e-5
    """Adam's."""
    warmup_steps: int = 0
    """Steps in which the learning rate rises from near 0."""
    schedule: Literal["step", "cosine"] = "step"
    """step: times 0.94 every 16 epochs, as in Objects that Sound; cosine: down to 0 at the last step."""
    alpha: float = 0.1
    """finetune: weight of the triplet loss."""
    margin: float | None = None
    """finetune: margin of the triplet loss; without it the plain difference, as published."""
    triplet_reduction: Literal["sum", "mean"] = "sum"
    """finetune: the triplet loss summed over a batch, as published, or its mean."""

    evaluation_split: str | None = None
    """The split to score; "test" or "validation", whichever the dataset has."""
    evaluation_rounds: int = 1
    """pretrain: how often the split is scored, each time with other pairs."""
    mixed_precision: Literal["no", "fp16", "bf16"] | None = None
    """None: as accelerate launch was told."""
    seed: int = 0
    """Of weights, order, pairs and augmentation."""
    checkpoint_every: int = 500
    """Steps from one checkpoint to the next; the last two are kept."""
    log_every: int = 20
    """Steps from one line of the curves to the next."""
    compile: bool = False
    """Have torch compile the towers: minutes at the start, for shorter steps."""
    tf32: Tf32 = "convolutions"
    """On a GPU, which float32 products may be rounded to TF32."""
    loader_threads: int | None = None
    """Threads that decode; by default as many as there are cores."""
    reading_threads: int | None = None
    """Threads that read and check clips; by default 1 for a CPU and 2 for a GPU."""
    placement: Literal["auto", "gpu", "cpu"] = "auto"
    """Where filmstrips are decoded for training on a GPU; auto: wherever that is faster, measured at the start."""
    hw_decoder_load: float = 0.9
    """Share of the filmstrips that a GPU decodes in its JPEG engines, where it has some."""
    cpu_decoder: Literal["auto", "dali", "turbo"] = "auto"
    """What decodes for training on a CPU, to the same bytes: DALI's graph, or libjpeg-turbo alone, which is faster and
    takes whole clips (no --window) with WAV; auto: that where it can."""
    pixels: Literal["rgb", "yuv420"] = "rgb"
    """What is decoded for training on a CPU: RGB, or luma and halved chroma as the clips hold them, of whole clips (no
    --window): faster, half the memory, and to within a level or two the same frames. Needs libturbojpeg."""
    lanes: int = 1
    """Into which shards are dealt out: with as many as nodes, a shard is read on one node alone."""
    shard_window: int | None = None
    """Shards a lane that examples are drawn from at a time; by default all. Two windows of a remote dataset have to fit
    in the cache."""
    cache: Path = CACHE
    """Folder on a local disk for the shards of remote datasets."""
    cache_gb: float = 64.0
    """What these may take, in 10⁹ bytes."""


#: Settings of a run that the order of its clips depends on.
_ORDER = ("data", "weights", "seed", "batch_size", "world_size", "window", "lanes", "shard_window")


@dataclass(frozen=True, slots=True)
class Step:
    """What a step of training minimises, and what of it to log."""

    loss: Tensor
    logged: Mapping[str, Tensor]


def main() -> None:
    """The command line."""
    settings = tyro.cli(Settings, description=f"{__doc__}\n\n{runs.__doc__}")
    given = options.given(sys.argv[1:], [field.name for field in fields(Settings)])
    with reported():
        settings = local(settings)
        check(settings, given)
        accelerator = Accelerator(
            mixed_precision=settings.mixed_precision,
            log_with=None if settings.stage == "evaluate" else "tensorboard",
            project_config=ProjectConfiguration(
                project_dir=str(settings.output or "."), logging_dir=str(settings.output)
            ),
        )
        check_device(settings, given, accelerator)
        if accelerator.device.type == "cuda":
            set_tf32(settings.tf32)
        stages: dict[str, Callable[[Settings, Accelerator], None]] = {
            "pretrain": pretrain,
            "finetune": finetune,
            "evaluate": partial(evaluate, given=given),
        }
        try:
            stages[settings.stage](settings, accelerator)
        finally:
            accelerator.end_training()


def local(settings: Settings) -> Settings:
    """The settings with paths of this machine for all that lies there, also where a file:// URL was given.

    Raises:
        InputError: a run, or the cache, in an object store.
    """
    paths = {name: getattr(settings, name) for name in ("output", "init", "checkpoint", "cache")}
    here: dict[str, Any] = {
        name: local_path(path, options.spelt(name)) for name, path in paths.items() if path is not None
    }
    data = tuple(str(local_path(d, "--data")) if d.startswith("file:/") else d for d in settings.data)
    return replace(settings, data=data, **here)


def check(settings: Settings, given: frozenset[str] = frozenset()) -> None:
    """Raise InputError where the settings do not make a run, or an option that was ``given`` has no effect."""
    options.require_effect(settings.stage, given)
    if settings.init is not None:
        options.refuse(given, options.OF_INIT, "with --init, whose run decides it")
    if not settings.resume:
        options.refuse(given, ["change"], "without --resume")
    if not settings.gaze:
        options.refuse(given, ["gaze_dropout"], "with --no-gaze")
    if all(url_of(dataset) is None for dataset in settings.data):
        options.refuse(given, ["cache", "cache_gb"], "on local datasets")
    if settings.alpha == 0:
        options.refuse(given, ["margin", "triplet_reduction"], "with --alpha 0")
    if settings.placement == "cpu":
        options.refuse(given, ["hw_decoder_load"], "with --placement cpu")
    if settings.stage == "evaluate":
        if settings.checkpoint is None:
            raise InputError("--stage evaluate needs --checkpoint: give the folder of a run")
    elif settings.output is None:
        raise InputError(f"--stage {settings.stage} needs --output: give the folder of the run to make")
    for name, least in (
        ("batch_size", 2),
        ("epochs", 1),
        ("max_steps", 1),
        ("evaluation_rounds", 1),
        ("width", 1),
        ("frame_size", 16),
        ("frames", 1),
        ("checkpoint_every", 1),
        ("log_every", 1),
        ("lanes", 1),
        ("shard_window", 1),
        ("warmup_steps", 0),
        ("weight_decay", 0),
        ("alpha", 0),
        ("margin", 0),
        ("seed", 0),
    ):
        value = getattr(settings, name)
        if value is not None and not least <= value < math.inf:
            raise InputError(f"{options.spelt(name)} is {value}: use {least} or more")
    if settings.seed >= 1 << 32:
        raise InputError(f"--seed is {settings.seed}: use 0 to {(1 << 32) - 1}")
    where = [url_of(dataset) or str(Path(dataset).resolve()) for dataset in settings.data]
    for number, dataset in enumerate(settings.data):
        if where[number] in where[:number]:
            raise InputError(f"--data names {dataset} twice: give it once, with a greater one of --weights")
    if settings.weights and len(settings.weights) != len(settings.data):
        raise InputError(
            f"--weights has {len(settings.weights)} numbers for {len(settings.data)} datasets: give each one"
        )
    if not 0 <= settings.gaze_dropout <= 1:
        raise InputError(f"--gaze-dropout is {settings.gaze_dropout}: use a share from 0 to 1")
    for name in ("cache_gb", "learning_rate", *(["weights"] if settings.weights else [])):
        values = getattr(settings, name)
        if not all(0 < value < math.inf for value in (values if isinstance(values, tuple) else (values,))):
            raise InputError(f"{options.spelt(name)} is {values}: use more than 0")


def check_device(settings: Settings, given: frozenset[str], accelerator: Accelerator) -> None:
    """Raise InputError where the processes cannot train so, or an option that was ``given`` has no effect on them."""
    if accelerator.distributed_type not in (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
        raise InputError(
            f"accelerate was told to use {accelerator.distributed_type.value}: each process has the whole network "
            "here, use plain data-parallel training"
        )
    if accelerator.device.type == "cuda":
        options.refuse(given, ["cpu_decoder"], "where batches lie on a GPU")
    else:
        options.refuse(given, ["tf32", "hw_decoder_load"], "on a CPU")


# -- the stages


def pretrain(settings: Settings, accelerator: Accelerator) -> None:
    """Train a correspondence network on matching and other pairs, and score it on unseen ones."""
    manifests = _manifests(settings)
    loader = _loader(settings, accelerator, "train", training=True, paired=True)
    unseen = _unseen(settings, accelerator, paired=True)  # what cannot be scored is refused before it is trained
    set_seed(settings.seed)
    sizes = sizes_of(settings)
    front_end = front_end_of(sizes, manifests)
    network = correspondence_net(sizes, settings.model, gaze=settings.gaze)

    run = {"stage": "pretrain", "model": settings.model, "gaze": settings.gaze, "sizes": asdict(sizes)}
    with _run_of(settings, accelerator):
        _fit(settings, accelerator, front_end, network, loader, pretrain_step, run)
        with unseen:
            pairs = score_match(accelerator, front_end, network, unseen, rounds=settings.evaluation_rounds)
        _finish(settings, accelerator, {"pretraining": pairs})


def finetune(settings: Settings, accelerator: Accelerator) -> None:
    """Train the emotion network, from a pre-trained run's towers or from scratch, and score it."""
    manifests = _manifests(settings)
    loader = _labelled(settings, _loader(settings, accelerator, "train", training=True, paired=False))
    unseen = _labelled(settings, _unseen(settings, accelerator, paired=False))
    set_seed(settings.seed)
    earlier: dict[str, Any] = {}
    if settings.init is None:
        sizes = sizes_of(settings)
        network = emotion_net(sizes, gaze=settings.gaze)
    else:
        _, towers = runs.load_correspondence(settings.init)
        earlier = runs.read_results(settings.init)
        sizes = preset_from_json(runs.read_run(settings.init)["sizes"])
        if not settings.gaze:
            towers.gaze = None
        fresh = GazeTower(sizes.gaze) if settings.gaze and towers.gaze is None else None
        network = EmotionNet.from_correspondence(towers, sizes.emotion, gaze=fresh)
        sizes = replace(sizes, front_end=_augmented(sizes.front_end, settings))
    front_end = front_end_of(sizes, manifests)
    losses = EmotionLossConfig(alpha=settings.alpha, margin=settings.margin, reduction=settings.triplet_reduction)

    def step(batch: Batch, network: nn.Module, front_end: FrontEnd) -> Step:
        inputs = front_end(batch.video, batch.audio, batch.gaze, batch.gaze_valid, batch.seed)
        loss = emotion_loss(network(inputs.video, inputs.audio, inputs.gaze), batch.emotion, losses)
        logged = {"triplet": loss.triplet, "audio": loss.audio, "visual": loss.visual, "joint": loss.joint}
        return Step(loss.total, logged)

    run = {
        "stage": "finetune",
        "gaze": network.gaze is not None,
        "sizes": asdict(sizes),
        "init": None
        if settings.init is None
        else {"run": str(settings.init), "results": earlier, "model_sha256": runs.model_sha256(settings.init)},
    }
    with _run_of(settings, accelerator):
        _fit(settings, accelerator, front_end, network, loader, step, run)
        with unseen:
            emotion = score_emotion(accelerator, front_end, network, unseen)
        _finish(settings, accelerator, earlier | {"emotion": emotion})


def evaluate(settings: Settings, accelerator: Accelerator, given: frozenset[str] = frozenset()) -> None:
    """Score a finished run on a dataset."""
    assert settings.checkpoint is not None  # `check` saw to it
    run = runs.read_run(settings.checkpoint)
    results: dict[str, Any]
    if run["stage"] == "pretrain":
        front_end, pairing = runs.load_correspondence(settings.checkpoint)
        place_front_end(front_end, accelerator.device, half=accelerator.mixed_precision != "no")
        with _unseen(settings, accelerator, paired=True) as unseen, accelerator.autocast():
            pairs = score_match(accelerator, front_end, pairing, unseen, rounds=settings.evaluation_rounds)
        results = {"pretraining": pairs}
    else:
        options.refuse(given, options.OF_PAIRS, f"on {settings.checkpoint}, a run of stage finetune: pairs need it")
        front_end, network = runs.load_emotion(settings.checkpoint)
        place_front_end(front_end, accelerator.device, half=accelerator.mixed_precision != "no")
        with _labelled(settings, _unseen(settings, accelerator, paired=False)) as unseen, accelerator.autocast():
            emotion = score_emotion(accelerator, front_end, network, unseen)
        results = ({} if run["init"] is None else run["init"]["results"]) | {"emotion": emotion}
    _show(accelerator, results, title=f"{settings.checkpoint} on {_names(settings)}")


# -- training


def pretrain_step(batch: Batch, network: nn.Module, front_end: FrontEnd) -> Step:
    """Do sound and picture of these clips belong together?"""
    inputs = front_end(batch.video, batch.audio, batch.gaze, batch.gaze_valid, batch.seed)
    logits = network(inputs.video, inputs.audio, inputs.gaze)
    right = (logits.argmax(1) == batch.match).float().mean()
    return Step(correspondence_loss(logits, batch.match), {"accuracy": right})


def put_in_place(settings: Settings, network: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """Bring a network to where it is trained, compiled if that is asked for; returns Adam over all of it."""
    place(network, device)
    if settings.compile:
        compile_towers(network, device)
    return adam(network, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay)


def advance(
    accelerator: Accelerator,
    optimizer: torch.optim.Optimizer,
    step: Callable[[Batch, nn.Module, FrontEnd], Step],
    batch: Batch,
    network: nn.Module,
    front_end: FrontEnd,
) -> Step:
    """Take one step of training."""
    optimizer.zero_grad()
    taken = step(batch, network, front_end)
    accelerator.backward(taken.loss)
    optimizer.step()
    return taken


def _fit(
    settings: Settings,
    accelerator: Accelerator,
    front_end: FrontEnd,
    network: nn.Module,
    loader: ClipLoader,
    step: Callable[[Batch, nn.Module, FrontEnd], Step],
    run: dict[str, Any],
) -> None:
    """Train ``network`` in place, with checkpoints and curves, and save it."""
    assert settings.output is not None  # `check` saw to it
    output = settings.output
    optimizer: Any = put_in_place(settings, network, accelerator.device)
    described = as_json(run | _trained_with(settings, accelerator, loader, run["stage"]))
    place_front_end(front_end, accelerator.device, half=accelerator.mixed_precision != "no")
    front_end.train()
    prepared, optimizer = accelerator.prepare(network, optimizer)
    changed: list[Change] = []
    done, begun = 0, (output / runs.RUN).exists()
    accelerator.wait_for_everyone()  # all have looked
    if begun:
        changed = changes(output, runs.read_run(output), described, settings.change)
        done = _resume(settings, accelerator, network, optimizer, loader, changed)
    elif settings.resume:
        options.refuse(["change"] if settings.change else [], ["change"], f"with {output}, where no run is yet")
        _say(accelerator, f"{output}: no run there yet, from the beginning")
    total = done + settings.epochs * len(loader) - loader.epoch * len(loader) - loader.step
    if settings.max_steps is not None:
        total = min(total, settings.max_steps)
    if done > total:
        raise InputError(
            f"{output}: {done} steps and {loader.epoch} epochs are behind the run: give more --epochs and --max-steps"
        )
    runs.describe_run(output, described, accelerator, changed, done)
    # What a killed process has written after its last checkpoint is written again.
    purge = {"tensorboard": {"purge_step": done + 1}} if begun else {}
    accelerator.init_trackers("tensorboard", init_kwargs=purge)
    prepared.train()
    curves = _Curves(accelerator, settings.log_every)
    with loader, _progress(accelerator, run["stage"], done, total) as show:
        while done < total:
            for batch in loader:
                rate = learning_rate(settings, done, loader_steps=len(loader), total=total)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                taken = advance(accelerator, optimizer, step, batch, prepared, front_end)
                done += 1
                curves.add({"loss": taken.loss, **taken.logged})
                at_a_line = done % settings.log_every == 0 or done == total
                at_a_checkpoint = done % settings.checkpoint_every == 0 or done == total
                if at_a_line or at_a_checkpoint:
                    # The weights are asked where they are kept, the loss at every line.
                    names = not_finite(network, optimizer) if at_a_checkpoint else []
                    _require_finite(output, accelerator, curves.loss, names, done)
                if at_a_line:
                    show(done, curves.log(done, rate, loader))
                if at_a_checkpoint:
                    place = loader.state_dict()
                    write_checkpoint(output / runs.CHECKPOINTS, done, accelerator, network, optimizer, place)
                if done >= total:
                    break
        if accelerator.is_main_process:
            _say_what_bounds(loader)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        runs.save_model(output, front_end, network)


def _require_finite(output: Path, accelerator: Accelerator, loss: Tensor, names: Sequence[str], step: int) -> None:
    """Raise InputError, on every process, where on one the loss is not finite, or tensors that have these names."""
    sound = not names and math.isfinite(float(loss))
    everywhere = accelerator.reduce(torch.tensor(float(sound), device=accelerator.device))
    if everywhere.item() == accelerator.num_processes:
        return
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    what = f"; {names[0]}{more} are not finite" if names else ""
    saved = checkpoints(output / runs.CHECKPOINTS)
    mend = "use a lower --learning-rate, or bf16 or no mixed precision"
    if saved:
        mend += (
            f"; the last finite checkpoint is {saved[-1]}: --resume goes on from it, with --change for what you change"
        )
    else:
        mend += ", and another --output; there is no checkpoint yet"
    raise InputError(f"the loss is {float(loss)} at step {step}{what}: {mend}")


def learning_rate(settings: Settings, step: int, *, loader_steps: int, total: int) -> float:
    """The learning rate of a step: a function of the step alone, so that resuming needs no state of it."""
    warm = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    if settings.schedule == "cosine":
        return warm * settings.learning_rate * (1 + math.cos(math.pi * step / total)) / 2
    return warm * settings.learning_rate * 0.94 ** (step // loader_steps // 16)


class _Curves:
    """Means over the steps between two lines of the curves; the device is asked only once a line."""

    def __init__(self, accelerator: Accelerator, every: int) -> None:
        self._accelerator = accelerator
        self._every = every
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            value = value.detach()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps += 1

    @property
    def loss(self) -> Tensor:
        """Its mean since the last line: not finite where one of the steps' was not."""
        return self._sums["loss"] / self._steps

    def log(self, step: int, rate: float, loader: ClipLoader) -> dict[str, float]:
        """Write a line and begin the next; returns it."""
        line = {name: float(value) / self._steps for name, value in self._sums.items()}
        self._sums, self._steps = {}, 0
        stats = loader.stats()
        of_loader = {f"loader/{name}": v for name, v in asdict(stats).items() if not isinstance(v, str)}
        of_loader |= {
            "loader/clips_per_second": stats.clips_per_second,
            "loader/data_wait_share": stats.data_wait_share,
        }
        curves = {f"train/{name}": value for name, value in line.items()} | {"train/learning_rate": rate}
        self._accelerator.log(curves | of_loader, step=step)
        return line | {"clips/s": stats.clips_per_second, "data wait %": 100 * stats.data_wait_share}


@contextmanager
def _progress(
    accelerator: Accelerator, stage: str, done: int, total: int
) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """A bar on the main process, or lines in its log; the yielded function moves it."""
    with progress(stage, total, "steps", console=console(), done=done, shown=accelerator.is_main_process) as bar:

        def show(step: int, line: Mapping[str, float]) -> None:
            bar.move(step, ", ".join(f"{name} {value:.3g}" for name, value in line.items()))

        yield show


def _say_what_bounds(loader: ClipLoader) -> None:
    stats = loader.stats()
    bound = "data" if stats.data_wait_share > 0.01 else "the model"
    console().print(
        f"{stats.clips} clips in {stats.seconds:.0f} s, {stats.clips_per_second:.0f} clips/s; waited for data "
        f"{100 * stats.data_wait_share:.2f} % of the time: bound by {bound}; {stats.bad_clips} bad clips"
    )
    if stats.decoder:
        console().print(f"{decoded_by(stats.decoder)}: {stats.decoder_reason}")


def decoded_by(decoder: str) -> str:
    """How the end of a run begins to tell what decoded, and why."""
    what = {"gpu": "by nvJPEG on the GPU", "cpu": "by DALI on the CPU", "turbo": "by libjpeg-turbo on the CPU"}
    return f"filmstrips were decoded {what[decoder]}"


def _resume(
    settings: Settings,
    accelerator: Accelerator,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: ClipLoader,
    changed: Sequence[Change],
) -> int:
    """Bring everything to where the last whole checkpoint has it; returns the steps behind that."""
    assert settings.output is not None  # `check` saw to it

    def warn(text: str) -> None:
        if accelerator.is_main_process:
            print(f"warning: {plain(text)}", file=sys.stderr)

    say = partial(_say, accelerator)
    checkpoint = newest_checkpoint(settings.output / runs.CHECKPOINTS, accelerator, warn)
    for change in changed:
        say(f"changed: {change}")
    if checkpoint is None:
        say(f"{settings.output}: no checkpoint yet, from the beginning")
        return 0
    restore(checkpoint, accelerator, network, optimizer)
    if not checkpoint.same_rank:
        say("another number of processes: this one's random states begin anew")
    _place(loader, checkpoint, changed, say)
    say(f"resuming from {settings.output / runs.CHECKPOINTS / f'{checkpoint.step:08d}'}")
    return checkpoint.step


def _say(accelerator: Accelerator, text: str) -> None:
    if accelerator.is_main_process:
        console().print(plain(text))


def _place(loader: ClipLoader, checkpoint: Checkpoint, changed: Sequence[Change], say: Callable[[str], None]) -> None:
    """Bring the loader to where it was; where the order is meant to be another, to the next epoch's beginning."""
    state, now = checkpoint.state["loader"], loader.state_dict()
    meant = any(change.option in _ORDER for change in changed)
    if not meant or state["fingerprint"] == now["fingerprint"]:
        loader.load_state_dict(state)
        return
    epoch = state["epoch"] + (state["step"] > 0)
    loader.load_state_dict(now | {"epoch": epoch, "step": 0})
    say(f"the order is another from here on: what was left of epoch {state['epoch']} is left out, epoch {epoch} begins")


def _trained_with(settings: Settings, accelerator: Accelerator, loader: ClipLoader, stage: str) -> dict[str, Any]:
    """What run.json says of how a run was trained: see `models.provenance`."""
    on_gpu = accelerator.device.type == "cuda"
    order = loader.state_dict()["fingerprint"]
    split = order["split"]
    catalogs = [catalog.manifest.splits[split].catalog_sha256 for catalog in loader.catalogs]
    names = ["epochs", "max_steps", "learning_rate", "weight_decay", "warmup_steps", "schedule", "gaze_dropout"]
    names += ["batch_size", "seed", "lanes", "shard_window", "evaluation_split"]
    names += ["evaluation_rounds"] if stage == "pretrain" else ["alpha", "margin", "triplet_reduction"]
    decides = {name: getattr(settings, name) for name in names}
    decides |= {
        "data": hashlib.sha256(" ".join([order["dataset"], *catalogs]).encode()).hexdigest()[:16],
        "weights": order["weights"],
        "window": order["frames"],
        "mixed_precision": accelerator.mixed_precision,
        "world_size": accelerator.num_processes,
    }
    rounds = {
        "folders": list(settings.data),
        "device": torch.cuda.get_device_name(accelerator.device) if on_gpu else accelerator.device.type,
        "tf32": settings.tf32 if on_gpu else None,
        **{
            name: getattr(settings, name)
            for name in ("compile", "placement", "hw_decoder_load", "cpu_decoder", "pixels")
        },
        **versions(),
    }
    return {SETTINGS: decides, EXECUTION: rounds}


@contextmanager
def _run_of(settings: Settings, accelerator: Accelerator) -> Iterator[None]:
    """Within it, the run's folder is this training's alone. Its curves end with it."""
    assert settings.output is not None  # `check` saw to it
    with runs.held(settings.output, accelerator, resume=settings.resume):
        try:
            yield
        finally:
            accelerator.end_training()  # here, where a full disk has its line


def _finish(settings: Settings, accelerator: Accelerator, results: Mapping[str, Any]) -> None:
    """The end of training: what the run scored, in its folder and on the screen."""
    assert settings.output is not None  # `check` saw to it
    if accelerator.is_main_process:
        runs.save_results(settings.output, results)
    _show(accelerator, results, title=str(settings.output))


def _show(accelerator: Accelerator, results: Mapping[str, Any], *, title: str) -> None:
    if accelerator.is_main_process:
        console().print(results_table(results, title=title))


def console() -> Console:
    """Standard output; as wide as a table needs where nobody says how wide it is."""
    return Console(width=None if sys.stdout.isatty() else 128)


# -- what a run is made of


def sizes_of(settings: Settings) -> Preset:
    """The preset with what the settings change of it."""
    sizes = preset(settings.preset)
    front_end = replace(
        _augmented(sizes.front_end, settings),
        frame_size=settings.frame_size or sizes.front_end.frame_size,
        frames=settings.frames or sizes.front_end.frames,
    )
    if settings.width is None:
        return replace(sizes, front_end=front_end)
    video, audio = (replace(tower, width=settings.width) for tower in (sizes.video, sizes.audio))
    return replace(sizes, front_end=front_end, video=video, audio=audio)


def _augmented(front_end: FrontEndConfig, settings: Settings) -> FrontEndConfig:
    return replace(front_end, augmentation=Augmentation(gaze_dropout=settings.gaze_dropout))


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


def _loader(settings: Settings, accelerator: Accelerator, split: str, *, training: bool, paired: bool) -> ClipLoader:
    """Batches of a split; ``paired``: half of them with another video's audio, otherwise each clip with its own."""
    weights = settings.weights if training and settings.weights else (1.0,) * len(settings.data)
    return ClipLoader(
        dict(zip(settings.data, weights, strict=True)),
        split,
        batch_size=settings.batch_size,
        frames=settings.window,
        seed=settings.seed,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        device=accelerator.device,
        placement=settings.placement,
        cpu_decoder=settings.cpu_decoder,
        pixels=settings.pixels,
        hw_decoder_load=settings.hw_decoder_load,
        training=training,
        negatives={"other_video": 1.0} if paired else None,
        threads=settings.loader_threads,
        reading_threads=settings.reading_threads,
        lanes=settings.lanes if training else 1,
        shard_window=settings.shard_window,
        cache=settings.cache,
        cache_bytes=round(settings.cache_gb * 1e9),
    )


def _unseen(settings: Settings, accelerator: Accelerator, *, paired: bool) -> ClipLoader:
    """Batches of the split to score on."""
    return _loader(settings, accelerator, _evaluation_split(settings), training=False, paired=paired)


def _labelled(settings: Settings, loader: ClipLoader) -> ClipLoader:
    """The loader, where its split has labels."""
    if not any((catalog.emotion >= 0).any() for catalog in loader.catalogs):
        split = loader.catalogs[0].split
        raise InputError(
            f"{_names(settings)}: no clip of the split {split!r} has a label: give a dataset with emotions"
        )
    return loader


def _manifests(settings: Settings) -> list[Manifest]:
    return [describe(dataset, settings.cache) for dataset in settings.data]


def _evaluation_split(settings: Settings) -> str:
    if settings.evaluation_split is not None:
        return settings.evaluation_split
    splits = [manifest.splits for manifest in _manifests(settings)]
    for name in ("test", "validation"):
        if all(name in of_dataset and of_dataset[name].clips for of_dataset in splits):
            return name
    have = "; ".join(", ".join(of_dataset) for of_dataset in splits)
    raise InputError(f"{_names(settings)}: no split to score on, it has {have}: give --evaluation-split")


def _names(settings: Settings) -> str:
    return ", ".join(settings.data)


if __name__ == "__main__":
    main()

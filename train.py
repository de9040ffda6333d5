"""Train and evaluate: ``accelerate launch train.py --stage {pretrain,finetune,evaluate} --help``."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, set_seed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from loaders import Batch, ClipLoader
from loaders.dataset import Manifest
from loaders.errors import InputError, reported
from loaders.remote import CACHE, describe
from models import runs
from models.augmentation import Augmentation
from models.emotion import EmotionNet
from models.execution import Tf32, adam, compile_towers, place, place_front_end, set_tf32
from models.frontend import FrontEnd, FrontEndConfig
from models.gaze import GazeTower
from models.losses import EmotionLossConfig, correspondence_loss, emotion_loss
from models.presets import Preset, correspondence_net, emotion_net, preset, preset_from_json
from models.scores import results_table, score_emotion, score_match


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
    """Go on from the last checkpoint in --output."""

    model: Literal["l3", "ave"] = "l3"
    """pretrain: which correspondence network."""
    preset: Literal["full", "tiny"] = "full"
    """Sizes: full are the thesis', tiny is what two CPU cores train in minutes."""
    gaze: bool = True
    """Whether the network has the gaze tower; fine-tuning adds a fresh one where the pre-trained network has none."""
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
    lanes: int = 1
    """Into which shards are dealt out: with as many as nodes, a shard is read on one node alone."""
    shard_window: int | None = None
    """Shards a lane that examples are drawn from at a time; by default all. Two windows of a remote dataset have to fit
    in the cache."""
    cache: Path = CACHE
    """Folder on a local disk for the shards of remote datasets."""
    cache_gb: float = 64.0
    """What these may take, in 10⁹ bytes."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a step of training minimises, and what of it to log."""

    loss: Tensor
    logged: Mapping[str, Tensor]


def main() -> None:
    """The command line."""
    settings = tyro.cli(Settings, description=f"{__doc__}\n\n{runs.__doc__}")
    with reported():
        check(settings)
        accelerator = Accelerator(
            mixed_precision=settings.mixed_precision,
            log_with=None if settings.stage == "evaluate" else "tensorboard",
            project_config=ProjectConfiguration(
                project_dir=str(settings.output or "."), logging_dir=str(settings.output)
            ),
        )
        if accelerator.device.type == "cuda":
            set_tf32(settings.tf32)
        stage = {"pretrain": pretrain, "finetune": finetune, "evaluate": evaluate}[settings.stage]
        try:
            stage(settings, accelerator)
        finally:
            accelerator.end_training()


def check(settings: Settings) -> None:
    """Raise InputError where the settings do not make a run."""
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
    ):
        value = getattr(settings, name)
        if value is not None and value < least:
            raise InputError(f"--{name.replace('_', '-')} is {value}: use {least} or more")
    if settings.weights and len(settings.weights) != len(settings.data):
        raise InputError(
            f"--weights has {len(settings.weights)} numbers for {len(settings.data)} datasets: give each one"
        )
    if not 0 <= settings.gaze_dropout <= 1:
        raise InputError(f"--gaze-dropout is {settings.gaze_dropout}: use a share from 0 to 1")
    if not settings.cache_gb > 0:
        raise InputError(f"--cache-gb is {settings.cache_gb}: use more than 0")
    if not settings.learning_rate > 0:
        raise InputError(f"--learning-rate is {settings.learning_rate}: use more than 0")


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
        "init": None if settings.init is None else {"run": str(settings.init), "results": earlier},
    }
    _fit(settings, accelerator, front_end, network, loader, step, run)
    with unseen:
        emotion = score_emotion(accelerator, front_end, network, unseen)
    _finish(settings, accelerator, earlier | {"emotion": emotion})


def evaluate(settings: Settings, accelerator: Accelerator) -> None:
    """Score a finished run on a dataset."""
    assert settings.checkpoint is not None  # `check` saw to it
    run = runs.read_run(settings.checkpoint)
    results: dict[str, Any]
    if run["stage"] == "pretrain":
        front_end, pairing = runs.load_correspondence(settings.checkpoint)
        with _unseen(settings, accelerator, paired=True) as unseen:
            pairs = score_match(accelerator, front_end, pairing, unseen, rounds=settings.evaluation_rounds)
        results = {"pretraining": pairs}
    else:
        front_end, network = runs.load_emotion(settings.checkpoint)
        with _labelled(settings, _unseen(settings, accelerator, paired=False)) as unseen:
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
    described = run | {"data": [*settings.data], "seed": settings.seed}
    runs.open_run(output, described, accelerator, resume=settings.resume)
    place_front_end(front_end, accelerator.device, half=accelerator.mixed_precision != "no")
    front_end.train()
    prepared, optimizer = accelerator.prepare(network, optimizer)
    accelerator.register_for_checkpointing(loader)
    accelerator.init_trackers("tensorboard")
    if settings.resume:
        _resume(output, accelerator)
    total = settings.epochs * len(loader)
    if settings.max_steps is not None:
        total = min(total, settings.max_steps)
    done = loader.epoch * len(loader) + loader.step
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
                if done % settings.log_every == 0 or done == total:
                    show(done, curves.log(done, rate, loader))
                if done % settings.checkpoint_every == 0 or done == total:
                    runs.save_checkpoint(output, accelerator, done)
                if done >= total:
                    break
        if accelerator.is_main_process:
            _say_what_bounds(loader)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        runs.save_model(output, front_end, accelerator.unwrap_model(prepared))


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

    def log(self, step: int, rate: float, loader: ClipLoader) -> dict[str, float]:
        """Write a line and begin the next; returns it."""
        line = {name: float(value) / self._steps for name, value in self._sums.items()}
        self._sums, self._steps = {}, 0
        if not math.isfinite(line["loss"]):
            raise InputError(
                f"the loss is {line['loss']} at step {step}: use a lower --learning-rate, or bf16 or no "
                "mixed precision, and --resume from the last checkpoint"
            )
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
    """A bar on the main process; the yielded function moves it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[line]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    screen = console()
    with Progress(*columns, console=screen, disable=not accelerator.is_main_process) as progress:
        task = progress.add_task(stage, total=total, completed=done, line="")
        said = time.monotonic()

        def show(step: int, line: Mapping[str, float]) -> None:
            nonlocal said
            text = ", ".join(f"{name} {value:.3g}" for name, value in line.items())
            progress.update(task, completed=step, line=text)
            # A log file shows no bar before it ends.
            if accelerator.is_main_process and not screen.is_terminal and time.monotonic() - said > 30:
                said = time.monotonic()
                print(f"{stage} {step}/{total}: {text}", flush=True)

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


def _resume(output: Path, accelerator: Accelerator) -> None:
    whole = runs.checkpoints(output)
    if whole:
        accelerator.load_state(str(whole[-1]))
    if accelerator.is_main_process:
        console().print(f"resuming from {whole[-1]}" if whole else f"{output}: no checkpoint yet, from the beginning")


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
        device=accelerator.device,
        placement=settings.placement,
        cpu_decoder=settings.cpu_decoder,
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

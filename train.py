"""Train and evaluate: ``accelerate launch train.py --stage {pretrain,finetune,evaluate} --help``.

A run is a folder:

    RUN/
        run.json                what the run is: its settings and where its towers come from
        checkpoints/00000500/   all that resuming takes: weights, optimiser, random states, the loader's place
        model.safetensors       the trained network, with the front end's gaze statistics
        results.json            what it scored
        tensorboard/            curves
"""

import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, gather_object, set_seed
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from loaders import Batch, ClipLoader
from loaders.catalog import Catalog
from loaders.dataset import EMOTIONS, Manifest
from loaders.errors import InputError, reported
from loaders.remote import CACHE, describe
from models.augmentation import Augmentation
from models.correspondence import AVENet, L3Net
from models.emotion import EmotionNet
from models.evaluation import by_utterance, emotion_answers, join_answers, match_confusion
from models.execution import Tf32, adam, compile_towers, place, set_tf32
from models.frontend import FrontEnd, FrontEndConfig
from models.gaze import GazeTower
from models.losses import EmotionLossConfig, correspondence_loss, emotion_loss
from models.metrics import class_scores, confusion, macro_f1, majority_share, micro_f1, share_right
from models.presets import Preset, correspondence_net, emotion_net, preset, preset_from_json

RUN, MODEL, RESULTS, CHECKPOINTS = "run.json", "model.safetensors", "results.json", "checkpoints"
MODALITIES = ("audio", "visual", "joint")


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
    settings = tyro.cli(Settings, description=__doc__)
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
    _evaluation_split(settings)  # what cannot be scored is refused before it is trained
    set_seed(settings.seed)
    sizes = sizes_of(settings)
    front_end = front_end_of(sizes, manifests)
    network = correspondence_net(sizes, settings.model, gaze=settings.gaze)

    loader = _loader(settings, accelerator, "train", training=True, paired=True)
    run = {"stage": "pretrain", "model": settings.model, "gaze": settings.gaze, "sizes": asdict(sizes)}
    _fit(settings, accelerator, front_end, network, loader, pretrain_step, run)
    results = _score_match(settings, accelerator, front_end, network)
    _save_results(settings, accelerator, {"pretraining": results})
    _print_results(accelerator, {"pretraining": results}, title=str(settings.output))


def finetune(settings: Settings, accelerator: Accelerator) -> None:
    """Train the emotion network, from a pre-trained run's towers or from scratch, and score it."""
    manifests = _manifests(settings)
    _evaluation_split(settings)  # what cannot be scored is refused before it is trained
    set_seed(settings.seed)
    earlier: dict[str, Any] = {}
    if settings.init is None:
        sizes = sizes_of(settings)
        network = emotion_net(sizes, gaze=settings.gaze)
    else:
        sizes, towers, earlier = _load_pretrained(settings.init)
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

    loader = _loader(settings, accelerator, "train", training=True, paired=False)
    run = {
        "stage": "finetune",
        "gaze": network.gaze is not None,
        "sizes": asdict(sizes),
        "init": None if settings.init is None else {"run": str(settings.init), "results": earlier},
    }
    _fit(settings, accelerator, front_end, network, loader, step, run)
    results = earlier | {"emotion": _score_emotion(settings, accelerator, front_end, network)}
    _save_results(settings, accelerator, results)
    _print_results(accelerator, results, title=str(settings.output))


def evaluate(settings: Settings, accelerator: Accelerator) -> None:
    """Score a finished run on a dataset."""
    assert settings.checkpoint is not None  # `check` saw to it
    run = _read_run(settings.checkpoint)
    sizes = preset_from_json(run["sizes"])
    front_end = FrontEnd(sizes.front_end)
    results: dict[str, Any]
    if run["stage"] == "pretrain":
        pairing = correspondence_net(sizes, run["model"], gaze=run["gaze"])
        _load_model(settings.checkpoint, front_end, pairing)
        results = {"pretraining": _score_match(settings, accelerator, front_end, pairing)}
    else:
        network = emotion_net(sizes, gaze=run["gaze"])
        _load_model(settings.checkpoint, front_end, network)
        earlier = {} if run["init"] is None else run["init"]["results"]
        results = earlier | {"emotion": _score_emotion(settings, accelerator, front_end, network)}
    _print_results(accelerator, results, title=f"{settings.checkpoint} on {_names(settings)}")


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
    _open_run(output, run, settings, accelerator)
    front_end.to(accelerator.device).train()
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
                    _checkpoint(output, accelerator, done)
                if done >= total:
                    break
        if accelerator.is_main_process:
            _say_what_bounds(loader)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        _save_model(output, front_end, accelerator.unwrap_model(prepared))


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
    what = {"gpu": "by nvJPEG on the GPU", "cpu": "by DALI on the CPU", "turbo": "by libjpeg-turbo on the CPU"}
    if stats.decoder:
        console().print(f"filmstrips were decoded {what[stats.decoder]}: {stats.decoder_reason}")


# -- the folder of a run


def _open_run(output: Path, run: dict[str, Any], settings: Settings, accelerator: Accelerator) -> None:
    """Make the run's folder, or see that the one to resume is of the same run."""
    described = json.loads(json.dumps(run | {"data": [*settings.data], "seed": settings.seed}))
    if (output / RUN).exists():
        if not settings.resume:
            raise InputError(f"{output}: holds a run already: give another --output, or --resume it")
        before = _read_run(output)
        differing = [name for name, value in described.items() if before.get(name) != value]
        if differing:
            raise InputError(f"{output}: the run to resume has another {', '.join(differing)}: give its settings")
    elif output.exists() and any(output.iterdir()):
        raise InputError(f"{output}: holds other files: give an --output that is empty or not there")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        try:
            (output / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{output}: {error.strerror}: give an --output that can be written") from error
        _write(output / RUN, json.dumps(described, indent=1) + "\n")
    accelerator.wait_for_everyone()


def _read_run(folder: Path) -> dict[str, Any]:
    try:
        run: dict[str, Any] = json.loads((folder / RUN).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{folder}: no run there ({RUN} is missing or broken): give the --output of a run") from error
    return run


def _checkpoints(output: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(path for path in (output / CHECKPOINTS).iterdir() if path.name.isdigit())


def _checkpoint(output: Path, accelerator: Accelerator, step: int) -> None:
    """Write a checkpoint that appears when it is whole, and let all but the last two go."""
    final = output / CHECKPOINTS / f"{step:08d}"
    partial = output / CHECKPOINTS / f"{step:08d}.partial"
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        partial.replace(final)
        for old in _checkpoints(output)[:-2]:
            shutil.rmtree(old)


def _resume(output: Path, accelerator: Accelerator) -> None:
    whole = _checkpoints(output)
    if whole:
        accelerator.load_state(str(whole[-1]))
    if accelerator.is_main_process:
        console().print(f"resuming from {whole[-1]}" if whole else f"{output}: no checkpoint yet, from the beginning")


def _save_model(output: Path, front_end: FrontEnd, network: nn.Module) -> None:
    tensors = {f"front_end.{name}": tensor for name, tensor in front_end.state_dict().items()}
    tensors |= {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    temporary = output / f".{MODEL}"
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)
    temporary.replace(output / MODEL)


def _load_model(folder: Path, front_end: FrontEnd, network: nn.Module) -> None:
    if not (folder / MODEL).is_file():
        raise InputError(f"{folder}: the run is not finished ({MODEL} is missing): --resume it first")
    tensors = load_file(folder / MODEL)
    for prefix, module in (("front_end.", front_end), ("network.", network)):
        module.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})


def _load_pretrained(folder: Path) -> tuple[Preset, L3Net | AVENet, dict[str, Any]]:
    """The sizes, the network and the results of a pre-trained run."""
    run = _read_run(folder)
    if run["stage"] != "pretrain":
        raise InputError(f"--init {folder}: a run of stage {run['stage']}: give one of stage pretrain")
    sizes = preset_from_json(run["sizes"])
    network = correspondence_net(sizes, run["model"], gaze=run["gaze"])
    _load_model(folder, FrontEnd(sizes.front_end), network)
    results = folder / RESULTS
    return sizes, network, json.loads(results.read_text()) if results.is_file() else {}


def _save_results(settings: Settings, accelerator: Accelerator, results: dict[str, Any]) -> None:
    if accelerator.is_main_process and settings.output is not None:
        _write(settings.output / RESULTS, json.dumps(results, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text)
    temporary.replace(path)


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
        lanes=settings.lanes if training else 1,
        shard_window=settings.shard_window,
        cache=settings.cache,
        cache_bytes=round(settings.cache_gb * 1e9),
    )


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


# -- scores


def _score_match(
    settings: Settings, accelerator: Accelerator, front_end: FrontEnd, network: L3Net | AVENet
) -> dict[str, Any]:
    """Accuracy on pairs of a split that was not trained on."""
    split = _evaluation_split(settings)
    front_end.to(accelerator.device)
    network.to(accelerator.device)
    counts = torch.zeros((2, 2), dtype=torch.int64, device=accelerator.device)
    with _loader(settings, accelerator, split, training=False, paired=True) as loader:
        for _ in range(settings.evaluation_rounds):
            counts += match_confusion(front_end, network, loader, accelerator.device)
        speakers = sum(catalog.manifest.splits[split].speakers for catalog in loader.catalogs)
    counts = accelerator.reduce(counts)
    share = share_right(counts.cpu())
    return {
        "split": split,
        "speakers": speakers,
        "pairs": share.total,
        "accuracy": share.value,
        "accuracy_low": share.low,
        "accuracy_high": share.high,
        "confusion": counts.tolist(),
    }


def _score_emotion(
    settings: Settings, accelerator: Accelerator, front_end: FrontEnd, network: EmotionNet
) -> dict[str, Any]:
    """Scores of each modality over the utterances of a split that was not trained on."""
    split = _evaluation_split(settings)
    front_end.to(accelerator.device)
    network.to(accelerator.device)
    with _loader(settings, accelerator, split, training=False, paired=False) as loader:
        of_rank = emotion_answers(front_end, network, loader, accelerator.device)
        answers = join_answers(gather_object([of_rank]))
        catalogs = loader.catalogs
    answers = by_utterance(answers, _utterances(catalogs)[answers.clip])
    truth = torch.from_numpy(answers.emotion)
    labelled = int((truth >= 0).sum())
    if labelled == 0:
        raise InputError(f"{_names(settings)}: the split {split!r} has no labelled clip: give a dataset with emotions")
    results: dict[str, Any] = {"split": split, "utterances": labelled}
    for modality in MODALITIES:
        counts = confusion(torch.from_numpy(getattr(answers, modality)), truth, len(EMOTIONS))
        results[modality] = {
            "micro_f1": micro_f1(counts),
            "macro_f1": macro_f1(counts),
            "f1_by_emotion": {score.name: score.f1 for score in class_scores(counts, EMOTIONS)},
            "confusion": counts.tolist(),
        }
        results["majority"] = majority_share(counts)
    return results


def _utterances(catalogs: Sequence[Catalog]) -> NDArray[np.int64]:
    """A number for each clip, counted through the datasets: equal numbers, equal utterances."""
    numbers: list[NDArray[np.int64]] = []
    first = 0
    for catalog in catalogs:
        names = np.stack([catalog.video, catalog.utterance], axis=1)
        _, of_clip = np.unique(names, axis=0, return_inverse=True)
        numbers.append(of_clip.ravel() + first)
        first += int(of_clip.max(initial=-1)) + 1
    return np.concatenate(numbers)


def _print_results(accelerator: Accelerator, results: Mapping[str, Any], *, title: str) -> None:
    """The last table of a stage."""
    if not accelerator.is_main_process:
        return
    table = Table(title=title)
    for column in ("what", "score %", "95 %", "macro-F1 %", "to beat %", "on"):
        table.add_column(column, justify="left" if column in ("what", "on") else "right", no_wrap=True)
    if "pretraining" in results:
        pairs = results["pretraining"]
        table.add_row(
            "pre-training accuracy",
            _percent(pairs["accuracy"]),
            f"{_percent(pairs['accuracy_low'])} – {_percent(pairs['accuracy_high'])}",
            "",
            "50.0 chance",
            f"{pairs['pairs']} pairs, {pairs['speakers']} speakers of {pairs['split']}",
        )
    if "emotion" in results:
        emotion = results["emotion"]
        for modality in MODALITIES:
            scores = emotion[modality]
            table.add_row(
                f"emotion from {modality}, micro-F1",
                _percent(scores["micro_f1"]),
                "",
                _percent(scores["macro_f1"]),
                f"{_percent(emotion['majority'])} majority",
                f"{emotion['utterances']} utterances of {emotion['split']}",
            )
    console().print(table)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def console() -> Console:
    """Standard output; as wide as a table needs where nobody says how wide it is."""
    return Console(width=None if sys.stdout.isatty() else 128)


if __name__ == "__main__":
    main()

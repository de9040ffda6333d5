"""The training loop: any task, with checkpoints, curves and exact resuming."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from loaders import ClipLoader
from loaders.errors import InputError
from models.towers.synced_norm import synchronise
from models.training import options, runs
from models.training.advance import Advance
from models.training.checkpoint import Checkpoint, newest, newest_checkpoint, not_finite, restore, write_checkpoint
from models.training.config import OptimizerConfig, Precision, TrainingConfig, as_data, flat, options_of
from models.training.curves import Curves, progress, say, say_what_bounds, told, warn
from models.training.execution import (
    adam,
    agree_on_kernels,
    compile_towers,
    keep_process_group,
    place,
    place_front_end,
    set_learning_rate,
)
from models.training.freezing import freeze, train_all_but
from models.training.journal import Journal
from models.training.monitoring import Monitor
from models.training.objectives import ObjectiveOptions
from models.training.provenance import (
    BUILDS,
    CONFIG,
    EXECUTION,
    SETTINGS,
    Change,
    as_json,
    changed_since,
    changes,
    versions,
)
from models.training.stopping import Stopping
from models.training.tasks.task import Model, Task
from models.training.trackers import start_trackers
from models.training.validation import SELECTED, Validation

#: Settings of a run that the order of its clips depends on.
_ORDER = (
    *("data", "weights", "seed", "batch_size", "world_size", "window", "node_groups", "shard_window"),
    "negatives",
    "validation_fraction",
)
#: Options that change rounding at most.
_NOT_DECISIVE = (
    *("output", "resume", "change", "checkpoint_every", "log_every"),
    *("compile", "tf32", "tracker", "metrics", "picture"),
)
#: What the network's description holds.
_DESCRIBED = (
    *(
        "preset",
        "system",
        "gaze",
        "video_tower",
        "audio_tower",
        "gaze_tower",
        "vgg_face",
        "width",
        "frame_size",
        "frames",
    ),
    *("model", "init", "targets"),
    *options_of(ObjectiveOptions),
)


def put_in_place(
    network: nn.Module, device: torch.device, config: OptimizerConfig, *, compiled: bool
) -> torch.optim.Optimizer:
    """Bring a network to where it is trained, compiled if that is asked for; returns Adam over all of it."""
    place(network, device)
    if compiled:
        compile_towers(network, device)
    return adam(
        network,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        tower_learning_rate=config.tower_learning_rate,
    )


def fit(
    config: TrainingConfig,
    accelerator: Accelerator,
    task: Task,
    model: Model,
    loader: ClipLoader,
    validation: Validation | None = None,
    monitor: Monitor | None = None,
) -> None:
    """Train the model's network in place, with checkpoints and curves, and save it in the run's folder.

    With a validation, what is saved and what the network has in the end are the best weights by it. The monitor is told
    how far it is.

    Raises:
        InputError: a run that was begun there was trained with something else, has gone on for longer, or has no
            checkpoint that can be read; the loss is no longer finite; or what is asked for cannot be validated.
        TrainingStopped: a signal ended it, with a checkpoint.
    """
    output, schedule, monitor = config.run.output, config.schedule, monitor or Monitor(task.stage)
    network, front_end = model.network, model.front_end
    if accelerator.num_processes > 1 and config.optimizer.sync_batch_norm != "no":
        synchronise(network, accelerator.device)
        agree_on_kernels(network, accelerator.device)
    freeze(model.frozen)
    optimizer: Any = put_in_place(network, accelerator.device, config.optimizer, compiled=config.run.compile)
    described = as_json(model.description | _trained_with(config, accelerator, loader))
    place_front_end(front_end, accelerator.device, half=accelerator.mixed_precision != "no")
    front_end.train()
    prepared, optimizer = accelerator.prepare(model.trained or network, optimizer)
    keep_process_group()
    changed: list[Change] = []
    curves = Curves(accelerator)
    done, begun = 0, (output / runs.RUN).exists()
    accelerator.wait_for_everyone()  # all have looked
    if begun:
        before = runs.read_run(output)
        changed = changes(output, before, described, config.run.change)
        done = _resume(output, accelerator, network, optimizer, loader, curves, before, changed, validation)
    elif config.run.resume:
        options.refuse(["change"] if config.run.change else [], ["change"], f"with {output}, where no run is yet")
        say(accelerator, f"{output}: no run there yet, from the beginning")
    accumulate = config.optimizer.accumulate
    total = done + (schedule.epochs * len(loader) - loader.epoch * len(loader) - loader.step) // accumulate
    if total < 1 < accumulate:
        raise InputError(
            f"--accumulate is {accumulate}, more batches than all epochs have: give fewer, or more --epochs"
        )
    if schedule.max_steps is not None:
        total = min(total, schedule.max_steps)
    if done > total:
        raise InputError(
            f"{output}: {done} steps and {loader.epoch} epochs are behind the run: give more --epochs and --max-steps"
        )
    if validation is not None and validation.every > total:
        raise InputError(f"--validate-every is {validation.every}, and the run has {total} steps: validate more often")
    runs.describe_run(output, described, accelerator, changed, done)
    # What a killed process has written after its last checkpoint is written again.
    start_trackers(accelerator, config.run.tracker, output, flat(config), step=done if begun else None)
    train_all_but(prepared, model.frozen)
    advance = Advance(accelerator, optimizer, task.step, accumulate=accumulate, clip=config.optimizer.clip_gradients)
    saved = done  # the step of the last checkpoint
    monitor.begin(done)
    if done < total and (output / runs.MODEL).is_file():
        say(accelerator, f"{output}: weights and scores there stay as they are until it ends, {total - done} steps on")
    if validation is not None:
        say(accelerator, validation.plan)
    begins_validating = validation is not None and not validation.begun
    lines = partial(Journal, output, done if done else -1, validated_anew=begins_validating)
    with (
        Stopping(accelerator) as stopping,
        lines() if accelerator.is_main_process else nullcontext() as journal,
        loader,
        progress(accelerator, task.stage, done, total) as show,
    ):

        def require_finite() -> None:
            # The weights are asked where they may be kept, the loss at every line.
            names = not_finite(network, optimizer, front_end, scaler=accelerator.scaler)
            _require_finite(output, accelerator, curves.loss, names, done)

        def save(where: dict[str, Any]) -> None:
            require_finite()
            if journal is not None:
                journal.keep()
            states = where, curves.state_dict(), *_of_validation(validation)
            write_checkpoint(output / runs.CHECKPOINTS, done, accelerator, network, optimizer, *states)

        if validation is not None and begins_validating:
            validation.begin(done, model, journal)
        at_its_end = validation is not None and validation.stopped  # also of a run that is resumed after it
        while done < total and not (at_its_end or stopping.agreed):
            for batch in stopping.batches(loader, accumulate):
                rate = schedule.learning_rate(
                    config.optimizer.learning_rate, done, steps_an_epoch=len(loader) / accumulate, total=total
                )
                set_learning_rate(optimizer, rate)
                taken = advance(batch, prepared, front_end)
                if taken is None:  # of a step that takes several batches, not the last
                    continue
                done += 1
                monitor.step(done, loader.epoch)
                curves.add({"loss": taken.loss, **taken.logged})
                at_a_line = done % config.run.log_every == 0 or done == total
                at_a_checkpoint = done % config.run.checkpoint_every == 0 or done == total
                if at_a_line:
                    _require_finite(output, accelerator, curves.loss, [], done)
                    line = curves.log(done, rate, loader, journal)
                    monitor.line(line, rate)
                    show(done, told(line, loader.stats()))
                if validation is not None and validation.due(done):
                    require_finite()
                    scores = validation.validate(done, model, journal)
                    monitor.validated(scores)
                    show(done, scores)
                    at_its_end = validation.stopped
                if at_a_checkpoint or at_its_end:
                    save(loader.state_dict())
                    saved = done
                if done >= total or at_its_end:
                    break
        if stopping.agreed or stopping.agree():
            if done > saved:
                save(stopping.state_of(loader))
            raise stopping.ended(accelerator, done, newest(output / runs.CHECKPOINTS))
        if accelerator.is_main_process and loader.stats().clips:  # none of a run that is only scored anew
            say_what_bounds(loader)
    accelerator.wait_for_everyone()
    if validation is not None:
        say(accelerator, validation.told(done))
        validation.choose(network)
        if accelerator.is_main_process:
            runs.note_in_run(output, {SELECTED: validation.selected(done)})
    if accelerator.is_main_process:
        runs.save_model(output, front_end, network)


def _require_finite(output: Path, accelerator: Accelerator, loss: Tensor, names: Sequence[str], step: int) -> None:
    """Raise InputError, on every process, where on one the loss is not finite, or tensors that have these names."""
    sound = not names and math.isfinite(float(loss))
    everywhere = accelerator.reduce(torch.tensor(float(sound), device=accelerator.device))
    if everywhere.item() == accelerator.num_processes:
        return
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    what = f"; not finite: {names[0]}{more}" if names else ""
    saved = newest(output / runs.CHECKPOINTS)
    mend = "use a lower --learning-rate, or bf16 or no mixed precision"
    if saved is not None:
        mend += f"; the last finite checkpoint is {saved}: --resume goes on from it, with --change for what you change"
    else:
        mend += ", and another --output; there is no checkpoint yet"
    raise InputError(f"the loss is {float(loss)} at step {step}{what}: {mend}")


def _resume(
    output: Path,
    accelerator: Accelerator,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: ClipLoader,
    curves: Curves,
    before: Mapping[str, Any],
    changed: Sequence[Change],
    validation: Validation | None,
) -> int:
    """Bring everything to where the last whole checkpoint has it; returns the steps behind that."""
    checkpoint = newest_checkpoint(output / runs.CHECKPOINTS, accelerator, partial(warn, accelerator))
    for change in changed:
        say(accelerator, f"changed: {change}")
    if checkpoint is None:
        say(accelerator, f"{output}: no checkpoint yet, from the beginning")
        return 0
    # A process that was killed before its first checkpoint has written down what it was to change.
    meant = {change.option for change in changed} | changed_since(before, checkpoint.step)
    _place(loader, checkpoint, meant, partial(say, accelerator))
    loader.start()  # the first batch is made while weights are restored
    restore(checkpoint, accelerator, network, optimizer)
    if checkpoint.state.get("curves") is not None:  # an earlier version had none
        curves.load_state_dict(checkpoint.state["curves"])
    if not checkpoint.same_rank:
        say(accelerator, "another number of processes: this one's random states begin anew")
    found = checkpoint.state.get("validation")
    if found is not None and (validation is None or not validation.load_state_dict(found, checkpoint.best)):
        say(accelerator, "what was validated until now does not count: it was something else")
    say(accelerator, f"resuming from {output / runs.CHECKPOINTS / f'{checkpoint.step:08d}'}")
    return checkpoint.step


def _of_validation(validation: Validation | None) -> tuple[dict[str, Any] | None, Mapping[str, Tensor]]:
    """What a checkpoint has of it: its state, and the best weights."""
    return (None, {}) if validation is None else (validation.state_dict(), validation.weights)


def _place(loader: ClipLoader, checkpoint: Checkpoint, changed: Set[str], tell: Callable[[str], None]) -> None:
    """Bring the loader to where it was; where the order is meant to be another, to the next epoch's beginning."""
    state, now = checkpoint.state["loader"], loader.state_dict()
    if changed.isdisjoint(_ORDER) or state["fingerprint"] == now["fingerprint"]:
        loader.load_state_dict(state)
        return
    epoch = state["epoch"] + (state["step"] > 0)
    loader.load_state_dict(now | {"epoch": epoch, "step": 0})
    left = state["epoch"]
    tell(f"the order is another from here on: what was left of epoch {left} is left out, epoch {epoch} begins")


def _trained_with(config: TrainingConfig, accelerator: Accelerator, loader: ClipLoader) -> dict[str, Any]:
    """What run.json says of how a run is trained: see `models.training.provenance`."""
    on_gpu = accelerator.device.type == "cuda"
    precision = cast(Precision, accelerator.mixed_precision)
    order = loader.state_dict()["fingerprint"]
    catalogs = [catalog.manifest.splits[order["split"]].catalog_sha256 for catalog in loader.catalogs]
    of_loader = flat(config.loader)
    decides = {
        name: value for name, value in flat(config).items() if name not in (*of_loader, *_NOT_DECISIVE, *_DESCRIBED)
    }
    decides |= {
        "data": hashlib.sha256(" ".join([order["dataset"], *catalogs]).encode()).hexdigest()[:16],
        "weights": order["weights"],
        "window": order["frames"] if order["sample"] == "window" else loader.catalogs[0].manifest.clip.frames,
        "mixed_precision": precision,
        "world_size": accelerator.num_processes,
    }
    if "negatives" in decides:
        decides["negatives"] = order["negatives"]  # in one spelling
    rounds = {
        "folders": list(config.data.data),
        "device": torch.cuda.get_device_name(accelerator.device) if on_gpu else accelerator.device.type,
        "tf32": config.precision.tf32 if on_gpu else None,
        "compile": config.run.compile,
        **{name: of_loader[name] for name in ("placement", "hw_decoder_load", "cpu_decoder", "pixels")},
        **versions(),
    }
    asked = replace(config, precision=replace(config.precision, mixed_precision=precision))
    builds = [
        {
            "corpus": catalog.manifest.corpus,
            "clips": catalog.manifest.splits[catalog.split].clips,
            "speakers": catalog.manifest.splits[catalog.split].speakers,
            "settings": dict(catalog.manifest.settings),
        }
        for catalog in loader.catalogs
    ]
    return {CONFIG: as_data(asked), SETTINGS: decides, EXECUTION: rounds, BUILDS: builds}

"""The stages of train.py, each from its settings to a table of scores."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed
from torch import nn

from loaders import ClipLoader
from loaders.errors import InputError
from loaders.loader import OTHER_VIDEO
from loaders.sampling.negatives import Negatives
from models.systems.streams import needs_of_network
from models.training import runs
from models.training.advance import require_no_accumulation
from models.training.config import (
    OF_ANSWERS,
    OF_PAIRS,
    EvaluateConfig,
    FinetuneConfig,
    PairScoringConfig,
    PretrainConfig,
    RunConfig,
    ScoringConfig,
    StageConfig,
    check_targets,
)
from models.training.confusion_picture import CONFUSION, NO_MATPLOTLIB, draw_confusions
from models.training.curves import console, say, warn
from models.training.data import TRAIN, datasets_of, names, scoring_loader, training_loader, validation_loader
from models.training.execution import place_front_end
from models.training.freezing import require_free_towers
from models.training.gaze_tracker import GAZE_TRACKER, require_tracker, tracker_of
from models.training.journal import read_metrics
from models.training.loop import fit
from models.training.moments import take_moments
from models.training.monitoring import Monitor, monitored
from models.training.negatives import scoring_negatives, training_negatives
from models.training.options import refuse
from models.training.picture import PICTURE, draw_curves
from models.training.precision import require_precision, tell_precision
from models.training.scores import results_table
from models.training.tasks.registry import task_of, task_of_run
from models.training.trackers import tracked
from models.training.validation import SELECTED, Validation

#: Share of the clips with gaze below which a gaze tower is warned of.
_LITTLE_GAZE = 0.1


def train(config: PretrainConfig | FinetuneConfig, accelerator: Accelerator, given: Collection[str] = ()) -> None:
    """Train a task's network and score it on unseen clips; ``given`` are the options that somebody gave."""
    with monitored(config.run.metrics, config.stage, accelerator) as monitor:
        _train(config, accelerator, given, monitor)


def _train(
    config: PretrainConfig | FinetuneConfig, accelerator: Accelerator, given: Collection[str], monitor: Monitor
) -> None:
    doing, data = task_of(config), config.data
    split, validating = config.scoring.evaluation_split, config.validation
    also = () if validating.validation_split is None else (validating.validation_split,)
    datasets = datasets_of(data, config.loader, split, also)
    targets = doing.targets(datasets)
    if isinstance(config, FinetuneConfig):
        check_targets(config, targets, given)
    asked = tuple(target.name for target in targets)
    scored = _to_score_on(config.scoring)
    of_batches: dict[str, Any] = {"frames": doing.frames, "needs": doing.needs, "targets": asked}
    drawn = training_negatives(config.pairs.negatives) if isinstance(config, PretrainConfig) else OTHER_VIDEO
    loader = training_loader(
        datasets,
        data,
        config.loader,
        accelerator,
        validating,
        paired=doing.trained_in_pairs,
        negatives=drawn,
        **of_batches,
    )
    of_batches["paired"] = doing.paired
    doing.require(loader, names(data))
    tracker = tracker_of(loader.catalogs, doing.needs, names(data))
    if isinstance(config, FinetuneConfig) and config.network.init is not None:
        require_tracker(runs.read_run(config.network.init), tracker, config.network.init, names(data))
    third: ClipLoader | None = None
    if validating.validate_every is not None:
        third = validation_loader(
            datasets, data, config.loader, accelerator, validating, split, negatives=scored, **of_batches
        )
        doing.require(third, names(data))
    # What cannot be scored is refused before it is trained.
    unseen = scoring_loader(datasets, data, config.loader, accelerator, split, negatives=scored, **of_batches)
    doing.require(unseen, names(data))
    if split == TRAIN:
        warn(accelerator, f"--evaluation-split {TRAIN}: it is scored on what it is trained on, not on unseen clips")
    set_seed(data.seed)
    model = doing.model(loader.catalogs, targets)
    if doing.needs.of_gaze:
        model = replace(model, description={**model.description, GAZE_TRACKER: tracker})
    if config.optimizer.tower_learning_rate is not None:
        require_free_towers(model.network, model.frozen)
    for member in take_moments(model.network, loader.catalogs):
        warn(
            accelerator,
            f"{names(data)}: no moments of {member} over the training split are stated: it is standardised by those of "
            f"the batches so far; build again with --member {member} for exact ones",
        )
    _warn_of_gaze(accelerator, loader, model.network, names(data))
    with _run_of(config.run, accelerator):
        validation = None if third is None else Validation(validating, doing, third, accelerator)
        with (
            loader,  # that was started ends also where nothing is trained
            third or nullcontext(),
            monitor.watching("training", loader),
            monitor.watching("validation", third),
        ):
            fit(config, accelerator, doing, model, loader, validation, monitor)
        with unseen, monitor.watching("scoring", unseen):
            answers = config.run.output / doing.answers
            results = doing.score(accelerator, model.front_end, model.network, unseen, keep=answers)
        if validation is not None:
            of_stages = results.get(SELECTED, {})  # that of the run that the towers come from stays
            results[SELECTED] = {**of_stages, doing.stage: runs.read_run(config.run.output)[SELECTED]}
        if accelerator.is_main_process:
            runs.save_results(config.run.output, results)
            if not draw_confusions(config.run.output / CONFUSION, results):
                warn(accelerator, f"{CONFUSION} is not drawn: {NO_MATPLOTLIB}")
            _draw(config.run, accelerator)
        _show(accelerator, results, title=str(config.run.output))


def evaluate(config: EvaluateConfig, accelerator: Accelerator, given: Collection[str] = ()) -> None:
    """Score a finished run on a dataset; ``given`` are the options that somebody gave."""
    with monitored(config.found.metrics, config.stage, accelerator) as monitor:
        _evaluate(config, accelerator, given, monitor)


def _evaluate(config: EvaluateConfig, accelerator: Accelerator, given: Collection[str], monitor: Monitor) -> None:
    run, data = runs.read_run(config.checkpoint), config.data
    doing = task_of_run(run, rounds=config.scoring.evaluation_rounds)
    if not doing.paired:
        refuse(given, OF_PAIRS, f"on {config.checkpoint}, a run of stage {doing.stage}: pairs need it")
    elif not doing.trained_in_pairs:
        refuse(given, OF_ANSWERS, f"on {config.checkpoint}, whose objective is given no pairs")
    _require_new(config.found.json, "--json")
    _require_new(config.found.predictions, "--predictions")
    front_end, network = doing.load(config.checkpoint)
    place_front_end(front_end, accelerator.device, half=accelerator.mixed_precision != "no")
    split = config.scoring.evaluation_split
    datasets = datasets_of(data, config.loader, split)
    asked = tuple(target.name for target in doing.targets(datasets))
    with (
        scoring_loader(
            datasets,
            data,
            config.loader,
            accelerator,
            split,
            frames=front_end.config.frames,
            paired=doing.paired,
            negatives=_to_score_on(config.scoring),
            targets=asked,
            needs=needs_of_network(network),
        ) as unseen,
        monitor.watching("scoring", unseen),
    ):
        doing.require(unseen, names(data))
        needs = needs_of_network(network)
        require_tracker(run, tracker_of(unseen.catalogs, needs, names(data)), config.checkpoint, names(data))
        with _written(config.found.predictions):
            results = doing.score(accelerator, front_end, network, unseen, keep=config.found.predictions)
    tell_precision(accelerator, run)
    if config.found.json is not None and accelerator.is_main_process:
        with _written(config.found.json):
            runs.write_results(config.found.json, results)
    _show(accelerator, results, title=f"{config.checkpoint} on {names(data)}")


def check_device(config: StageConfig, given: Collection[str], accelerator: Accelerator) -> None:
    """Raise InputError where the processes cannot train so, or an option that was ``given`` has no effect on them."""
    if accelerator.distributed_type not in (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
        raise InputError(
            f"accelerate was told to use {accelerator.distributed_type.value}: each process has the whole network "
            "here, use plain data-parallel training"
        )
    require_precision(accelerator)
    if not isinstance(config, EvaluateConfig):
        require_no_accumulation(accelerator)
    if accelerator.num_processes == 1:
        refuse(given, ["sync_batch_norm"], "with one process")
    if accelerator.device.type == "cuda":
        refuse(given, ["cpu_decoder"], "where batches lie on a GPU")
    else:
        refuse(given, ["tf32", "hw_decoder_load"], "on a CPU")


def _to_score_on(scoring: ScoringConfig) -> Negatives:
    """The negatives of pairs that are scored."""
    if not isinstance(scoring, PairScoringConfig):
        return OTHER_VIDEO
    return scoring_negatives(scoring.evaluation_negatives, scoring.evaluation_rounds)


def _warn_of_gaze(accelerator: Accelerator, loader: ClipLoader, network: nn.Module, name: str) -> None:
    """Say so where a gaze tower has nothing, or hardly anything, to learn from; another tower of a member likewise."""
    needs, clips = needs_of_network(network), sum(map(len, loader.catalogs))
    for stream in dict.fromkeys((*needs.of_gaze, *needs.members)):
        have = sum(int((c.members[stream].size > 0).sum()) for c in loader.catalogs if stream in c.members)
        if have < _LITTLE_GAZE * clips:
            mend = (
                "without it, --no-gaze leaves out its tower" if stream in needs.of_gaze else "its tower learns little"
            )
            warn(accelerator, f"{name}: {have} of {clips} clips have {stream}: {mend}")


def _require_new(path: Path | None, option: str) -> None:
    """Raise InputError where a file cannot be made: before minutes of scoring."""
    if path is None:
        return
    if path.exists():
        raise InputError(f"{option} {path}: is there already: give another name, or remove it")
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}: there is no folder {path.parent}: make it first")


@contextmanager
def _written(path: Path | None) -> Iterator[None]:
    """Within it, a file that cannot be written is an InputError."""
    try:
        yield
    except OSError as error:
        if path is None or error.filename is None or Path(error.filename).parent != path.parent:
            raise
        raise InputError(f"{path}: {error.strerror}: give a name in a folder with room that can be written") from error


@contextmanager
def _run_of(config: RunConfig, accelerator: Accelerator) -> Iterator[None]:
    """Within it, the run's folder is this training's alone. Its trackers end here, where a full disk has its line."""
    with runs.held(config.output, accelerator, resume=config.resume), tracked(accelerator):
        yield


def _draw(config: RunConfig, accelerator: Accelerator) -> None:
    """The run's curves as a picture; where that cannot be, a line says why, and the run is whole all the same."""
    if not config.picture:
        return
    try:
        draw_curves({config.output.name: read_metrics(config.output)}, config.output / PICTURE)
    except InputError as error:
        say(accelerator, f"no {PICTURE}: {error}")


def _show(accelerator: Accelerator, results: Mapping[str, Any], *, title: str) -> None:
    if accelerator.is_main_process:
        console().print(results_table(results, title=title))

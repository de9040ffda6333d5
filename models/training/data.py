"""The datasets and loaders of a run, from its settings."""

from __future__ import annotations

from collections.abc import Sequence

from accelerate import Accelerator

from loaders import ClipLoader
from loaders.dataset.dataset import Dataset
from loaders.errors import InputError
from loaders.loader import OTHER_VIDEO
from loaders.sampling.negatives import Negatives
from loaders.sampling.speakers import SpeakerShare
from models.systems.streams import PLAIN, Needs
from models.training.config import DataConfig, LoaderConfig, TrainingDataConfig, ValidationConfig

TRAIN = "train"  #: the split that is trained on
NO_VALIDATION = ValidationConfig()
TO_SCORE = ("test", "validation")  #: the splits to score on where none is named, the first that all datasets have


def names(data: DataConfig) -> str:
    """The datasets, as messages call them."""
    return ", ".join(data.data)


def datasets_of(
    data: DataConfig, loader: LoaderConfig, evaluation_split: str | None, also: Sequence[str] = ()
) -> list[Dataset]:
    """The datasets, opened once for all that a run makes of them.

    Args:
        data: names them.
        loader: where the descriptions of those in stores are kept.
        evaluation_split: to score on; None: `scoring_loader` chooses.
        also: further splits of a training.
    """
    # Of a dataset in a store all catalogs are of one moment: it may be extended while the training begins.
    scored = TO_SCORE if evaluation_split is None else (evaluation_split,)
    splits = (TRAIN, *also, *scored) if isinstance(data, TrainingDataConfig) else scored
    return [Dataset.open(dataset, cache=loader.cache, splits=splits) for dataset in data.data]


def validation_split(datasets: Sequence[Dataset], config: ValidationConfig, evaluation_split: str | None) -> str:
    """The split that is validated on.

    Raises:
        InputError: it is the one that is evaluated, or that is trained on.
    """
    split, evaluated = config.validation_split, evaluation_split or _split_to_score(datasets)
    if split is None:
        if evaluated == TRAIN:
            raise InputError(
                f"--evaluation-split {TRAIN}: a share of its speakers is validated on: give another split, or "
                "validate on none"
            )
        return TRAIN
    if split == evaluated:
        raise InputError(
            f"--validation-split {split}: it is evaluated, and what chooses the weights must be apart from it: give "
            "another, or --validation-fraction, which takes a share of the training's speakers"
        )
    if split == TRAIN:
        raise InputError(
            f"--validation-split {split}: it is trained on: give --validation-fraction, which takes a share of its "
            "speakers for validation alone"
        )
    return split


def training_loader(
    datasets: Sequence[Dataset],
    data: TrainingDataConfig,
    loader: LoaderConfig,
    accelerator: Accelerator,
    validation: ValidationConfig = NO_VALIDATION,
    *,
    paired: bool,
    negatives: Negatives = OTHER_VIDEO,
    targets: Sequence[str] = (),
    frames: int | None = None,
    needs: Needs = PLAIN,
) -> ClipLoader:
    """Batches of the training split, with what is stated of the targets; without the speakers to validate on.

    ``paired``: half of them with audio as ``negatives`` say, otherwise all with their own. ``frames``: how many the
    front end takes of a clip; without a window only these are decoded, None: all. ``needs``: what the network looks at.

    Raises:
        InputError: the clips of a dataset have not got it.
    """
    weights = data.weights or (1.0,) * len(datasets)
    return _loader(
        datasets,
        data,
        loader,
        accelerator,
        TRAIN,
        weights,
        training=True,
        negatives=negatives if paired else None,
        targets=targets,
        frames=frames,
        needs=needs,
        node_groups=data.node_groups,
        speakers=_share(validation, data, held_out=False),
    )


def validation_loader(
    datasets: Sequence[Dataset],
    data: TrainingDataConfig,
    loader: LoaderConfig,
    accelerator: Accelerator,
    validation: ValidationConfig,
    evaluation_split: str | None,
    *,
    paired: bool,
    negatives: Negatives = OTHER_VIDEO,
    targets: Sequence[str] = (),
    frames: int | None = None,
    needs: Needs = PLAIN,
) -> ClipLoader:
    """Batches of the clips to validate on, in their order, as of `training_loader`.

    Raises:
        InputError: see `validation_split`; or there are none.
    """
    return scoring_loader(
        datasets,
        data,
        loader,
        accelerator,
        validation_split(datasets, validation, evaluation_split),
        paired=paired,
        negatives=negatives,
        targets=targets,
        frames=frames,
        needs=needs,
        speakers=_share(validation, data, held_out=True),
    )


def _share(validation: ValidationConfig, data: DataConfig, *, held_out: bool) -> SpeakerShare | None:
    if validation.validation_fraction is None:
        return None
    return SpeakerShare(fraction=validation.validation_fraction, seed=data.seed, held_out=held_out)


def scoring_loader(
    datasets: Sequence[Dataset],
    data: DataConfig,
    loader: LoaderConfig,
    accelerator: Accelerator,
    split: str | None,
    *,
    paired: bool,
    negatives: Negatives = OTHER_VIDEO,
    targets: Sequence[str] = (),
    frames: int | None = None,
    needs: Needs = PLAIN,
    speakers: SpeakerShare | None = None,
) -> ClipLoader:
    """Batches of the split to score on: ``split``, or whichever of `TO_SCORE` the datasets have.

    ``speakers``: of those a share alone. The rest as of `training_loader`.

    Raises:
        InputError: they have none.
    """
    split = split or _split_to_score(datasets)
    return _loader(
        datasets,
        data,
        loader,
        accelerator,
        split,
        (1.0,) * len(datasets),
        training=False,
        negatives=negatives if paired else None,
        targets=targets,
        frames=frames,
        needs=needs,
        speakers=speakers,
    )


def _loader(
    datasets: Sequence[Dataset],
    data: DataConfig,
    loader: LoaderConfig,
    accelerator: Accelerator,
    split: str,
    weights: tuple[float, ...],
    *,
    training: bool,
    negatives: Negatives | None,
    targets: Sequence[str],
    frames: int | None,
    needs: Needs,
    node_groups: int = 1,
    speakers: SpeakerShare | None = None,
) -> ClipLoader:
    _require_members(datasets, needs)
    # Pairs are of pictures and sound: what is loaded without pictures is not said to be of the clip that is seen.
    if not needs.video and (negatives is not None or not needs.audio):
        raise InputError(f"no tower of the network takes frames, only {', '.join(needs.streams)}: give one that does")
    given = min(dataset.manifest.clip.frames for dataset in datasets) if data.window is None else data.window
    if frames is not None and frames > given:
        what = "clips have" if data.window is None else "--window is"
        mend = f"use --frames {given} or fewer"
        if data.window is not None:
            mend = f"use --window {frames} or more"
        elif not isinstance(data, TrainingDataConfig):  # evaluation has no --frames: the run's network is what it is
            mend = "give a dataset of clips with as many"
        raise InputError(f"the network takes {frames} frames, and {what} {given}: {mend}")
    return ClipLoader(
        dict(zip(datasets, weights, strict=True)),
        split,
        batch_size=data.batch_size,
        # Of a window the front end takes evenly spaced frames itself: they span its sound.
        frames=frames if data.window is None else data.window,
        sample="window" if data.window is not None or frames is None else "even",
        seed=data.seed,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        device=accelerator.device,
        placement=loader.placement,
        cpu_decoder=loader.cpu_decoder,
        pixels=loader.pixels,
        hw_decoder_load=loader.hw_decoder_load,
        training=training,
        video=needs.video,
        audio=needs.audio,
        members=needs.members,
        of_audio=needs.of_audio,
        negatives=negatives,
        targets=targets,
        speakers=speakers,
        threads=loader.loader_threads,
        reading_threads=loader.reading_threads,
        readers=loader.readers,
        node_groups=node_groups,
        shard_window=data.shard_window,
        cache=loader.cache,
        cache_bytes=round(loader.cache_gb * 1e9),
    )


def _require_members(datasets: Sequence[Dataset], needs: Needs) -> None:
    for dataset in datasets:
        for name in needs.members:
            if dataset.manifest.member(name) is None:
                raise InputError(
                    f"{dataset}: its clips have no {name}, which a tower takes: build it again with --member {name}"
                )


def _split_to_score(datasets: Sequence[Dataset]) -> str:
    splits = [dataset.manifest.splits for dataset in datasets]
    for name in TO_SCORE:
        if all(name in of_dataset and of_dataset[name].clips for of_dataset in splits):
            return name
    have = "; ".join(", ".join(of_dataset) for of_dataset in splits)
    mend = "give --evaluation-split, or build it with a split test"
    raise InputError(f"{', '.join(map(str, datasets))}: no split to score on, it has {have}: {mend}")

"""The loaders of a run, from its settings."""

from __future__ import annotations

from accelerate import Accelerator

from loaders import ClipLoader
from loaders.dataset.manifest import Manifest
from loaders.dataset.remote import describe
from loaders.errors import InputError
from models.training.config import DataConfig, LoaderConfig, TrainingDataConfig


def names(data: DataConfig) -> str:
    """The datasets, as messages call them."""
    return ", ".join(data.data)


def manifests(data: DataConfig, loader: LoaderConfig) -> list[Manifest]:
    """What each dataset says of itself."""
    return [describe(dataset, loader.cache) for dataset in data.data]


def training_loader(
    data: TrainingDataConfig, loader: LoaderConfig, accelerator: Accelerator, *, paired: bool
) -> ClipLoader:
    """Batches of the training split; ``paired``: half of them with another video's audio, otherwise with their own."""
    weights = data.weights or (1.0,) * len(data.data)
    return _loader(data, loader, accelerator, "train", weights, training=True, paired=paired, lanes=data.lanes)


def scoring_loader(
    data: DataConfig, loader: LoaderConfig, accelerator: Accelerator, split: str | None, *, paired: bool
) -> ClipLoader:
    """Batches of the split to score on: ``split``, or whichever the datasets have.

    Raises:
        InputError: they have none.
    """
    split = split or _split_to_score(data, loader)
    return _loader(data, loader, accelerator, split, (1.0,) * len(data.data), training=False, paired=paired)


def _loader(
    data: DataConfig,
    loader: LoaderConfig,
    accelerator: Accelerator,
    split: str,
    weights: tuple[float, ...],
    *,
    training: bool,
    paired: bool,
    lanes: int = 1,
) -> ClipLoader:
    return ClipLoader(
        dict(zip(data.data, weights, strict=True)),
        split,
        batch_size=data.batch_size,
        frames=data.window,
        seed=data.seed,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        device=accelerator.device,
        placement=loader.placement,
        cpu_decoder=loader.cpu_decoder,
        pixels=loader.pixels,
        hw_decoder_load=loader.hw_decoder_load,
        training=training,
        negatives={"other_video": 1.0} if paired else None,
        threads=loader.loader_threads,
        reading_threads=loader.reading_threads,
        lanes=lanes,
        shard_window=data.shard_window,
        cache=loader.cache,
        cache_bytes=round(loader.cache_gb * 1e9),
    )


def _split_to_score(data: DataConfig, loader: LoaderConfig) -> str:
    splits = [manifest.splits for manifest in manifests(data, loader)]
    for name in ("test", "validation"):
        if all(name in of_dataset and of_dataset[name].clips for of_dataset in splits):
            return name
    have = "; ".join(", ".join(of_dataset) for of_dataset in splits)
    raise InputError(f"{names(data)}: no split to score on, it has {have}: give --evaluation-split")

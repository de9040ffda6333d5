"""The same batches through WebDataset and plain decoders: slow and obvious.

Only what decides a batch is shared with `loaders.loader`: which examples it holds. How they are found, read and decoded
is not: samples come from WebDataset, by their keys; labels, gaze and other arrays from the samples; frames from Pillow,
each strip decoded whole; audio from `wave`, or PyAV where it is compressed.

On a CPU whole clips do not differ from the loader's, not by a bit: DALI, libjpeg-turbo alone and Pillow decode alike.
Where not all frames are taken, the first and the last row of pixels of each may: halved chroma is interpolated over the
edges between frames that are decoded together, here with all of a clip's, there with those that are taken
(`loaders.decode.cut`). With whole chroma, and of datasets without restart markers, nothing differs either.

nvJPEG on a GPU rounds in its own way: channels differ by at most 3 levels, as where luma and a chroma sample are each a
level off, which blue shows 1.77-fold; and by 1 in the mean.
"""

import io
import math
import wave
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import webdataset
from numpy.typing import NDArray
from PIL import Image

from loaders.batch import Batch
from loaders.dataset.catalog import Catalog, open_catalog
from loaders.dataset.labels import Label
from loaders.dataset.manifest import GAZE, GAZE_STATISTICS, ClipFormat, Manifest, Member
from loaders.loader import OTHER_VIDEO
from loaders.sampling.examples import Examples, Sampler
from loaders.sampling.frames import FrameChoice, Sample
from loaders.sampling.negatives import Negatives
from loaders.sampling.order import rank_positions, steps_per_epoch


def reference_batches(
    dataset: Path,
    split: str = "train",
    *,
    batch_size: int = 32,
    frames: int | None = None,
    stride: int = 1,
    sample: Sample = "window",
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    training: bool | None = None,
    negatives: Negatives | None = OTHER_VIDEO,
    members: Sequence[str] = (),
    of_audio: Sequence[str] = (),
    targets: Sequence[str] = (),
    epoch: int = 0,
) -> Iterator[Batch]:
    """The batches of one epoch, on the CPU; arguments as those of `ClipLoader`, which yields the same.

    Holds the encoded split in memory. Checks no checksums: of a damaged clip it yields what there is, or raises.
    """
    catalog = open_catalog(dataset, split, members, labels=targets)
    samples = _samples(catalog)
    keys = catalog.table(["key"])["key"].to_pylist()
    clip = catalog.manifest.clip
    training = split == "train" if training is None else training
    frames = clip.frames if frames is None else frames
    sampler = Sampler(
        catalog, seed=seed, training=training, frames=frames, stride=stride, sample=sample, negatives=negatives
    )
    global_batch = batch_size * world_size
    for step in range(steps_per_epoch(len(catalog), global_batch, drop_remainder=training)):
        examples = sampler.examples(epoch, rank_positions(step, len(catalog), global_batch, rank, world_size))
        pictures = [samples[keys[row]] for row in examples.clip]
        sounds = [samples[keys[row]] for row in examples.audio_clip]
        batch = _batch(examples, pictures, sounds, catalog, sampler.frames)
        heard = [name in of_audio for name in members]
        values, masks = _arrays([sounds if of_sound else pictures for of_sound in heard], catalog.manifest, members)
        yield replace(batch, targets=_targets(pictures, catalog.manifest, targets), members=values, masks=masks)


def _samples(catalog: Catalog) -> dict[str, dict[str, Any]]:
    """Every sample of the split by its key, as WebDataset reads and decodes it."""
    shards = [str(catalog.folder / shard.name) for shard in catalog.manifest.splits[catalog.split].shards]
    # No splitting by rank or worker: every caller sees the whole split.
    reader = webdataset.WebDataset(shards, shardshuffle=False, nodesplitter=None, workersplitter=None)
    return {sample["__key__"]: sample for sample in reader.decode()}


def _batch(
    examples: Examples,
    pictures: list[dict[str, Any]],
    sounds: list[dict[str, Any]],
    catalog: Catalog,
    choice: FrameChoice,
) -> Batch:
    clip = catalog.manifest.clip
    video = np.zeros((len(examples), choice.count, clip.size, clip.size, 3), np.uint8)
    audio = np.zeros((len(examples), round(choice.span / clip.fps * clip.sample_rate)), np.float32)
    member = catalog.manifest.member(GAZE)
    gaze = np.zeros((len(examples), *(member.shape if member else (GAZE_STATISTICS,))), np.float32)
    gaze_valid = np.zeros(len(examples), np.bool_)
    for row, (picture, sound) in enumerate(zip(pictures, sounds, strict=True)):
        video[row] = _frames(picture["filmstrip.jpg"], clip)[examples.frames[row]]
        first = int(examples.frames[row, 0]) if choice.sample == "window" else 0
        waveform = _waveform(sound, catalog.manifest.member("audio"))[round(first / clip.fps * clip.sample_rate) :]
        audio[row, : len(waveform)] = waveform[: audio.shape[1]]
        if "gaze.npy" in picture:
            gaze[row], gaze_valid[row] = picture["gaze.npy"], True
    return Batch(
        video=torch.from_numpy(video),
        audio=torch.from_numpy(audio),
        gaze=torch.from_numpy(gaze),
        gaze_valid=torch.from_numpy(gaze_valid),
        match=torch.from_numpy(examples.match.astype(np.int64)),
        clip=torch.from_numpy(examples.clip),
        audio_clip=torch.from_numpy(examples.audio_clip),
        seed=torch.from_numpy(examples.seed),
    )


def _targets(pictures: list[dict[str, Any]], manifest: Manifest, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """What the samples' descriptions say of these labels."""
    labels = [label for name in names if (label := manifest.label(name)) is not None]
    said = [picture["clip.msg"] for picture in pictures]
    return {label.name: _stated(label, [clip.get(label.name) for clip in said]) for label in labels}


def _stated(label: Label, values: list[Any]) -> torch.Tensor:
    if label.classes is None:
        return torch.tensor([math.nan if value is None else value for value in values], dtype=torch.float32)
    return torch.tensor([-1 if value is None else label.classes.index(value) for value in values], dtype=torch.int64)


def _arrays(
    samples: list[list[dict[str, Any]]], manifest: Manifest, names: Sequence[str]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Each member's arrays of its samples, and where there are any."""
    members, masks = {}, {}
    for name, of_member in zip(names, samples, strict=True):
        member = manifest.member(name)
        assert member is not None  # the catalog was opened with it
        found = [sample.get(member.suffix) for sample in of_member]
        values = np.zeros((len(found), *member.shape), np.dtype(member.dtype).newbyteorder("="))
        mask = np.zeros((len(found), *member.shape[:1]) if member.variable else len(found), np.bool_)
        for row, array in enumerate(found):
            if array is not None and member.variable:
                values[row, : len(array)], mask[row, : len(array)] = array, True
            elif array is not None:
                values[row], mask[row] = array, True
        members[member.name], masks[member.name] = torch.from_numpy(values), torch.from_numpy(mask)
    return members, masks


def _frames(jpeg: bytes, clip: ClipFormat) -> NDArray[np.uint8]:
    """(T, H, W, 3), all the clip's frames."""
    picture = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
    return picture.reshape(clip.frames, clip.size, clip.size, 3)


def _waveform(sample: dict[str, Any], member: Member | None) -> NDArray[np.float32]:
    """(samples,) in -1 … 1, all that the file holds."""
    if member is None:
        raise ValueError("the dataset's clips have no audio")
    file = io.BytesIO(sample[member.suffix])
    if member.extension == "wav":
        with wave.open(file) as sound:
            samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
    else:
        with av.open(file, "r") as container:
            samples = np.concatenate([block.to_ndarray()[0] for block in container.decode(audio=0)])
    return samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max + 1)
